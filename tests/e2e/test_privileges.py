"""What each part may do, and no more: towards the API server, the network, its own file system, and eavesdroppers."""

import base64
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from hookcast_core.document import MAX_BYTES
from hookcast_core.errors import InvalidInput
from hookcast_core.sealing import Sealer
from tests.e2e.cluster import ROOT, TAG, Cluster, Object, Receiver, Release, until
from tests.support.secrecy import shows, unpacked

pytestmark = pytest.mark.timeout(600)

Rule = tuple[str, str, str, str]
"""Group, resource, name (or nothing: any), verb."""
EAVESDROPPER = "hookcast-eavesdropper"


def account(release: Release, name: str) -> tuple[str, str]:
    return release.namespace, name


def rules(cluster: Cluster, who: tuple[str, str], namespace: str) -> set[Rule]:
    """All that a ServiceAccount may do in a namespace, as the API server tells it itself."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{who[0]}", "system:authenticated"]
    headers = [("Impersonate-User", "system:serviceaccount:" + ":".join(who))]
    headers += [("Impersonate-Group", group) for group in groups]
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = cluster.api.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    status = answer.json()["status"]
    assert not status.get("incomplete"), status
    found = {
        (group, resource, name, verb)
        for rule in status["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }
    return found | {
        ("", url, "", verb)
        for rule in status["nonResourceRules"]
        for url in rule.get("nonResourceURLs") or []
        for verb in rule["verbs"]
    }


def expanded(group: str, resources: str, verbs: str, *names: str) -> set[Rule]:
    return {
        (group, resource, name, verb)
        for resource in resources.split()
        for verb in verbs.split()
        for name in names or ("",)
    }


def everywhere(release: Release) -> set[Rule]:
    """What the operator may do in every namespace."""
    return {
        *expanded("hookcast.dev", "webhooksubscriptions webhooksources", "list watch"),
        *expanded("hookcast.dev", "webhooksubscriptions/status webhooksources/status", "patch"),
        *expanded("", "secrets", "get list watch"),
        *expanded("", "events", "create"),
        *expanded(
            "rbac.authorization.k8s.io", "clusterrolebindings", "get", f"hookcast-dispatcher-{release.dispatcher}"
        ),
    }


def at_home(release: Release) -> set[Rule]:
    """What it may do in its own namespace besides."""
    name = release.name
    chunks = [f"{name}-configuration-{half}-{number}" for half in "ab" for number in range(8)]
    return {
        *expanded("", "secrets", "create"),
        *expanded("", "secrets", "get update", f"{name}-configuration", *chunks),
        *expanded("", "secrets", "get", f"{name}-keys"),
        *expanded("coordination.k8s.io", "leases", "create"),
        *expanded("coordination.k8s.io", "leases", "get update", f"{name}-operator"),
        *expanded("discovery.k8s.io", "endpointslices", "list watch"),
    }


def test_the_operator_may_do_what_is_listed_here_and_nothing_else(release: Release, cluster: Cluster) -> None:
    """Beyond what every authenticated user may, which is asked for with an account that nobody knows."""
    operator = account(release, f"{release.name}-operator")
    for namespace, more in ((release.namespace, at_home(release)), ("default", set()), ("kube-system", set())):
        common = rules(cluster, account(release, "nobody"), namespace)
        assert rules(cluster, operator, namespace) - common == everywhere(release) | more, namespace


def test_the_app_may_do_nothing_and_has_no_token(release: Release, cluster: Cluster) -> None:
    """Its account has no rights of its own, and no credentials of any account are in its pods."""
    for namespace in (release.namespace, "default", "kube-system"):
        common = rules(cluster, account(release, "nobody"), namespace)
        assert rules(cluster, account(release, release.name), namespace) == common

    (pod,) = release.pods()
    script = "import os; print([*os.walk('/var/run/secrets'), *os.walk('/run/secrets')])"
    assert cluster.python(pod, "app", release.namespace, script) == "[]"
    spec = cluster.get("pod", pod, release.namespace)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountToken" not in str(spec["volumes"])


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ("list pods", ""),
        ("create pods", ""),
        ("create pods/exec", ""),
        ("list nodes", ""),
        ("get customresourcedefinitions", ""),
        ("update customresourcedefinitions/webhooksubscriptions.hookcast.dev", ""),
        ("update secrets/hookcast-keys", "hookcast"),
        ("delete secrets/hookcast-configuration", "hookcast"),
        ("update secrets/another", "hookcast"),
        ("patch secrets/hookcast-configuration", "hookcast"),
        ("create secrets", "default"),
        ("update secrets/hookcast-configuration", "default"),
        ("update webhooksubscriptions.hookcast.dev", "hookcast"),
        ("patch webhooksubscriptions.hookcast.dev", "hookcast"),
        ("delete webhooksubscriptions.hookcast.dev", "hookcast"),
        ("update leases.coordination.k8s.io/another", "hookcast"),
        ("create serviceaccounts/token", "hookcast"),
        ("create clusterrolebindings", ""),
        ("list namespaces", ""),
        ("impersonate users", ""),
        ("* *", "hookcast"),
    ],
)
@pytest.mark.parametrize("name", ["hookcast-operator", "hookcast"])
def test_what_would_be_too_much_is_denied(
    release: Release, cluster: Cluster, name: str, asked: str, where: str
) -> None:
    """`kubectl auth can-i` says no."""
    who = f"system:serviceaccount:{release.namespace}:{name}"
    scope = ("-n", where) if where else ("--all-namespaces",)

    done = cluster.kubectl("auth", "can-i", *asked.split(), *scope, "--as", who, check=False)

    assert done.stdout.strip() == "no", done.stdout + done.stderr


# The network

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""


def test_network_policies_hold(release: Release, receiver: Receiver, cluster: Cluster) -> None:
    """Everybody reaches the main port; the admin port the operator alone; Redis nobody outside the pod."""
    (app,), (operator,) = release.pods(), release.pods("operator")
    address = cluster.get("pod", app, release.namespace)["status"]["podIP"]
    (stranger,) = cluster.list("pods", receiver.namespace, "app=receiver")
    there = stranger["metadata"]["name"]

    def from_stranger(port: int) -> str:
        return cluster.python(there, "receiver", receiver.namespace, CONNECT, address, str(port))

    def from_operator(host: str, port: int) -> str:
        return cluster.python(operator, "operator", release.namespace, CONNECT, host, str(port))

    assert from_stranger(8000) == "open"
    assert from_stranger(9090) != "open"
    assert from_stranger(6379) != "open"
    assert from_operator(address, 9090) == "open"
    assert from_operator("kubernetes.default.svc", 443) == "open"
    assert from_operator(address, 8000) != "open"
    assert from_operator(stranger["status"]["podIP"], 9000) != "open"
    assert cluster.python(app, "app", release.namespace, CONNECT, "127.0.0.1", "6379") == "open"
    # Policies do not hold for the node: there it is the address that Redis listens on.
    assert cluster.on_node("bash", "-c", f"</dev/tcp/{address}/9090 && echo open") == "open"
    assert cluster.on_node("bash", "-c", f"</dev/tcp/{address}/6379 && echo open", check=False) != "open"


# Processes and files

MEMORY = ("/dev/shm", "/dev/mqueue")  # noqa: S108  of every container
USERS = """
import glob
for name in glob.glob('/proc/[0-9]*/status'):
    try:
        text = open(name).read()
    except OSError:
        continue
    print(*next(line for line in text.splitlines() if line.startswith('Uid:')).split()[1:])
"""
WRITABLE = """
import os
for folder, _, _ in os.walk('/'):
    if folder.startswith('/proc'):
        continue
    path = os.path.join(folder, '.tried')
    try:
        open(path, 'w').close()
        os.remove(path)
        print(folder)
    except OSError:
        pass
"""
SHELL_USERS = "for f in /proc/[0-9]*/status; do grep ^Uid: $f | cut -f 2-; done 2>/dev/null"
SHELL_WRITABLE = (
    "find / -path /proc -prune -o -type d -print 2>/dev/null | while read -r d; do "
    '(: > "$d/.tried") 2>/dev/null && rm -f "$d/.tried" && echo "$d"; done; true'
)


@pytest.mark.parametrize(("component", "container"), [("app", "app"), ("operator", "operator"), ("app", "redis")])
def test_no_process_is_root_or_writes_outside_its_volumes(
    release: Release, cluster: Cluster, component: str, container: str
) -> None:
    """Each folder of each container is tried."""
    (pod,) = release.pods(component)

    def said(script: str, shell: str) -> set[str]:
        if container != "redis":
            return set(cluster.python(pod, container, release.namespace, script).splitlines())
        command = ("exec", pod, "-n", release.namespace, "-c", container, "--", "sh", "-c", shell)
        return set(cluster.kubectl(*command).stdout.splitlines())

    users = {user for line in said(USERS, SHELL_USERS) for user in line.split()}
    assert users == {"999" if container == "redis" else "10001"}
    writable = {folder for folder in said(WRITABLE, SHELL_WRITABLE) if not folder.startswith(MEMORY)}
    spec = cluster.get("pod", pod, release.namespace)["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    mounts = next(one["volumeMounts"] for one in containers if one["name"] == container)
    volumes = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert volumes <= writable
    assert {folder for folder in writable if not any(f"{folder}/".startswith(f"{one}/") for one in volumes)} == set()


# Eavesdroppers


def test_neither_secrets_nor_the_network_show_a_signing_key(
    release: Release, receiver: Receiver, cluster: Cluster
) -> None:
    """What is stored, and what passes between operator and pod, is sealed; only the internal key opens it."""
    (app,) = release.pods()
    address = cluster.get("pod", app, release.namespace)["status"]["podIP"]
    sealer = Sealer([release.keys["HOOKCAST_INTERNAL_KEY"]])
    with eavesdropping(cluster, 9090) as heard:
        release.cluster.apply(release.subscription("sealed", {"endpoint": {"url": receiver.url("/sealed")}}))
        release.wait_ready("sealed")
        generated = cluster.get("whsub", "sealed", release.namespace)["status"]["signingSecret"]["name"]
        key = cluster.decoded(generated, release.namespace)["secret"]
        # The eavesdropper tells segment by segment: until the last one was told, a token is not whole.
        traffic = until(
            lambda: found if key.encode() in opened(found := heard(address), sealer) else None,
            "a push with the key that is overheard",
        )

    stored = b"\n".join(stored_configuration(cluster, release))
    assert key.encode() in opened(stored, sealer), "it was there"
    for content in (traffic, stored):
        assert not any(shows(part, key) for part in unpacked(content))


def opened(content: bytes, sealer: Sealer) -> bytes:
    """What whoever has the internal key reads in it.

    On a connection that is kept the next request follows right after a token: what looks like its last characters may
    be a method.
    """
    found = b""
    apart = re.sub(rb"(?:GET|PUT) /", rb"\n\g<0>", content)
    for token in re.findall(rb"gAAAAA[\w-]+={0,2}", apart):
        with suppress(InvalidInput):
            found += sealer.open(token, MAX_BYTES)[0]
    return found


def stored_configuration(cluster: Cluster, release: Release) -> Iterator[bytes]:
    for secret in cluster.list("secrets", release.namespace):
        if secret["metadata"]["name"].startswith(f"{release.name}-configuration"):
            yield from (base64.b64decode(value) for value in secret["data"].values())


@contextmanager
def eavesdropping(cluster: Cluster, port: int) -> "Iterator[Heard]":
    """A pod on the node's network that hears everything between pods."""
    cluster.namespace(EAVESDROPPER, restricted=False)
    cluster.delete("pod", "eavesdropper", EAVESDROPPER)
    cluster.apply(*_eavesdropper(port))
    try:
        logs = ("logs", "eavesdropper", "-n", EAVESDROPPER)
        until(lambda: "listening" in cluster.kubectl(*logs, check=False).stdout or None, "the eavesdropper", every=0.5)
        yield Heard(cluster, logs)
    finally:
        cluster.kubectl("delete", "namespace", EAVESDROPPER, "--wait=true")


