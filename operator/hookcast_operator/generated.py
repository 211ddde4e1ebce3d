"""Secrets that the operator makes: the app's keys, once, and signing keys of subscriptions that name none."""

import asyncio
import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterable

import structlog
from cryptography.fernet import Fernet

from hookcast_core.signing import generate_secret
from hookcast_operator.api import Api, Raw, path_of
from hookcast_operator.bucket import Bucket
from hookcast_operator.compile import GENERATED_KEY, WantedSecret
from hookcast_operator.errors import AlreadyExists, ApiRefused, ApiUnavailable, NotFound, NotLeading
from hookcast_operator.objects import ALLOW_LABEL, GENERATED_FOR, Name, SecretObject, secret_object
from hookcast_operator.waiting import seconds_after

IN_FLIGHT = 10
RETRY_SECONDS = (2.0, 5.0, 15.0, 60.0, 120.0)
"""After the first, second, … failure of the same Secret."""
RETRY_RATE, RETRY_BURST = 5.0, 20
"""Attempts again, of all Secrets together: whatever refuses one may refuse a thousand."""
SCOPES = ("events:write", "subscriptions:write", "read", "realtime:publish", "admin")

_log = structlog.get_logger("hookcast.operator.secrets")


def app_keys() -> dict[str, str]:
    """Fresh keys of 256 random bits each, as the app's settings take them."""
    api_key = {"name": "generated", "key": f"hck_{secrets.token_urlsafe(32)}", "scopes": list(SCOPES)}
    return {
        "HOOKCAST_API_KEYS": json.dumps([api_key]),
        "HOOKCAST_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "HOOKCAST_JWT_SECRET": secrets.token_urlsafe(32),
        "HOOKCAST_INTERNAL_KEY": Fernet.generate_key().decode(),
    }


async def ensure_keys(api: Api, namespace: str, name: str, release: str, *, create: bool) -> SecretObject:
    """The Secret with the app's keys, made where there is none and it may be. NotFound otherwise."""
    path = path_of("v1", "secrets", namespace, name)
    try:
        return secret_object(await api.get(path))
    except NotFound:
        if not create:
            raise
    body = _secret(name, app_keys(), {"app.kubernetes.io/instance": release, "app.kubernetes.io/component": "keys"})
    try:
        made = secret_object(await api.create(path_of("v1", "secrets", namespace), body))
    except AlreadyExists:
        return secret_object(await api.get(path))
    _log.info("made the app's keys", secret=name)
    return made


class SecretMaker:
    """Makes the signing Secrets that compilations want; lives as long as the operator leads, `run` is its one task.

    `made` is told each Secret that is there now, `hidden` each that exists and may not be used, `failed` the UID of
    each object whose Secret could not be made so far; `problems` says why.
    """

    def __init__(
        self,
        api: Api,
        *,
        may_write: Callable[[], None],
        made: Callable[[SecretObject], None],
        hidden: Callable[[Name], None],
        failed: Callable[[str], None],
    ) -> None:
        self._api = api
        self._may_write = may_write
        self._made = made
        self._hidden = hidden
        self._failed = failed
        self._wanted: dict[Name, WantedSecret] = {}
        self._making: set[Name] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._retries = Bucket(RETRY_RATE, RETRY_BURST)
        self.problems: dict[Name, str] = {}
        """Why a Secret could not be made, in the words of whoever refused it."""

    def want(self, wanted: Iterable[WantedSecret]) -> None:
        """Takes what the newest compilation wants, all of it."""
        self._wanted = {(one.owner.namespace, one.name): one for one in wanted}
        self._wake.set()

    async def run(self) -> None:
        """Makes them until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for name in self._wanted.keys() - self._making:
                    self._making.add(name)
                    group.create_task(self._make(name), name=f"secret {'/'.join(name)}")

    async def _make(self, name: Name) -> None:
        failures = 0
        try:
            while (wanted := self._wanted.get(name)) is not None:
                async with self._slots:
                    problem = await self._try(name, wanted)
                if problem is None:
                    return
                _log.warning("signing secret not made", secret="/".join(name), problem=problem)
                self.problems[name] = problem
                self._failed(wanted.owner.uid)
                await asyncio.sleep(seconds_after(failures, RETRY_SECONDS))
                await self._retries.wait()
                failures += 1
        finally:
            self._making.discard(name)
            self.problems.pop(name, None)

    async def _try(self, name: Name, wanted: WantedSecret) -> str | None:
        """None if there is nothing more to do, else what is in the way."""
        try:
            self._may_write()
            try:
                self._made(secret_object(await self._api.create(path_of("v1", "secrets", name[0]), _body(wanted))))
            except AlreadyExists:
                found = secret_object(await self._api.get(path_of("v1", "secrets", *name)))
                if found.is_allowed:
                    self._made(found)
                else:
                    self._hidden(name)
        except (ApiUnavailable, ApiRefused, NotLeading) as error:  # such as a quota, or a namespace that is going
            return str(error)
        return None


def _body(wanted: WantedSecret) -> Raw:
    owner = wanted.owner
    body = _secret(wanted.name, {GENERATED_KEY: wanted.key or generate_secret()}, {ALLOW_LABEL: "true"})
    body["metadata"]["annotations"] = {GENERATED_FOR: owner.name}
    if not wanted.retained:
        body["metadata"]["ownerReferences"] = [
            {"apiVersion": "hookcast.dev/v1alpha1", "kind": owner.kind, "name": owner.name, "uid": owner.uid}
        ]
    return body


def _secret(name: str, data: dict[str, str], labels: dict[str, str]) -> Raw:
    ours = {"app.kubernetes.io/name": "hookcast", "app.kubernetes.io/managed-by": "hookcast-operator"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": ours | labels},
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }
