"""`hookcast` with a small app in the place of the real one: everything about the process, nothing about events.

Run as a script with the arguments of `hookcast`. What the app does on request is said by its routes.
"""

import asyncio
import importlib.util
import os
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, WebSocket
from starlette.types import ASGIApp

from hookcast_app import cli, problems
from hookcast_app.health import Health, health_router
from hookcast_app.observability import CorrelationMiddleware, Metrics
from hookcast_app.redis import EmbeddedRedis, create_redis, first_contact
from hookcast_app.settings import Settings

log = structlog.get_logger("standin")


class Standin:
    """Has the shape that the server expects; its lifespan owns an embedded Redis if the settings ask for one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.failed: BaseException | None = None
        self.main: ASGIApp = CorrelationMiddleware(self._main(), metrics=self.metrics)
        self.admin: ASGIApp = CorrelationMiddleware(self._admin())

    async def drain(self, seconds: float) -> None:
        """As long as it was told, with STANDIN_DRAIN=hang for ever, or with STANDIN_DRAIN=fail not at all."""
        log.info("draining", seconds=seconds)
        how = os.environ.get("STANDIN_DRAIN", "")
        if how == "fail":
            raise RuntimeError("drain is broken")
        if how == "hang":
            await asyncio.sleep(3600)

    def _main(self) -> FastAPI:
        app = FastAPI(lifespan=self._lifespan)
        problems.install(app)
        app.include_router(health_router(self.health))

        @app.get("/which")
        async def which() -> str:
            return "main"

        @app.get("/slow/{seconds}")
        async def slow(seconds: float) -> str:
            log.info("slow began")
            await asyncio.sleep(seconds)
            return "done"

        @app.post("/die")
        async def die() -> None:
            self.failed = RuntimeError("a task of the standin died")

        @app.get("/break")
        async def break_() -> None:
            raise RuntimeError("with whsec_c2VjcmV0c2VjcmV0 inside")

        @app.websocket("/echo")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                await websocket.send_text(text)

        return app

    def _admin(self) -> FastAPI:
        app = FastAPI()
        app.include_router(health_router(self.health))
        app.include_router(self.metrics.router())

        @app.get("/which")
        async def which() -> str:
            return "admin"

        return app

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        match os.environ.get("STANDIN_START", ""):
            case "hang":
                await self._hang()
            case "fail":
                raise RuntimeError("start is broken")
        url = self.settings.redis_url.get_secret_value()
        embedded = EmbeddedRedis(self.settings.data_dir) if url == "embedded" else None
        tasks = [asyncio.create_task(self.health.run())]
        try:
            if embedded:
                redis = create_redis(await embedded.start())
                tasks.append(asyncio.create_task(embedded.run()))
                state = await first_contact(redis)
                log.info("redis", pid=embedded.pid, instance=state.instance)
                await redis.aclose()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if embedded:
                await embedded.stop()
            log.info("closed")
            if os.environ.get("STANDIN_END") == "fail":
                raise RuntimeError("the end is broken")

    async def _hang(self) -> None:
        log.info("hanging")
        try:
            await asyncio.sleep(3600)
        finally:
            log.info("gave up")


if __name__ == "__main__":
    module = types.ModuleType("hookcast_app.main")
    module.create_app = Standin  # type: ignore[attr-defined]
    sys.modules["hookcast_app.main"] = module
    if os.environ.get("STANDIN_NO_REDIS"):
        importlib.util.find_spec = lambda *_: None
        os.environ["PATH"] = "/nowhere"
    sys.exit(cli.run(sys.argv[1:]))
