"""How long the operator takes for one edit among 10,000 subscriptions: `python -m benchmarks.configuration`.

In one process, without network: an API server that only keeps what it is given. Prints milliseconds.
"""

import asyncio
import json
import statistics
import time
from base64 import b64encode
from collections.abc import Iterable
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from cryptography.fernet import Fernet

from hookcast_core.egress import EgressPolicy
from hookcast_core.sealing import Sealer
from hookcast_core.signing import generate_secret
from hookcast_operator.api import Api
from hookcast_operator.compile import Compiled, Compiler, World
from hookcast_operator.errors import NotFound
from hookcast_operator.objects import CustomObject, Identity, SecretObject, custom_object, secret_object
from hookcast_operator.store import ConfigurationStore

COUNT, TEAMS, EDITS = 10_000, 40, 21


class Kept(Api):
    """Answers as an API server that has all the time in the world."""

    def __init__(self) -> None:
        """Begins empty."""
        self._objects: dict[str, dict[str, Any]] = {}

    async def get(self, path: str, **_: str) -> dict[str, Any]:
        """What was put there."""
        if path not in self._objects:
            raise NotFound(404, path)
        return self._objects[path]

    async def create(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """As `replace`."""
        return await self.replace(f"{path}/{content['metadata']['name']}", content)

    async def replace(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """Keeps it, through JSON as on the wire."""
        kept: dict[str, Any] = json.loads(json.dumps(content))
        kept["metadata"] |= {"uid": "u", "resourceVersion": str(time.monotonic_ns())}
        self._objects[path] = kept
        return kept


def subscription(number: int, generation: int = 1) -> CustomObject:
    """A realistic one."""
    team = f"team-{number % TEAMS}"
    metadata = {
        "uid": str(uuid5(NAMESPACE_DNS, str(number))),
        "generation": generation,
        "namespace": team,
        "name": f"s-{number}",
        "creationTimestamp": "2026-11-24T00:00:00Z",
        "resourceVersion": str(generation),
    }
    spec = {
        "endpoint": {
            "url": f"https://hooks-{number}.example/{generation}",
            "headers": [{"name": "X-Team", "value": team}],
        },
        "events": {"types": [f"a{number}.created", "b.*"], "filter": f"data.amount > {number}"},
        "signing": {"keys": [{"secretRef": {"name": "key", "key": "key"}}]},
        "delivery": {"maxInFlight": 8, "retry": {"schedule": ["1s", "1m"]}},
    }
    return custom_object("WebhookSubscription", {"metadata": metadata, "spec": spec})


def secret(team: int) -> SecretObject:
    """A team's signing key."""
    metadata = {
        "namespace": f"team-{team}",
        "name": "key",
        "resourceVersion": "1",
        "labels": {"hookcast.dev/allow": "true"},
    }
    return secret_object({"metadata": metadata, "data": {"key": b64encode(generate_secret().encode()).decode()}})


async def run() -> dict[str, float]:
    """The first compilation and publication, and the median and slowest of the edits, in milliseconds."""
    secrets = {found.key: found for found in map(secret, range(TEAMS))}
    objects = {found.key: found for found in map(subscription, range(COUNT))}
    compiler = Compiler(
        dispatcher="hookcast", policy=EgressPolicy(()), every_secret=False, generate_in=(), on_defect=_fail
    )
    sealer = Sealer([Fernet.generate_key().decode()])
    store = ConfigurationStore(Kept(), sealer, release="r", namespace="n", may_write=lambda: None)

    async def once() -> float:
        began = time.perf_counter()
        compiled = compiler.compile(World(objects, secrets, frozenset(), lambda _namespace: True))
        published = await store.publish(list(_lines(compiled)), [])
        assert len(published.document.entries) == COUNT
        return 1000 * (time.perf_counter() - began)

    first = await once()
    edits = []
    for edit in range(EDITS):
        edited = subscription(edit, 2)
        objects[edited.key] = edited
        edits.append(await once())
    return {"first": first, "edit_median": statistics.median(edits), "edit_slowest": max(edits)}


def _fail(_identity: Identity, error: Exception) -> None:
    raise error


def _lines(compiled: Compiled) -> Iterable[bytes]:
    return (judged.line for judged in compiled.judgements.values() if judged.line is not None)


if __name__ == "__main__":
    print(json.dumps({name: round(value) for name, value in asyncio.run(run()).items()}))
