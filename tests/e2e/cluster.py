"""A Kubernetes cluster and a release of Hookcast in it, as the end-to-end tests use them: kubectl, helm, plain HTTP."""

import base64
import json
import os
import re
import secrets
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import jwt
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/hookcast"
TAG = os.environ.get("HOOKCAST_E2E_TAG", "e2e")
"""Of both images: those who share a container engine take one each."""
PATIENCE = 60.0
API_VERSION = "hookcast.dev/v1alpha1"

T = TypeVar("T")
Object = dict[str, Any]


def run(
    *command: str,
    given: str | None = None,
    check: bool = True,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Runs a program; fails with all that it printed."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


def until(found: Callable[[], T | None], what: str, within: float = PATIENCE, every: float = 0.1) -> T:
    """Waits until there is something (not None, not False) and gives it; fails naming `what`."""
    deadline = time.monotonic() + within
    while True:
        result = found()
        if result is not None and result is not False:
            return result
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(every)


class Cluster:
    """The cluster that KUBECONFIG names; `node` is the name of its one node's container."""

    def __init__(self) -> None:
        self.node = self.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}").stdout
        self.address = self.kubectl(
            "get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
        ).stdout
        self.api = self._api()

    def kubectl(
        self, *arguments: str, given: object = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `given` is passed to it as JSON, or as it is if it is a text."""
        text = given if given is None or isinstance(given, str) else json.dumps(given)
        return run("kubectl", *arguments, given=text, check=check, timeout=timeout)

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs helm."""
        return run("helm", *arguments, check=check)

    def apply(self, *objects: Object, server_side: bool = False) -> None:
        """Applies objects."""
        extra = ("--server-side", "--force-conflicts") if server_side else ()
        self.kubectl("apply", *extra, "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def get(self, kind: str, name: str, namespace: str) -> Object:
        """An object, or an empty mapping if there is none."""
        done = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: Object = json.loads(done.stdout) if done.stdout.strip() else {}
        return found

    def decoded(self, name: str, namespace: str) -> dict[str, str]:
        """A Secret's data as texts."""
        data = self.get("secret", name, namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """The objects of a kind in a namespace."""
        done = self.kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json")
        items: list[Object] = json.loads(done.stdout)["items"]
        return items

    def delete(self, kind: str, name: str, namespace: str) -> None:
        """Deletes an object if it is there, and waits until it is gone."""
        self.kubectl("delete", kind, name, "-n", namespace, "--ignore-not-found", "--wait=true")

    def namespace(self, name: str, *, restricted: bool = True) -> None:
        """Makes a namespace if there is none, with restricted Pod Security unless told otherwise."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def on_node(self, *command: str, check: bool = True) -> str:
        """Runs a program on the node."""
        return run("docker", "exec", self.node, *command, check=check).stdout.strip()

    def process(self, pod: str, container: str, namespace: str) -> str:
        """The pid, on the node, of a container's first process; waits until it runs."""

        def running() -> str | None:
            status = self.get("pod", pod, namespace)["status"]
            both = [*status["containerStatuses"], *status.get("initContainerStatuses", [])]
            found = next(one.get("containerID", "") for one in both if one["name"] == container)
            inspected = self.on_node("crictl", "inspect", found.removeprefix("containerd://"), check=False)
            pid = re.search(r'"pid\\?":\s*(\d+)', inspected)  # in JSON, or JSON within it; 0 of one that has ended
            return pid[1] if pid is not None and int(pid[1]) else None

        return until(running, f"a running {container} in {pod}")

    def python(self, pod: str, container: str, namespace: str, script: str, *arguments: str) -> str:
        """What a script prints that runs in a container."""
        where = (pod, "-n", namespace, "-c", container)
        return self.kubectl("exec", *where, "--", "python", "-c", script, *arguments).stdout.strip()

    def load(self, *images: str) -> None:
        """Makes images of this machine known to the cluster."""
        run("kind", "load", "docker-image", *images, "--name", self.node.removesuffix("-control-plane"))

    @contextmanager
    def forwarded(self, what: str, namespace: str, port: int) -> Iterator[str]:
        """The URL at which a pod's or Service's port can be reached from here."""
        command = ["kubectl", "port-forward", "-n", namespace, what, f":{port}", "--address", "127.0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Forwarding from"), line
            yield f"http://{line.split()[2]}"
        finally:
            process.terminate()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()

    def node_port(self, name: str, namespace: str) -> str:
        """The URL of a NodePort Service's first port."""
        return f"http://{self.address}:{self.get('service', name, namespace)['spec']['ports'][0]['nodePort']}"

    def collect(self, folder: Path) -> None:
        """Writes what there is to know of every namespace of ours: objects, events, logs."""
        folder.mkdir(parents=True, exist_ok=True)
        kinds = "pods,services,endpointslices,secrets,leases,webhooksubscriptions,webhooksources,pvc,networkpolicies"
        listed = self.kubectl("get", kinds, "-A", "-o", "wide", check=False)
        (folder / "objects.txt").write_text(listed.stdout + listed.stderr)
        custom = self.kubectl("get", "webhooksubscriptions,webhooksources", "-A", "-o", "yaml", check=False).stdout
        (folder / "custom.yaml").write_text(custom)
        events = self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False).stdout
        (folder / "events.txt").write_text(events)
        described = self.kubectl("describe", "pods", "-A", "-l", "app.kubernetes.io/name=hookcast", check=False).stdout
        (folder / "pods.txt").write_text(described)
        pods = self.kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/name=hookcast", "-o", "json", check=False)
        for pod in json.loads(pods.stdout or '{"items": []}')["items"]:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            for previous in ((), ("--previous",)):
                logs = self.kubectl(
                    "logs", name, "-n", namespace, "--all-containers", "--prefix", "--tail=5000", *previous, check=False
                )
                (folder / f"{namespace}-{name}{'-previous' if previous else ''}.log").write_text(logs.stdout)

    def _api(self) -> httpx.Client:
        """The API server without kubectl, for what is measured."""
        config = yaml.safe_load(self.kubectl("config", "view", "--raw", "--minify").stdout)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return httpx.Client(base_url=cluster["server"], verify=context, timeout=30)


class Release:
    """An installed release. `namespace` is where it is; subscriptions go to `objects`, by default the same."""

    def __init__(
        self, cluster: Cluster, name: str, namespace: str, *, dispatcher: str = "hookcast", fullname: str = ""
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.fullname = fullname or name
        self.namespace = namespace
        self.dispatcher = dispatcher
        self.values: Object = {}
        self._url: str | None = None
        self._key: str | None = None

    def install(self, values: Object, *arguments: str, chart: Path = CHART, wait: bool = True) -> None:
        """Installs or upgrades it and waits until it is ready."""
        own: Object = {
            "image": {"tag": TAG},
            "operator": {"image": {"tag": TAG}},
            "dispatcher": {"name": self.dispatcher},
        } | ({"fullnameOverride": self.fullname} if self.fullname != self.name else {})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(merged(own, values), file)
            file.flush()
            waiting = ("--wait", "--timeout", "180s") if wait else ()
            where = ("-n", self.namespace, "-f", file.name)
            self.cluster.helm("upgrade", "--install", self.name, str(chart), *where, *waiting, *arguments)
        self.values = values
        self.expose()

    def restart(self, kinds: str = "deployment,statefulset") -> None:
        """Replaces every pod of these kinds and waits until they are ready."""
        owned = ("-n", self.namespace, "-l", f"app.kubernetes.io/instance={self.name}")
        self.cluster.kubectl("rollout", "restart", kinds, *owned)
        self.cluster.kubectl("rollout", "status", kinds, *owned, "--timeout=120s")

    @contextmanager
    def changed(self, values: Object) -> Iterator[None]:
        """With more values, and in the end as it was."""
        before = self.values
        self.install(merged(before, values))
        try:
            yield
        finally:
            self.install(before)

    def uninstall(self) -> None:
        """Uninstalls it and waits."""
        self.cluster.helm("uninstall", self.name, "-n", self.namespace, "--wait", "--ignore-not-found")

    def expose(self) -> None:
        """A NodePort to the main port, for the tests alone."""
        selector = self.cluster.get("service", self.fullname, self.namespace)["spec"]["selector"]
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"{self.fullname}-tests", "namespace": self.namespace},
                "spec": {"type": "NodePort", "selector": selector, "ports": [{"port": 80, "targetPort": 8000}]},
            }
        )
        self._url = None

    @property
    def url(self) -> str:
        """The main port."""
        self._url = self._url or self.cluster.node_port(f"{self.fullname}-tests", self.namespace)
        return self._url

    @property
    def keys(self) -> dict[str, str]:
        """The Secret with the app's keys."""
        return self.cluster.decoded(f"{self.fullname}-keys", self.namespace)

    @property
    def api_key(self) -> str:
        """An API key with all scopes."""
        if self._key is None:
            self._key = str(json.loads(self.keys["HOOKCAST_API_KEYS"])[0]["key"])
        return self._key

    def token(self, user: str) -> str:
        """A connection token."""
        return jwt.encode({"sub": user, "exp": int(time.time()) + 3600}, self.keys["HOOKCAST_JWT_SECRET"])

    def publish(self, **event: Any) -> Object:
        """Publishes an event of type order.created, or as told; tried again until it is accepted."""
        body = {"type": "order.created", "data": {"amount": 120}, **event}

        def accepted() -> Object | None:
            try:
                answer = httpx.post(
                    f"{self.url}/api/v1/events", json=body, headers={"X-API-Key": self.api_key}, timeout=10
                )
            except httpx.TransportError:
                return None
            if answer.status_code in {502, 503}:
                return None
            assert answer.status_code == 202, answer.text
            found: Object = answer.json()
            return found

        return until(accepted, "an accepted event")

    def read(self, path: str) -> Object:
        """GET of the REST API."""
        answer = httpx.get(f"{self.url}{path}", headers={"X-API-Key": self.api_key}, timeout=10)
        assert answer.status_code == 200, answer.text
        found: Object = answer.json()
        return found

    def subscription(self, name: str, spec: Object, namespace: str | None = None) -> Object:
        """A WebhookSubscription for this release's dispatcher."""
        base = {"dispatcherRef": {"name": self.dispatcher}, "events": {"types": ["order.*"]}}
        return {
            "apiVersion": API_VERSION,
            "kind": "WebhookSubscription",
            "metadata": {"name": name, "namespace": namespace or self.namespace},
            "spec": merged(base, spec),
        }

    def wait_ready(self, name: str, namespace: str | None = None, within: int = 60) -> None:
        """As a user waits: kubectl wait."""
        where = namespace or self.namespace
        self.cluster.kubectl("wait", "--for=condition=Ready", f"whsub/{name}", "-n", where, f"--timeout={within}s")

    def condition(self, name: str, kind: str, namespace: str | None = None, resource: str = "whsub") -> Object:
        """One condition of an object, or an empty mapping."""
        found = self.cluster.get(resource, name, namespace or self.namespace)
        conditions = found.get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def pods(self, component: str = "app") -> list[str]:
        """Names of the pods that are not going."""
        labels = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        pods = self.cluster.list("pods", self.namespace, labels)
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def scale_operator(self, replicas: int) -> None:
        """Scales the operator and waits until its pods are as many and ready."""
        deployment = f"deployment/{self.fullname}-operator"
        self.cluster.kubectl("scale", deployment, "-n", self.namespace, f"--replicas={replicas}")
        if replicas:
            self.cluster.kubectl("rollout", "status", deployment, "-n", self.namespace, "--timeout=120s")
        else:
            until(lambda: not self.pods("operator") or None, "no pod of the operator")


