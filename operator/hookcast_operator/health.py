"""`/health/live`, `/health/ready` and `/metrics` on the admin port."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], str | None]
"""Why something fails, or None."""


class Health:
    """The checks by name; whoever knows replaces one. Before that it fails."""

    def __init__(self) -> None:
        self.live: dict[str, Check] = {}
        self.ready: dict[str, Check] = {"start": lambda: "starting"}


@asynccontextmanager
async def serving(health: Health, registry: CollectorRegistry, host: str, port: int) -> AsyncIterator[int]:
    """Serves while it is entered; gives the port."""

    def answer(checks: dict[str, Check]) -> web.Response:
        failing = {name: reason for name, check in checks.items() if (reason := check()) is not None}
        if not failing:
            return web.json_response({"status": "ok"})
        return web.json_response({"status": "failing", "failing": failing}, status=503)

    async def live(_: web.Request) -> web.Response:
        return answer(health.live)

    async def ready(_: web.Request) -> web.Response:
        return answer(health.live | health.ready)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
