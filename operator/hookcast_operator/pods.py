"""The dispatcher's pods, as EndpointSlices (discovery.k8s.io/v1) tell of them, and what is in force in each. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. `uid` tells it from a later one of the same name or address."""

    uid: str
    name: str
    address: str
    port: int
    ready: bool
    terminating: bool

    @property
    def base_url(self) -> str:
        """Its admin port."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    @property
    def counts(self) -> bool:
        """Whether it has to have a configuration for that to be in force."""
        return self.ready and not self.terminating


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a pod says of an object that it does not take."""

    generation: int
    reason: str
    message: str


@dataclass(slots=True)
class PodState:
    """What is known of one pod. `sequence` is what is in force there, 0 before the first answer."""

    pod: Pod
    since: float
    sequence: int = 0
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    problem: str | None = None
    settling: bool = True


def pods_of(slices: Iterable[Mapping[str, Any]], port_name: str) -> dict[str, Pod]:
    """The pods behind a Service, by UID, those that are not ready among them."""
    pods: dict[str, Pod] = {}
    for part in slices:
        ports: list[int] = [port["port"] for port in part.get("ports") or () if port.get("name") == port_name]
        for endpoint in (part.get("endpoints") or ()) if ports else ():
            target = endpoint.get("targetRef") or {}
            conditions = endpoint.get("conditions") or {}
            address = endpoint["addresses"][0]
            pod = Pod(
                uid=target.get("uid") or address,
                name=target.get("name") or address,
                address=address,
                port=ports[0],
                ready=conditions.get("ready") is not False,
                terminating=conditions.get("terminating") is True,
            )
            pods[pod.uid] = pod
    return pods
