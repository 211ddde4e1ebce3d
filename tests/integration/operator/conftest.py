"""An operator in the test's own loop, with a pod that is made up: for what needs no process of its own."""

import asyncio
import threading
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet

from hookcast_operator import handlers, operating, push
from hookcast_operator.main import run
from hookcast_operator.settings import Settings
from tests.support.app import eventually
from tests.support.cluster import NAMESPACE, RELEASE, Cluster, OperatorProcess, running_cluster
from tests.support.fake_pod import FakePod, running_pod
from tests.support.kinds import Raw, secret, subscription
from tests.support.ports import free_port

LEASE = {"kind": "Lease", "metadata": {"name": f"{RELEASE}-operator", "namespace": NAMESPACE}}


class Inside:
    """The operator of `run`, in a thread: at its end kopf waits for every task of its loop that is younger than it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(run(settings))
        self._thread = threading.Thread(target=self._work, name="operator")
        self._thread.start()

    @property
    def url(self) -> str:
        """Of its admin port."""
        return f"http://127.0.0.1:{self.settings.admin_port}"

    @property
    def runs(self) -> bool:
        """Whether it has not ended; `error` says why it did."""
        return self._thread.is_alive()

    async def is_ready(self) -> bool:
        """Whether it leads and has published."""
        assert self.runs, self.error
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{self.url}/health/ready")).is_success
            except httpx.TransportError:
                return False

    def stop(self) -> None:
        """Cancels it, and waits until it has ended."""
        if self.runs:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self.runs, "the operator did not end"
        self._loop.close()

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except BaseException as error:  # noqa: BLE001  the test's to judge
            self.error = error
        self._loop.run_until_complete(self._loop.shutdown_default_executor())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An installation with its keys and the Secret `signing`."""
    with running_cluster(tmp_path) as running:
        key = b64encode(Fernet.generate_key()).decode()
        keys = {"metadata": {"name": f"{RELEASE}-keys", "namespace": NAMESPACE}, "data": {"HOOKCAST_INTERNAL_KEY": key}}
        running.api.apply(secret() | keys)
        running.api.apply(secret())
        yield running


@pytest.fixture
async def pod(cluster: Cluster) -> AsyncIterator[FakePod]:
    """The one pod, which takes everything."""
    async with running_pod() as running:
        give_key(cluster, running)
        cluster.slice("app-0", running.port)
        yield running


def give_key(cluster: Cluster, pod: FakePod) -> None:
    """Lets a pod read what it is given."""
    found = cluster.api.get({"kind": "Secret", "metadata": {"name": f"{RELEASE}-keys", "namespace": NAMESPACE}})
    assert found is not None
    pod.key = b64decode(found["data"]["HOOKCAST_INTERNAL_KEY"]).decode()


@pytest.fixture
def more() -> dict[str, Any]:
    """Settings of the operator inside; a test sets them by parametrize."""
    return {}


@pytest.fixture
def in_this_process(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Lets operators run inside: they find the cluster. Signals are the main thread's, to which no test sends one."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda *_: None)
    return monkeypatch


@asynccontextmanager
async def leading(**settings: Any) -> AsyncIterator[Inside]:
    """An operator inside that leads and has published."""
    operator = Inside(
        Settings(
            release=RELEASE,
            namespace=NAMESPACE,
            pod_name="operator-0",
            keys_secret=f"{RELEASE}-keys",
            admin_host="127.0.0.1",
            admin_port=free_port(),
            **{"generate_secrets_in": ("shop",), **settings},
        )
    )
    try:
        await eventually(operator.is_ready, 30)
        yield operator
        assert operator.runs, operator.error
    finally:
        operator.stop()


@pytest.fixture
async def inside(in_this_process: pytest.MonkeyPatch, pod: FakePod, more: dict[str, Any]) -> AsyncIterator[Inside]:
    """One that lists often, and gives up a silent stream soon; the pod has what it published."""
    in_this_process.setattr(operating, "RESYNC_SECONDS", 1.0)
    in_this_process.setattr(push, "ASK_SECONDS", 0.3)
    in_this_process.setattr(handlers, "INACTIVITY_SECONDS", 3.0)
    async with leading(**more) as operator:
        await eventually(lambda: pod.document)
        yield operator


async def applied(cluster: Cluster, name: str = "orders", **spec: Any) -> Raw:
    """A subscription that is ready."""
    raw = subscription(name, **spec)
    cluster.api.apply(raw)
    await cluster.ready(raw)
    return raw


def carries_suspended(pod: FakePod) -> bool:
    """Whether the subscription of a pod is suspended."""
    return pod.document is not None and b'"suspend":true' in pod.document.to_bytes()


def holder(cluster: Cluster) -> str:
    """Which operator leads, or nothing."""
    found = cluster.api.get(LEASE)
    return found["spec"]["holderIdentity"] if found else ""


async def is_alive(operator: OperatorProcess) -> bool:
    """Whether its liveness finds nothing."""
    return await operator.health("live") == {}
