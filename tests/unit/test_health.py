"""Liveness and readiness."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from hookcast_app.health import Health, health_router
from hookcast_app.health.service import BEAT_SECONDS


class Clock:
    """Monotonic seconds, moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now


async def ask(health: Health, path: str) -> httpx.Response:
    """One request, in process."""
    app = FastAPI()
    app.include_router(health_router(health))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_ready_means_that_no_check_fails() -> None:
    """200; a second check of the same name replaces the first."""
    health = Health()
    health.register("redis", lambda: "away")
    health.register("redis", lambda: None)

    answer = await ask(health, "/health/ready")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    assert answer.headers["cache-control"] == "no-store"


async def test_every_failing_check_is_told_with_its_reason() -> None:
    """503, so that whoever looks sees all that is wrong at once."""
    health = Health()
    health.register("redis", lambda: "cannot be reached")
    health.register("configuration", lambda: None)
    health.register("dispatcher", lambda: "holds no lease")
    health.turn_unready("draining")

    answer = await ask(health, "/health/ready")

    assert answer.status_code == 503
    assert answer.json()["failing"] == {
        "process": "draining",
        "redis": "cannot be reached",
        "dispatcher": "holds no lease",
    }
    assert (await ask(health, "/health/live")).status_code == 200


async def test_a_check_that_breaks_is_a_failing_one() -> None:
    """It is logged, and told without details."""
    health = Health()
    health.register("odd", lambda: str(1 // 0))

    with capture_logs() as logs:
        answer = await ask(health, "/health/ready")

    assert answer.json()["failing"] == {"odd": "the check itself failed: ZeroDivisionError"}
    assert logs[0]["check"] == "odd"


async def test_a_loop_that_does_not_turn_is_not_live() -> None:
    """Ten seconds after the last beat; before the first one it is starting, and live."""
    clock = Clock()
    health = Health(clock)
    assert health.live() is None
    beating = asyncio.create_task(health.run())
    await asyncio.sleep(0)
    beating.cancel()

    clock.now += 10
    assert (await ask(health, "/health/live")).status_code == 200
    clock.now += 1
    answer = await ask(health, "/health/live")

    assert answer.status_code == 503
    assert answer.json()["failing"] == {"loop": "the event loop has not turned for 11 s"}


async def test_the_heartbeat_tells_how_late_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lag is what a timer waited beyond its time."""
    clock = Clock()
    lags: list[float] = []

    async def late(seconds: float) -> None:
        if lags:
            raise asyncio.CancelledError
        clock.now += seconds + 0.25

    monkeypatch.setattr("hookcast_app.health.service.asyncio.sleep", late)

    with pytest.raises(asyncio.CancelledError):
        await Health(clock).run(lags.append)

    assert lags == [0.25]
    assert BEAT_SECONDS == 1
