"""kopf's side: which streams are watched, and that each event goes to what is observed. Nothing is decided here."""

import asyncio
from collections.abc import Callable
from typing import Any

import kopf
from kopf._core.engines import peering

from hookcast_core.documents import GROUP, VERSION
from hookcast_operator.api import CONNECT_SECONDS, PAGE, REQUEST_SECONDS, Api
from hookcast_operator.observed import SECRET_FIELDS, Observed
from hookcast_operator.settings import Settings

SERVER_SECONDS = 300
INACTIVITY_SECONDS = 70.0
"""A stream is begun anew after so long without an event or a bookmark, which come every minute."""
BACKOFFS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Before a request of a stream is given up; the stream then begins anew. kopf's own reach 21 s."""


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps nothing and reads nothing: what anyone writes into kopf's annotations would have it drop the object."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        pass

    def store(self, **_: Any) -> None:
        pass


async def watch(settings: Settings, api: Api, observed: Observed, started: Callable[[], None]) -> None:
    """Feeds `observed` until cancelled; kopf's ending by itself is a failure. `started` is called when it runs."""
    ready = asyncio.Event()
    telling = asyncio.create_task(_call(started, ready), name="kopf's start")
    try:
        await kopf.operator(
            registry=_registry(settings, api, observed),
            settings=_settings(settings, observed),
            identity=peering.Identity(settings.pod_name),
            standalone=True,
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
            ready_flag=ready,
        )
        raise RuntimeError("kopf ended by itself")
    finally:
        telling.cancel()


async def _call(started: Callable[[], None], ready: asyncio.Event) -> None:
    await ready.wait()
    started()


def _registry(settings: Settings, api: Api, observed: Observed) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return api.for_kopf()

    @kopf.on.event(GROUP, VERSION, "webhooksubscriptions", registry=registry)
    async def subscription(event: kopf.RawEvent, **_: Any) -> None:
        observed.saw_object("WebhookSubscription", event)

    @kopf.on.event(GROUP, VERSION, "webhooksources", registry=registry)
    async def source(event: kopf.RawEvent, **_: Any) -> None:
        observed.saw_object("WebhookSource", event)

    @kopf.on.event("", "v1", "secrets", registry=registry)
    async def secret(event: kopf.RawEvent, **_: Any) -> None:
        observed.saw_secret(event)

    if settings.allowed_namespace_selector:

        @kopf.on.event("", "v1", "namespaces", registry=registry)
        async def namespace(event: kopf.RawEvent, **_: Any) -> None:
            observed.saw_namespace(event)

    return registry


def _settings(settings: Settings, observed: Observed) -> kopf.OperatorSettings:
    found = kopf.OperatorSettings()
    found.watching.server_timeout = SERVER_SECONDS
    found.watching.client_timeout = SERVER_SECONDS + 10
    found.watching.inactivity_timeout = INACTIVITY_SECONDS
    found.watching.chunk_size = PAGE
    found.watching.field_selectors["", "v1", "secrets"] = SECRET_FIELDS
    if observed.secret_labels:
        found.watching.label_selectors["", "v1", "secrets"] = observed.secret_labels
    if settings.allowed_namespace_selector:
        found.watching.label_selectors["", "v1", "namespaces"] = settings.allowed_namespace_selector
    found.networking.error_backoffs = BACKOFFS
    found.networking.request_timeout = REQUEST_SECONDS
    found.networking.connect_timeout = CONNECT_SECONDS
    found.persistence.diffbase_storage = _NoDiffs()
    found.scanning.disabled = True
    found.posting.enabled = False
    return found
