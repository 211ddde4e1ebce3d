"""`hookcast-operator`: reads its settings, takes the lease, and works until a signal comes.

Exit status 0 after a signal, 1 after a failure, 2 where a setting or the installation does not hold.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

import aiohttp
import kopf
import structlog
from pydantic import ValidationError

from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.sealing import Sealer
from hookcast_operator.api import Api, log_in, path_of, persist
from hookcast_operator.errors import ApiRefused, ApiUnavailable, NotFound, NotLeading
from hookcast_operator.generated import ensure_keys
from hookcast_operator.health import Health, serving
from hookcast_operator.lease import Lease
from hookcast_operator.logs import configure_logs
from hookcast_operator.metrics import Metrics
from hookcast_operator.objects import SecretObject
from hookcast_operator.operating import Operator
from hookcast_operator.settings import Settings
from hookcast_operator.status import GROUP, PLURALS

FAILED, USAGE = 1, 2
INTERNAL_KEY = "HOOKCAST_INTERNAL_KEY"
WAIT_SECONDS = 2.0
RBAC = "rbac.authorization.k8s.io/v1"

_log = structlog.get_logger("hookcast.operator")


def main() -> None:
    """Runs the operator and exits with its status."""
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"][:1]).upper()
        print(f"hookcast-operator: HOOKCAST_{name}: {first['msg']}", file=sys.stderr)  # noqa: T201
        sys.exit(USAGE)
    configure_logs(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings))
    except Exception as error:  # noqa: BLE001  the process's last words
        sys.exit(_last_words(error))


def _last_words(error: Exception) -> int:
    """Says why the process ends, and gives its exit status."""
    first = error
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    match first:
        case InvalidInput() | kopf.LoginError():
            _log.critical("cannot work", problem=str(first))
            return USAGE
        case NotLeading():
            _log.critical("ends: another operator leads", problem=str(first))
        case _:
            _log.critical("the operator failed", exc_info=error)
    return FAILED


class _Stopped(Exception):  # noqa: N818  it is what a signal asks for
    """A signal came."""


async def run(settings: Settings) -> None:
    """Works until a signal comes. Raises InvalidInput where the installation does not hold, NotLeading if overtaken.

    All in an ExceptionGroup.
    """
    try:
        EgressPolicy(settings.egress_allow)
    except ValueError as error:
        raise InvalidInput(Reason.INVALID_SETTING, "HOOKCAST_EGRESS_ALLOW", str(error)) from None
    stop = asyncio.Event()
    health, metrics = Health(), Metrics()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(health, metrics.registry, settings.admin_host, settings.admin_port))
        api = await stack.enter_async_context(Api(log_in(), metrics.request))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        lease = Lease(api, name=f"{settings.release}-operator", namespace=settings.namespace, me=settings.pod_name)

        def obey_signals() -> None:
            # kopf puts its own in their place when it starts; it is ended by being cancelled, as everything else.
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)

        obey_signals()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_until(stop), name="signals")
                group.create_task(_work(settings, api, session, lease, health, metrics, obey_signals), name="operator")
        except* _Stopped:
            _log.info("stopped")
        finally:
            await lease.release()


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _Stopped


async def _work(
    settings: Settings,
    api: Api,
    session: aiohttp.ClientSession,
    lease: Lease,
    health: Health,
    metrics: Metrics,
    started: Callable[[], None],
) -> None:
    keys = await persist(
        lambda: ensure_keys(
            api, settings.namespace, settings.keys_secret, settings.release, create=settings.create_keys
        )
    )
    sealer = _sealer(settings, keys)
    await persist(lambda: check_claim(settings, api))
    await _wait_for_definitions(api)
    async with asyncio.TaskGroup() as group:
        group.create_task(lease.run(), name="lease")
        await lease.acquired.wait()
        await Operator(settings, api, session, lease, sealer, health, metrics).run(started)


def _sealer(settings: Settings, keys: SecretObject) -> Sealer:
    text = keys.data.get(INTERNAL_KEY, b"").decode(errors="replace")
    try:
        return Sealer([part.strip() for part in text.split(",") if part.strip()])
    except (ValueError, IndexError):
        detail = f"the Secret {settings.keys_secret} needs {INTERNAL_KEY}: Fernet keys, comma-separated, newest first"
        raise InvalidInput(Reason.INVALID_SETTING, settings.keys_secret, detail) from None


async def check_claim(settings: Settings, api: Api) -> None:
    """Whether this release is the one that serves its dispatcher. InvalidInput names both where it is another.

    The claim is a cluster-scoped object that the chart makes, whose role cannot be changed, only deleted: of two
    releases that name the same dispatcher, the second cannot be installed, or finds here that it is not its own.
    """
    name = f"hookcast-dispatcher-{settings.dispatcher_name}"
    mine = f"release {settings.release} in namespace {settings.namespace}"
    try:
        claim = await api.get(path_of(RBAC, "clusterrolebindings", None, name))
    except NotFound:
        detail = (
            f"there is no ClusterRoleBinding {name}, which claims the dispatcher for {mine}; install the chart anew"
        )
        raise InvalidInput(Reason.INVALID_SETTING, "dispatcher.name", detail) from None
    subjects = [(found.get("namespace"), found.get("name")) for found in claim.get("subjects") or ()]
    if (settings.namespace, f"{settings.release}-operator") not in subjects:
        other = (claim["metadata"].get("labels") or {}).get("app.kubernetes.io/instance", "another")
        where = subjects[0][0] if subjects else "unknown"
        detail = (
            f"{settings.dispatcher_name} is served by release {other} in namespace {where}, "
            f"so that {mine} cannot serve it; give this one another dispatcher.name"
        )
        raise InvalidInput(Reason.INVALID_SETTING, "dispatcher.name", detail)


async def _wait_for_definitions(api: Api) -> None:
    """Until both kinds are served: kopf looks for them once, at its start."""
    while True:
        try:
            served = await api.get(f"/apis/{GROUP}")
            missing = set(PLURALS.values()) - {found["name"] for found in served["resources"]}
            if not missing:
                return
            problem = f"{', '.join(sorted(missing))} not served"
        except (ApiRefused, ApiUnavailable) as error:
            problem = str(error)
        _log.warning("waiting for the custom resource definitions", problem=problem)
        await asyncio.sleep(WAIT_SECONDS)


if __name__ == "__main__":
    main()
