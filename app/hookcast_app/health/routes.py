"""`/health/live` and `/health/ready`, for kubelet and whoever looks."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from hookcast_app.health.service import Health

_NO_STORE = {"cache-control": "no-store"}


def health_router(health: Health) -> APIRouter:
    """Both routes; the same router may be included in the main and the admin app."""
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.head("/live", include_in_schema=False)
    @routes.get("/live", summary="Whether the process should be left running")
    async def live() -> JSONResponse:
        """200, or 503 if the event loop has not turned within the last 10 s."""
        reason = health.live()
        return _answer({} if reason is None else {"loop": reason})

    @routes.head("/ready", include_in_schema=False)
    @routes.get("/ready", summary="Whether the process may get traffic")
    async def ready() -> JSONResponse:
        """200, or 503 with each failing check and its reason."""
        return _answer(health.ready())

    return routes


def _answer(failing: dict[str, str]) -> JSONResponse:
    if failing:
        return JSONResponse({"status": "failing", "failing": failing}, 503, headers=_NO_STORE)
    return JSONResponse({"status": "ok"}, headers=_NO_STORE)
