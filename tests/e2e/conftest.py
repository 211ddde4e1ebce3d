"""One cluster for all end-to-end tests, and one release that most of them share.

`HOOKCAST_E2E_REUSE=1` takes the cluster of KUBECONFIG and what is installed there, and leaves it; otherwise a kind
cluster is made and deleted. What could be known of a failure is kept in `e2e-failures/`.
"""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT, TAG, Cluster, Receiver, Release, run

KIND = "hookcast-e2e"
NAMESPACE = "hookcast"
FAILURES = ROOT / "e2e-failures"
REUSE = os.environ.get("HOOKCAST_E2E_REUSE", "") == "1"
_SETTINGS = {"EGRESS_ALLOW": ["*.svc.cluster.local:9000"], "DELETION_GRACE_SECONDS": 2}


def what_is_missing() -> str:
    """Which programs are not there, or nothing."""
    missing = [name for name in ("docker", "kind", "kubectl", "helm") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    done = run("docker", "version", check=False)
    return "" if done.returncode == 0 else f"no container engine answers: {done.stderr.strip()}"


@pytest.fixture(scope="session")
def images() -> None:
    """Both images, built as a user builds them."""
    for image, target in (("hookcast", "app"), ("hookcast-operator", "operator")):
        run(
            *("docker", "build", "--quiet", "--network", "host", "--target", target, "--tag", f"{image}:{TAG}"),
            str(ROOT),
            timeout=900,
        )


@pytest.fixture(scope="session")
def cluster(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:  # noqa: ARG001  built before
    """The cluster, with the images."""
    if problem := what_is_missing():
        pytest.skip(problem)
    if REUSE:
        kubeconfig = Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
    else:
        kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
        run("kind", "create", "cluster", "--name", KIND, "--kubeconfig", str(kubeconfig), "--wait", "120s")
    os.environ["KUBECONFIG"] = str(kubeconfig)  # for every kubectl and helm that a test runs
    try:
        found = Cluster()
        with found.api:
            found.load(f"hookcast:{TAG}", f"hookcast-operator:{TAG}", "redis:7")
            yield found
    finally:
        if not REUSE:
            run("kind", "delete", "cluster", "--name", KIND)


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    """Hookcast with a Redis sidecar in a namespace with restricted Pod Security."""
    cluster.namespace(NAMESPACE)
    found = Release(cluster, "hookcast", NAMESPACE)
    found.install({"settings": _SETTINGS})
    if REUSE:
        found.restart()  # the images may be newer under the same name
    cluster.kubectl("delete", "whsub,whsrc", "--all", "-n", NAMESPACE)  # of a run before
    return found


@pytest.fixture(scope="session")
def receiver(cluster: Cluster) -> Receiver:
    """An endpoint within the cluster."""
    return Receiver(cluster, "hookcast-receiver")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps what can be known of a failure."""
    report = yield
    used = getattr(item, "funcargs", {})
    cluster = used.get("cluster") or getattr(used.get("release"), "cluster", None)
    if report.failed and isinstance(cluster, Cluster):
        cluster.collect(FAILURES / item.name.replace("/", "-"))
    return report
