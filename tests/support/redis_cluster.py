"""A real Redis Cluster: three masters with a replica each, on this machine."""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ConnectionError  # noqa: A004  both kinds are this one's

from hookcast_app.redis.binary import find_binary
from hookcast_app.redis.servers import SLOTS, ranges
from tests.support.ports import free_port

MASTERS = 3
NODE_TIMEOUT_MS = 1_500
"""After so long a master that does not answer is replaced by its replica."""


class RedisCluster:
    """Nodes 0 to 2 are the masters at first, 3 to 5 their replicas."""

    def __init__(self, directory: Path) -> None:
        self.ports = [free_port() for _ in range(2 * MASTERS)]
        self._bus_ports = [free_port() for _ in self.ports]
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Of one of the nodes."""
        return f"redis://127.0.0.1:{self.ports[0]}"

    def client(self, node: int) -> Redis:
        """To one node alone."""
        return Redis(host="127.0.0.1", port=self.ports[node])

    async def start(self) -> None:
        """Starts all nodes and waits until all slots are served and replicated."""
        for node in range(len(self.ports)):
            (self._directory / str(node)).mkdir()
            self._processes.append(self._launched(node))
        for node in range(len(self.ports)):
            await self._told(node, "PING")
        await self._join()

    def _launched(self, node: int) -> subprocess.Popen[bytes]:
        directory = self._directory / str(node)
        options = ["--port", str(self.ports[node]), "--cluster-port", str(self._bus_ports[node])]
        options += ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
        options += ["--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", ""]
        options += ["--dir", str(directory), "--logfile", str(directory / "log")]
        return subprocess.Popen([find_binary().path, *options])

    async def _join(self) -> None:
        for node, slots in enumerate(ranges(MASTERS)):
            await self._told(node, "CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
        for node in range(len(self.ports)):
            await self._told(node, "CLUSTER", "SET-CONFIG-EPOCH", node + 1)
            if node:
                await self._told(node, "CLUSTER", "MEET", "127.0.0.1", self.ports[0], self._bus_ports[0])
        for node in range(MASTERS, 2 * MASTERS):
            master = (await self._told(node - MASTERS, "CLUSTER", "MYID")).decode()
            await self._until(node, partial(_names, master), "CLUSTER", "NODES")
            await self._told(node, "CLUSTER", "REPLICATE", master)
        for node in range(len(self.ports)):
            await self._until(node, lambda info: "cluster_state:ok" in info, "CLUSTER", "INFO")
            await self._until(node, lambda info: f"cluster_slots_ok:{SLOTS}" in info, "CLUSTER", "INFO")
            await self._until(node, lambda info: f"cluster_known_nodes:{len(self.ports)}" in info, "CLUSTER", "INFO")
        for node in range(MASTERS, 2 * MASTERS):
            await self._until(node, lambda info: "master_link_status:up" in info, "INFO", "replication")

    def signal(self, node: int, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT to one node."""
        os.kill(self._processes[node].pid, number)
        if number == signal.SIGKILL:
            self._processes[node].wait()

    async def replaced(self, node: int) -> None:
        """Waits until a replica has taken over from a master that was killed or stopped."""
        await self._until(node + MASTERS, lambda info: "role:master" in info, "INFO", "replication")
        await self._until(node + MASTERS, lambda info: "cluster_state:ok" in info, "CLUSTER", "INFO")

    async def restart(self, node: int) -> None:
        """Starts a node that was killed, and waits until it is the replica of the one that took over from it."""
        self._processes[node] = self._launched(node)
        await self._until(node, lambda info: "master_link_status:up" in info, "INFO", "replication")

    def stop(self) -> None:
        """Ends all nodes."""
        for process in self._processes:
            process.kill()
            process.wait()

    async def _told(self, node: int, *command: str | int) -> bytes:
        async with asyncio.timeout(20), self.client(node) as client:
            while True:
                try:
                    return cast("bytes", await client.execute_command(*map(str, command)))  # type: ignore[no-untyped-call]
                except (ConnectionError, BusyLoadingError):
                    await asyncio.sleep(0.02)  # it starts

    async def _until(self, node: int, holds: Callable[[str], bool], *command: str) -> None:
        """Waits until what a node says of itself is as wanted."""
        async with asyncio.timeout(30), self.client(node) as client:
            client.response_callbacks.clear()  # the text as it comes
            while True:
                try:
                    answer = cast("bytes", await client.execute_command(*command))  # type: ignore[no-untyped-call]
                except (ConnectionError, BusyLoadingError):
                    answer = b""  # it starts
                if holds(answer.decode()):
                    return
                await asyncio.sleep(0.02)


def _names(node: str, nodes: str) -> bool:
    return node in nodes


@asynccontextmanager
async def running_redis_cluster() -> AsyncIterator[RedisCluster]:
    """Six nodes; gone with everything in them at the end."""
    with tempfile.TemporaryDirectory(prefix="hookcast-") as directory:
        cluster = RedisCluster(Path(directory))
        try:
            await cluster.start()
            yield cluster
        finally:
            cluster.stop()
