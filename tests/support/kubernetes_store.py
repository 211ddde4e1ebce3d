"""The objects of the API server's stand-in, and what becomes of them by each verb. No I/O; see `kubernetes`."""

import copy
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Raw = dict[str, Any]
MAX_SECRET = 1_048_576


@dataclass(frozen=True)
class Resource:
    """One kind, as discovery tells of it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    has_status: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = (
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "events", "Event"),
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource("hookcast.dev", "v1alpha1", "webhooksubscriptions", "WebhookSubscription", has_status=True),
    Resource("hookcast.dev", "v1alpha1", "webhooksources", "WebhookSource", has_status=True),
)


class Refused(Exception):  # noqa: N818  it is an answer
    """A Status that is no success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


@dataclass(frozen=True)
class Change:
    """One step of the history. `before` and `after` are the object; `at` is the object with the step's version."""

    version: int
    resource: Resource
    before: Raw | None
    after: Raw | None
    at: Raw


@dataclass(frozen=True)
class Selector:
    """Which objects of a collection are meant."""

    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    def selects(self, found: Raw | None) -> bool:
        if found is None or self.namespace not in {None, found["metadata"].get("namespace")}:
            return False
        labels = found["metadata"].get("labels") or {}
        for term in filter(None, self.labels.split(",")):
            key, is_equal, value = term.partition("=")
            if (labels.get(key) != value.removeprefix("=")) if is_equal else key not in labels:
                return False
        for term in filter(None, self.fields.split(",")):
            key, is_other, value = term.partition("!=")
            if not is_other:
                key, _, value = term.partition("=")
            parts: Any = found
            for part in key.split("."):
                parts = parts.get(part) or {}
            if (parts == value) == bool(is_other):
                return False
        return True


Key = tuple[str, str | None, str]


class Store:
    """Every object and every change; versions rise over all kinds."""

    def __init__(self) -> None:
        self.version = 100
        self.floor = 100
        """Changes up to this version are forgotten."""
        self.objects: dict[Key, Raw] = {}
        self.history: list[Change] = []

    def get(self, resource: Resource, namespace: str | None, name: str) -> Raw:
        try:
            return self.objects[resource.plural, namespace, name]
        except KeyError:
            raise Refused(404, "NotFound", f'{resource.plural} "{name}" not found') from None

    def select(self, resource: Resource, selector: Selector) -> list[Raw]:
        found = [raw for (plural, *_), raw in self.objects.items() if plural == resource.plural]
        found.sort(key=lambda raw: (raw["metadata"].get("namespace") or "", raw["metadata"]["name"]))
        return [raw for raw in found if selector.selects(raw)]

    def create(self, resource: Resource, namespace: str | None, raw: Raw) -> Raw:
        name = raw["metadata"]["name"]
        if (resource.plural, namespace, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
        made = {key: value for key, value in raw.items() if key != "status" or not resource.has_status}
        made["metadata"] = {
            **raw["metadata"],
            **({"namespace": namespace} if namespace else {}),
            "uid": str(uuid.uuid4()),
            "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "generation": 1,
        }
        return self._put(resource, None, made)

    def replace(self, resource: Resource, namespace: str | None, name: str, raw: Raw) -> Raw:
        before = self.get(resource, namespace, name)
        _check_version(resource, before, raw["metadata"])
        return self._update(resource, before, raw, "status" if resource.has_status else None)

    def merge(self, resource: Resource, namespace: str | None, name: str, patch: Raw, part: str | None) -> Raw:
        before = self.get(resource, namespace, name)
        _check_version(resource, before, patch.get("metadata") or {})
        if part == "status":  # a UID in the patch is passed over, as everything of the metadata
            wanted = {**before, "status": _merged(before.get("status") or {}, patch.get("status"))}
            return self._update(resource, before, wanted, None)
        return self._update(resource, before, _merged(before, patch), "status" if resource.has_status else None)

    def delete(self, resource: Resource, namespace: str | None, name: str) -> Raw:
        before = self.get(resource, namespace, name)
        del self.objects[resource.plural, namespace, name]
        self.version += 1
        at = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
        self.history.append(Change(self.version, resource, before, None, at))
        self._collect(_uid(before))
        return before

    def changes_since(self, version: int) -> Iterator[Change]:
        if version < self.floor:
            raise Refused(410, "Expired", f"too old resource version: {version} ({self.floor})")
        return (change for change in self.history if change.version > version)

    def _update(self, resource: Resource, before: Raw, raw: Raw, kept: str | None) -> Raw:
        given = raw["metadata"].get("uid")
        if given is not None and given != _uid(before):
            message = f"Precondition failed: UID in precondition: {given}, UID in object meta: {_uid(before)}"
            raise Refused(409, "Conflict", message)
        wanted = {**raw}
        if kept is not None:
            wanted.pop(kept, None)
            wanted |= {kept: before[kept]} if kept in before else {}
        if wanted.get("type") != before.get("type"):
            raise Refused(422, "Invalid", "type: Invalid value: field is immutable")
        ours = ("uid", "creationTimestamp", "generation", "namespace", "resourceVersion")
        wanted["metadata"] = {
            **raw["metadata"],
            **{key: before["metadata"][key] for key in ours if key in before["metadata"]},
        }
        if wanted.get("spec") != before.get("spec"):
            wanted["metadata"]["generation"] += 1
        if wanted == before:
            return before
        return self._put(resource, before, wanted)

    def _put(self, resource: Resource, before: Raw | None, raw: Raw) -> Raw:
        if sum(map(len, (raw.get("data") or {}).values())) * 3 // 4 > MAX_SECRET:
            raise Refused(422, "Invalid", f"data: Too long: may not be more than {MAX_SECRET} bytes")
        self.version += 1
        after = copy.deepcopy(raw)
        after["metadata"]["resourceVersion"] = str(self.version)
        after |= {"apiVersion": resource.api_version, "kind": resource.kind}
        self.objects[resource.plural, after["metadata"].get("namespace"), after["metadata"]["name"]] = after
        self.history.append(Change(self.version, resource, before, after, after))
        return after

    def _collect(self, owner: str) -> None:
        """Deletes what only the one that went owned."""
        for (plural, namespace, name), raw in list(self.objects.items()):
            owners = [one["uid"] for one in raw["metadata"].get("ownerReferences") or ()]
            if owner in owners and not any(_uid(other) in owners for other in self.objects.values()):
                self.delete(next(one for one in RESOURCES if one.plural == plural), namespace, name)


def _check_version(resource: Resource, before: Raw, metadata: Raw) -> None:
    version, name = metadata.get("resourceVersion"), before["metadata"]["name"]
    if version is not None and version != before["metadata"]["resourceVersion"]:
        message = f'Operation cannot be fulfilled on {resource.plural} "{name}": the object has been modified'
        raise Refused(409, "Conflict", message)


def _uid(raw: Raw) -> str:
    uid: str = raw["metadata"]["uid"]
    return uid


def _merged(value: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(value) if isinstance(value, dict) else {}
    for name, part in patch.items():
        if part is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), part)
    return found