class Heard:
    """What was heard so far of all conversations with an address."""

    def __init__(self, cluster: Cluster, logs: tuple[str, ...]) -> None:
        self._cluster = cluster
        self._logs = logs

    def __call__(self, address: str) -> bytes:
        streams: dict[str, dict[int, bytes]] = defaultdict(dict)
        for line in self._cluster.kubectl(*self._logs).stdout.splitlines()[1:]:
            stream, sequence, content = line.split()
            if f"{address}:" in stream:
                part = base64.b64decode(content)
                known = streams[stream].get(int(sequence), b"")
                streams[stream][int(sequence)] = max(known, part, key=len)
        return b"\n".join(map(reassembled, streams.values()))


def reassembled(parts: dict[int, bytes]) -> bytes:
    """A stream of its segments by sequence number. One interface tells a segment whole, another cut in pieces."""
    whole = b""
    end = min(parts)
    for sequence, part in sorted(parts.items()):
        whole += part[max(0, end - sequence) :]
        end = max(end, sequence + len(part))
    return whole


def _eavesdropper(port: int) -> Iterator[Object]:
    meta = {"name": "eavesdropper", "namespace": EAVESDROPPER}
    script = (ROOT / "tests/e2e/sniffer_pod.py").read_text()
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"sniffer.py": script}}
    container = {
        "name": "eavesdropper",
        "image": f"hookcast:{TAG}",
        "imagePullPolicy": "Never",
        "command": ["python", "-u", "/script/sniffer.py", str(port)],
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_RAW"]}},
    }
    yield {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "script", "configMap": {"name": "eavesdropper"}}],
        },
    }
