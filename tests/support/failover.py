"""A Redis with a replica behind one address, which leads to the replica once the master is killed."""

import signal
from pathlib import Path

from redis.asyncio import Redis

from tests.support.app import eventually
from tests.support.durable import DurableRedis
from tests.support.ports import free_port


class ReplicatedRedis:
    """Keeps nothing on disk: what survives the master is what its replica has. `url` stays the same over fail-overs.

    The address is a symbolic link to the socket of the master of the moment, so that it costs nobody any time.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.url = f"unix://{directory / 'redis.sock'}"
        self._nodes: list[DurableRedis] = []
        self._ports: list[int] = []

    @property
    def master(self) -> DurableRedis:
        """The one that the address leads to: the last but one that was started, or after a fail-over the last."""
        return self._nodes[self._master]

    @property
    def replica(self) -> DurableRedis:
        """The one that was started last."""
        return self._nodes[-1]

    async def start(self) -> None:
        """Starts both and waits until the replica is in step."""
        await self._add()
        self._lead_to(0)
        await self.attach()

    async def attach(self) -> None:
        """Starts a new replica and waits until it is in step."""
        await self._add()
        async with Redis.from_url(self.replica.url) as replica:
            await replica.replicaof("127.0.0.1", str(self._ports[self._master]))

            async def is_in_step() -> bool:
                return bool((await replica.info("replication"))["master_link_status"] == "up")

            await eventually(is_in_step, within=60)

    async def detach(self) -> None:
        """The replica gets nothing more from the master, as if their link were cut, until it is promoted.

        Freezing it would not do: it would read on from its socket, which outlives the master.
        """
        async with Redis.from_url(self.replica.url) as replica:
            await replica.replicaof("NO", "ONE")

    async def promote(self) -> None:
        """Kills the master and makes the replica the master; it has no replica then until one is attached."""
        self.master.signal(signal.SIGKILL)
        await self.detach()
        self._lead_to(len(self._nodes) - 1)

    def stop(self) -> None:
        """Ends both for good."""
        for node in self._nodes:
            node.stop()

    async def _add(self) -> None:
        self._ports.append(free_port())
        options = ["--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        options += ["--port", str(self._ports[-1]), "--bind", "127.0.0.1"]
        self._nodes.append(DurableRedis(self._directory / str(len(self._nodes)), *options))
        await self.replica.start()

    def _lead_to(self, number: int) -> None:
        self._master = number
        link = self._directory / "next.sock"
        link.symlink_to(self.master.url.removeprefix("unix://"))
        link.rename(self._directory / "redis.sock")
