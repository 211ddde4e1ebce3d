"""What is known of the cluster: three caches, fed by watches, and set right by whole lists."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import structlog

from hookcast_operator.api import Api, path_of
from hookcast_operator.cache import Cache
from hookcast_operator.errors import ApiRefused
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

T = TypeVar("T")
N = TypeVar("N", CustomObject, SecretObject)

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
        self.unlisted: frozenset[str] = frozenset()
        """Namespaces of which objects may be there that are not known."""

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
        """Lists everything, page by page, and takes the lists whole.

        Of a namespace that may not be listed, as after it was deleted, what is known stays, if it is one of several.
        """

        async def objects(namespace: str | None) -> list[CustomObject | None]:
            return [
                _read(partial(custom_object, kind), raw)
                for kind, plural in PLURALS.items()
                for raw in await api.list(path_of(GROUP, plural, namespace))
            ]

        async def secrets(namespace: str | None) -> list[SecretObject | None]:
            labels = self.secret_labels
            query = {"fieldSelector": SECRET_FIELDS} | ({"labelSelector": labels} if labels else {})
            return [_read(secret_object, raw) for raw in await api.list(path_of("v1", "secrets", namespace), **query)]

        self.unlisted = await self._list(self.objects, objects)
        await self._list(self.secrets, secrets)
        if self._settings.allowed_namespace_selector:
            began = self.namespaces.begin_list()
            query = {"labelSelector": self._settings.allowed_namespace_selector}
            raws = await api.list(path_of("v1", "namespaces", None), **query)
            self.namespaces.listed(began, list(map(namespace_object, raws)))

    async def _list(
        self, cache: Cache[Any, N], read: Callable[[str | None], Awaitable[list[N | None]]]
    ) -> frozenset[str]:
        """Has the cache take what `read` gives of each namespace; those of which it may not."""
        began = cache.begin_list()
        found: list[N | None] = []
        refused = set()
        for namespace in self._settings.watch_namespaces or (None,):
            try:
                found += await read(namespace)
            except ApiRefused as error:
                if namespace is None:
                    raise
                refused.add(namespace)
                _log.warning("cannot list; what is known stays", namespace=namespace, problem=str(error))
        found += [one for one in cache.objects.values() if one.namespace in refused]
        cache.listed(began, [one for one in found if one is not None])
        return frozenset(refused)


def _read(parse: Callable[[Raw], T], raw: Raw) -> T | None:
    """An object, or None for one that is not as the API server makes them: it must not stop the others."""
    try:
        return parse(raw)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        _log.error("unreadable object", problem=repr(error))
        return None
