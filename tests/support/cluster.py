"""An installation without Kubernetes: the API server's stand-in, real operator processes, real servers as its pods."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import coverage
import httpx

from tests.support.app import eventually
from tests.support.kubernetes import ApiServer, running_api_server
from tests.support.kubernetes_store import Raw
from tests.support.ports import free_port
from tests.support.serving import Serving, serving

ROOT = Path(__file__).parents[2]
RELEASE, NAMESPACE = "hookcast", "system"
CLAIM = {
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "hookcast-dispatcher-hookcast", "labels": {"app.kubernetes.io/instance": RELEASE}},
    "subjects": [{"kind": "ServiceAccount", "name": f"{RELEASE}-operator", "namespace": NAMESPACE}],
}


def _measured() -> list[str]:
    """What makes an interpreter tell the coverage of a run of tests what it ran, if that is measured."""
    if coverage.Coverage.current() is None:
        return []
    return ["-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / '.coverage'}"]


class OperatorProcess:
    """One operator; it writes its log at the level debug. `patches` are constants of its modules, to shorten waits."""

    def __init__(self, cluster: "Cluster", name: str, patches: dict[str, float], settings: dict[str, str]) -> None:
        self.name = name
        self.log = cluster.directory / f"{name}.log"
        self.port = free_port()
        self._settings = {
            "RELEASE": RELEASE,
            "NAMESPACE": NAMESPACE,
            "POD_NAME": name,
            "KEYS_SECRET": f"{RELEASE}-keys",
            "EGRESS_ALLOW": "127.0.0.0/8",
            "GENERATE_SECRETS_IN": "shop",
            "ADMIN_HOST": "127.0.0.1",
            "ADMIN_PORT": str(self.port),
            "LOG_LEVEL": "debug",
            **settings,
        }
        self._kubeconfig = cluster.kubeconfig
        self._patches = patches
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that was started last."""
        assert self._process is not None
        return self._process

    def start(self) -> "OperatorProcess":
        """Starts it; does not wait for it."""
        environment = {f"HOOKCAST_{name}": value for name, value in self._settings.items()}
        environment["KUBECONFIG"] = str(self._kubeconfig)
        command = [sys.executable, *_measured(), "-m", "hookcast_operator.main"]
        if self._patches:
            lines = [f"import hookcast_operator.{name.rpartition('.')[0]} as m" for name in self._patches]
            sets = [f"m.{name.rpartition('.')[2]} = {value}" for name, value in self._patches.items()]
            pairs = [line for pair in zip(lines, sets, strict=True) for line in pair]
            command[1:] = ["-c", "\n".join((*pairs, "from hookcast_operator.main import main", "main()"))]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log)
        return self

    async def health(self, kind: str = "ready") -> dict[str, str]:
        """What fails, by name; "port" before it listens."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10) as client:
            try:
                answer = await client.get(f"/health/{kind}")
            except httpx.TransportError:
                return {"port": "closed"}
        failing: dict[str, str] = answer.json().get("failing", {})
        return failing

    async def metrics(self) -> str:
        """All of them."""
        async with httpx.AsyncClient(timeout=10) as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/metrics")).text

    async def ready(self, within: float = 30) -> None:
        """Waits until it leads and has published."""

        async def is_ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-4_000:]
            return not await self.health()

        await eventually(is_ready, within)

    async def ended(self, within: float = 20) -> int:
        """Waits until it ends; its exit status."""
        await eventually(lambda: self.process.poll() is not None, within)
        return self.process.returncode

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, also when it is stopped."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Cluster:
    """Lives as long as a test, or a file of them; ends whatever it started."""

    def __init__(self, directory: Path, api: ApiServer, stack: ExitStack) -> None:
        self.directory = directory
        self.api = api
        self.kubeconfig = api.kubeconfig(directory / "kubeconfig")
        self._stack = stack
        api.apply(CLAIM)

    def operator(self, name: str = "operator-0", *, patches: dict[str, float] | None = None, **settings: str) -> Any:
        """An operator, not started yet."""
        operator = OperatorProcess(self, name, patches or {}, settings)
        self._stack.callback(operator.kill)
        return operator

    async def pod(self, name: str = "app-0", **settings: str) -> Serving:
        """A server that takes its configuration from the operator, with the key that this made; not started yet."""
        keys = {"kind": "Secret", "metadata": {"name": f"{RELEASE}-keys", "namespace": NAMESPACE}}
        await eventually(lambda: self.api.get(keys) is not None, 30)
        found = self.api.get(keys)
        assert found is not None
        directory = self.directory / name
        (directory / "mount").mkdir(parents=True)
        values = {
            "CONFIGURATION_DIR": str(directory / "mount"),
            "INTERNAL_KEY": b64decode(found["data"]["HOOKCAST_INTERNAL_KEY"]).decode(),
            **settings,
        }
        server = self._stack.enter_context(serving(directory, **values))
        self.slice(name, server.admin_port)
        return server

    def slice(self, name: str, port: int, *, uid: str | None = None, **conditions: bool) -> None:
        """Says that there is a pod whose admin port is this one."""
        target = {"kind": "Pod", "name": name, "uid": uid or f"uid-{name}"}
        self.api.apply(
            {
                "kind": "EndpointSlice",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": {"kubernetes.io/service-name": f"{RELEASE}-admin"},
                },
                "ports": [{"name": "admin", "port": port}],
                "endpoints": [
                    {"addresses": ["127.0.0.1"], "conditions": {"ready": True, **conditions}, "targetRef": target}
                ],
            }
        )

    def no_slice(self, name: str) -> None:
        """Says that a pod is gone."""
        self.api.delete({"kind": "EndpointSlice", "metadata": {"name": name, "namespace": NAMESPACE}})

    def conditions(self, raw: Raw) -> dict[str, Raw]:
        """Of the object as it is now, those of its newest generation."""
        found = self.api.get(raw)
        if found is None:
            return {}
        return {
            one["type"]: one
            for one in found.get("status", {}).get("conditions", ())
            if one["observedGeneration"] == found["metadata"]["generation"]
        }

    async def says(self, raw: Raw, name: str, reason: str, *, status: str | None = None, within: float = 20) -> Raw:
        """Waits until a condition has that reason; the condition."""

        def has_it() -> bool:
            found = self.conditions(raw).get(name, {})
            return found.get("reason") == reason and status in {None, found["status"]}

        try:
            await eventually(has_it, within)
        except TimeoutError:
            raise AssertionError(f"not {name} {reason}: {self.api.get(raw)}") from None
        return self.conditions(raw)[name]

    async def ready(self, raw: Raw, within: float = 20) -> None:
        """Waits until the object is ready."""
        await self.says(raw, "Ready", "Ready", within=within)

    async def quiet(self, seconds: float = 1.0, within: float = 20) -> None:
        """Waits until nothing was written for a while; leases apart."""
        deadline = time.monotonic() + within
        while True:
            before = len(self.writes())
            await asyncio.sleep(seconds)
            if len(self.writes()) == before:
                return
            assert time.monotonic() < deadline, self.writes()[-20:]

    def writes(self, since: int = 0) -> list[str]:
        """What was written, leases apart."""
        return [
            f"{call.verb} {call.path} {call.code}"
            for call in self.api.calls[since:]
            if call.verb not in {"GET", "WATCH"} and "/leases" not in call.path
        ]


@contextmanager
def running_cluster(directory: Path, prepare: Callable[[ApiServer], None] = lambda _: None) -> Iterator[Cluster]:
    """An installation without an operator and without pods so far."""
    with running_api_server() as api, ExitStack() as stack:
        prepare(api)
        yield Cluster(directory, api, stack)


async def publish(server: Serving, kind: str = "order.created", **event: Any) -> int:
    """Publishes an event; how many subscriptions matched."""
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": server.api_key}, timeout=20) as client:
        answer = await client.post("/api/v1/events", json={"type": kind, **event})
    assert answer.status_code == 202, answer.text
    matched: int = answer.json()["matched"]
    return matched