class Receiver:
    """The tests' endpoint within the cluster. Its paths are this run's own: it may have been there before."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self._root = f"/{secrets.token_hex(4)}"
        self.namespace = namespace
        self.host = f"receiver.{namespace}.svc.cluster.local"
        cluster.namespace(namespace)
        cluster.apply(*_receiver_objects(namespace))
        cluster.kubectl("rollout", "status", "deployment/receiver", "-n", namespace, "--timeout=120s")
        self.outside = cluster.node_port("receiver", namespace)
        until(self._answers, "an answer of the receiver")

    def url(self, path: str) -> str:
        """For a subscription."""
        return f"http://{self.host}:9000{self._root}{path}"

    def behave(self, behaviour: Mapping[str, Object]) -> None:
        """Says how each path is answered; the others with 204."""
        content = {f"{self._root}{path}": how for path, how in behaviour.items()}
        httpx.put(f"{self.outside}/_behaviour", json=content).raise_for_status()

    def requests(self, path: str) -> list[Object]:
        """What came to a path."""
        found = httpx.get(f"{self.outside}/_requests", params={"path": f"{self._root}{path}"}, timeout=30)
        requests: list[Object] = found.json()
        return requests

    def wait_for(self, path: str, count: int = 1, within: float = PATIENCE) -> list[Object]:
        """What came to a path, once that is as much as `count`."""

        def enough() -> list[Object] | None:
            found = self.requests(path)
            return found if len(found) >= count else None

        return until(enough, f"{count} requests to {path}", within)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.outside}/_requests", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


def merged(base: Object, more: Object) -> Object:
    """Mappings merged at every depth; the second wins."""
    result = dict(base)
    for name, value in more.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def body_of(request: Object) -> bytes:
    """A request's body."""
    return base64.b64decode(request["body"])


def _receiver_objects(namespace: str) -> Iterator[Object]:
    labels = {"app": "receiver"}
    script = (ROOT / "tests/e2e/receiver_pod.py").read_text()
    meta = {"name": "receiver", "namespace": namespace}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"receiver.py": script}}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 9000}]},
    }
    container = {
        "name": "receiver",
        "image": f"hookcast:{TAG}",
        "imagePullPolicy": "Never",
        "command": ["python", "-u", "/script/receiver.py"],
        "ports": [{"containerPort": 9000}],
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container],
                    "volumes": [{"name": "script", "configMap": {"name": "receiver"}}],
                },
            },
        },
    }
