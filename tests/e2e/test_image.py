"""The container image, built and run by a real engine: what `docker run` with nothing else promises.

Needs a container engine; says so and skips without one.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
MAX_BYTES = 100_000_000
READY_SECONDS = 3.0
STOP_SECONDS = 10.0
PATIENCE = 30.0


def docker(*arguments: str, check: bool = True) -> str:
    """What docker prints, both streams; fails with it."""
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stdout}"
    return done.stdout.strip()


def engine_is_missing() -> str:
    """Why no image can be built here, or nothing."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no container engine answers: {done.stderr.strip()}"


pytestmark = [
    pytest.mark.skipif(bool(engine_is_missing()), reason=engine_is_missing()),
    # The first build downloads every dependency.
    pytest.mark.timeout(900),
]


class Container:
    """A running container; `url` is its main port on this machine's loopback."""

    def __init__(self, name: str, began: float) -> None:
        self.name = name
        self._began = began
        self.url = f"http://{docker('port', name, '8000/tcp').splitlines()[0]}"

    def ready(self) -> float:
        """Seconds from `docker run` until it is ready."""
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)
        return time.monotonic() - self._began

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def key(self) -> str:
        """The API key that it made."""
        keys: dict[str, str] = json.loads(docker("exec", self.name, "cat", "/var/lib/hookcast/keys.json"))
        return keys["api_key"]

    def publish(self) -> str:
        """Publishes an event and returns its id."""
        event = {"type": "order.created", "data": {"id": 1}}
        answer = httpx.post(f"{self.url}/api/v1/events", json=event, headers={"X-API-Key": self.key()})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def logs(self) -> str:
        """What it said."""
        return docker("logs", self.name)

    def stop(self) -> tuple[int, float]:
        """Exit status, and seconds that `docker stop` took."""
        began = time.monotonic()
        docker("stop", self.name)
        seconds = time.monotonic() - began
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.name)), seconds


@contextmanager
def running(image: str, volume: str | None, *options: str) -> Iterator[Container]:
    """`docker run`; the container is removed at the end."""
    name = f"hookcast-test-{os.getpid()}-{time.monotonic_ns()}"
    mount = ["--volume", f"{volume}:/var/lib/hookcast"] if volume else []
    began = time.monotonic()
    docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::8000", *mount, *options, image)
    try:
        yield Container(name, began)
    finally:
        docker("rm", "--force", "--volumes", name)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The target `app`, built from the checkout."""
    tag = f"hookcast:test-{os.getpid()}"
    # The host's network: on some machines package registries are reachable from there only.
    docker("build", "--network", "host", "--target", "app", "--tag", tag, str(ROOT))
    yield tag
    docker("rmi", tag)


@pytest.fixture
def volume() -> Iterator[str]:
    """A fresh volume."""
    name = f"hookcast-test-{os.getpid()}-{time.monotonic_ns()}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", name)


def test_it_adds_at_most_100_mb_to_its_base(image: str) -> None:
    """Everything above the base image's layers, as `docker history` has it."""
    lines = docker(
        "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image
    ).splitlines()
    ours = next(number for number, line in enumerate(lines) if "ARG VERSION" in line)

    added = sum(int(line.partition("\t")[0]) for line in lines[:ours])

    assert 0 < added <= MAX_BYTES


def test_what_it_says_of_itself(image: str) -> None:
    """A numeric user that is not root, an orderly signal, both ports, labels, and no installer inside."""
    config: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .Config}}", image))

    assert config["User"].partition(":")[0] == "10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["ExposedPorts"].keys() == {"8000/tcp", "9090/tcp"}
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "No module named pip" in docker("run", "--rm", "--entrypoint", "python", image, "-m", "pip", check=False)
    assert docker("run", "--rm", image, "version") == config["Labels"]["org.opencontainers.image.version"]


def test_it_runs_with_nothing_else_and_stops_in_order(image: str) -> None:
    """Ready in 3 s (the best of three), keys made and their place told once, JSON logs, `docker stop` with status 0."""
    seconds = []
    for _ in range(3):
        with running(image, None) as container:
            seconds.append(container.ready())
            container.publish()

            status, stopping = container.stop()

            told, *log = container.logs().splitlines()
            assert told.endswith("they are in /var/lib/hookcast/keys.json")
            assert all(json.loads(line)["event"] for line in log)
            assert status == 0
            assert stopping < STOP_SECONDS
    assert min(seconds) < READY_SECONDS


def test_what_was_accepted_outlives_the_container(image: str, volume: str) -> None:
    """A second container on the same volume has the same keys and the event, also after SIGKILL."""
    with running(image, volume) as first:
        first.ready()
        key, event = first.key(), first.publish()
        docker("kill", first.name)

    with running(image, volume) as second:
        second.ready()
        answer = httpx.get(f"{second.url}/api/v1/events/{event}", headers={"X-API-Key": key})

        assert answer.status_code == 200
        assert "made an API key" not in second.logs()


@pytest.mark.parametrize(
    "options",
    [
        ("--read-only", "--tmpfs", "/tmp"),  # noqa: S108  the container's own
        ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        ("--user", "12345"),
    ],
)
def test_it_runs_confined(image: str, volume: str, options: tuple[str, ...]) -> None:
    """With a read-only root, without any capability, and as a user of the platform's choosing (whose group is 0)."""
    with running(image, volume, *options) as container:
        container.ready()
        container.publish()

        assert container.stop()[0] == 0


def test_a_user_who_may_not_write_is_told_so(image: str, volume: str) -> None:
    """Another user and another group: one line that names the directory, status 2."""
    done = subprocess.run(
        ["docker", "run", "--rm", "--user", "12345:12345", "--volume", f"{volume}:/var/lib/hookcast", image],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith("hookcast: HOOKCAST_DATA_DIR: cannot write to /var/lib/hookcast")
    assert done.stderr.count("\n") == 1
