"""What is known of the cluster: three caches, fed by watches, and set right by whole lists."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from hookcast_operator.api import Api, path_of
from hookcast_operator.cache import Cache
from hookcast_operator.objects import (
    ALLOW_LABEL,
    CustomObject,
    Kind,
    Name,
    NamespaceObject,
    Raw,
    SecretObject,
    custom_object,
    namespace_object,
    secret_object,
)
from hookcast_operator.settings import Settings
from hookcast_operator.status import GROUP, PLURALS

SECRET_FIELDS = "type!=helm.sh/release.v1"  # noqa: S105  a selector
"""Helm keeps whole releases in Secrets, a megabyte each."""

_log = structlog.get_logger("hookcast.operator.observed")


class Observed:
    """Lives as long as the operator leads. The callbacks are told of what matters to a configuration."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_object: Callable[[str], None],
        on_secret: Callable[[Name], None],
        on_namespace: Callable[[str], None],
        on_status: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._on_status = on_status
        self.objects: Cache[str, CustomObject] = Cache(on_object)
        self.secrets: Cache[Name, SecretObject] = Cache(on_secret)
        self.namespaces: Cache[str, NamespaceObject] = Cache(on_namespace)

    @property
    def secret_labels(self) -> str:
        """The label selector of Secrets that are looked at; empty for all."""
        return "" if self._settings.takes_every_secret else f"{ALLOW_LABEL}=true"

    def namespace_is_allowed(self, namespace: str) -> bool:
        """Whether objects of that namespace are taken."""
        settings = self._settings
        if not settings.allowed_namespaces and not settings.allowed_namespace_selector:
            return True
        return namespace in settings.allowed_namespaces or namespace in self.namespaces.objects

    def knows(self, plural: str, event: Mapping[str, Any]) -> bool:
        """Whether a watch's event tells of an object in a version that is known, or of an older one."""
        if plural not in PLURALS.values() or event.get("type") not in {"ADDED", "MODIFIED"}:
            return False
        found = _read(lambda raw: (raw["metadata"]["uid"], int(raw["metadata"]["resourceVersion"])), event["object"])
        known = self.objects.objects.get(found[0]) if found else None
        return found is not None and known is not None and known.version >= found[1]

    def saw_object(self, kind: Kind, event: Mapping[str, Any]) -> None:
        """A watch told of a subscription or source."""
        found = _read(partial(custom_object, kind), event["object"])
        if found is None:
            return
        if event["type"] == "DELETED":
            self.objects.gone(found)
            return
        before = self.objects.objects.get(found.key)
        self.objects.saw(found)
        if before is not None and before.status != found.status:
            self._on_status(found.key)  # perhaps not by us

    def saw_secret(self, event: Mapping[str, Any]) -> None:
        """A watch told of a Secret."""
        found = _read(secret_object, event["object"])
        if found is not None:
            self.secrets.gone(found) if event["type"] == "DELETED" else self.secrets.saw(found)

    def saw_namespace(self, event: Mapping[str, Any]) -> None:
        """A watch told of a namespace that the selector selects, or does no more."""
        found = namespace_object(event["object"])
        self.namespaces.gone(found) if event["type"] == "DELETED" else self.namespaces.saw(found)

    async def list_all(self, api: Api) -> None:
        """Lists everything, page by page, and takes the lists whole."""
        began = self.objects.begin_list()
        objects = [
            _read(partial(custom_object, kind), raw)
            for kind, plural in PLURALS.items()
            for raw in await self._list(api, GROUP, plural)
        ]
        self.objects.listed(began, [found for found in objects if found is not None])
        began = self.secrets.begin_list()
        query = {"fieldSelector": SECRET_FIELDS} | ({"labelSelector": labels} if (labels := self.secret_labels) else {})
        secrets = [_read(secret_object, raw) for raw in await self._list(api, "v1", "secrets", query)]
        self.secrets.listed(began, [found for found in secrets if found is not None])
        if self._settings.allowed_namespace_selector:
            began = self.namespaces.begin_list()
            query = {"labelSelector": self._settings.allowed_namespace_selector}
            raws = await api.list(path_of("v1", "namespaces", None), **query)
            self.namespaces.listed(began, list(map(namespace_object, raws)))

    async def _list(self, api: Api, group: str, plural: str, query: Mapping[str, str] | None = None) -> Sequence[Raw]:
        found: list[Raw] = []
        for namespace in self._scopes():
            found += await api.list(path_of(group, plural, namespace), **(query or {}))
        return found

    def _scopes(self) -> Iterator[str | None]:
        yield from self._settings.watch_namespaces or (None,)


T = TypeVar("T")


def _read(parse: Callable[[Raw], T], raw: Raw) -> T | None:
    """An object, or None for one that is not as the API server makes them: it must not stop the others."""
    try:
        return parse(raw)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        _log.error("unreadable object", problem=repr(error))
        return None
