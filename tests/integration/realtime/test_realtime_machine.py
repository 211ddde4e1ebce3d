"""No client sees a gap, a repetition or another order that it was not told of, whatever happens and in which order."""

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hookcast_app.realtime import Outgoing, Read, encode_publication
from tests.integration.realtime.server import Server, serving
from tests.support.realtime.follower import Follower, Refused
from tests.support.realtime.ledger import Ledger, Place
from tests.support.realtime.socket import opened
from tests.support.valkey import running_valkey

T = TypeVar("T")
EXAMPLES = int(os.environ.get("REALTIME_EXAMPLES", "60"))
KEPT = 5
NAMESPACES = {"": {"subscribe": "anyone", "publish": "subscribers", "history_size": KEPT, "recover": True}}
SERVERS, CLIENTS, CHANNELS = 2, 3, 2
PATIENCE = 10.0
which_server = st.integers(0, SERVERS - 1)
which_client = st.integers(0, CLIENTS - 1)
which_channel = st.integers(0, CHANNELS - 1)
some = st.integers(1, KEPT + 2)

Deed = Callable[[], Awaitable[None]]


class Broadcasting(RuleBasedStateMachine):
    """Two servers over one Redis, and clients of either. What rules begin happens together, once `happen` is called."""

    runner: asyncio.Runner
    servers: list[Server]
    examples = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.channels = [f"{name}{self.examples}" for name in "ab"]
        self.ledger = Ledger(kept=lambda _: KEPT)
        self.deeds: list[Deed] = []
        self.said = 0
        self.is_unnoticed = False
        self.clients = [self.client(number) for number in range(CLIENTS)]
        self.do(self.started())

    def client(self, number: int) -> Follower:
        """One that comes to the servers in turn."""
        ports = [server.port for server in self.servers]
        turns = iter(range(number, 1_000_000))
        return Follower(f"client {number}", lambda: opened(ports[next(turns) % SERVERS]), self.channels, self.ledger)

    async def started(self) -> None:
        self.tasks = [asyncio.create_task(client.run()) for client in self.clients]

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.do(self.ended())

    async def ended(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    def do(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return self.runner.run(done())

    def next(self) -> int:
        """What is published next: nothing twice."""
        self.said += 1
        return self.said

    # What may happen

    @rule(server=which_server, channel=which_channel)
    def publish(self, server: int, channel: int) -> None:
        self.deeds.append(lambda: self.published(server, channel, 1))

    @rule(server=which_server, channel=which_channel, count=some)
    def publish_a_batch(self, server: int, channel: int, count: int) -> None:
        self.deeds.append(lambda: self.published(server, channel, count))

    async def published(self, server: int, channel: int, count: int) -> None:
        name, data = self.channels[channel], [self.next() for _ in range(count)]
        streams = self.servers[server].realtime.backend.streams
        sent = streams.send([Outgoing(name, encode_publication(b"%d" % each)) for each in data])
        for each, position in zip(data, await asyncio.gather(*sent), strict=True):
            self.ledger.note(name, Place(position.epoch, position.offset), each)

    @rule(client=which_client, channel=which_channel)
    def say(self, client: int, channel: int) -> None:
        async def said() -> None:
            with suppress(Refused):  # it is not subscribed, or was cut off
                await self.clients[client].publish(self.channels[channel], self.next())

        self.deeds.append(said)

    @rule(client=which_client, channel=which_channel)
    def leave(self, client: int, channel: int) -> None:
        self.soon(lambda: self.clients[client].unsubscribe(self.channels[channel]))

    @rule(client=which_client, channel=which_channel)
    def come_back(self, client: int, channel: int) -> None:
        self.soon(lambda: self.clients[client].subscribe(self.channels[channel]))

    @rule(client=which_client)
    def cut_off(self, client: int) -> None:
        self.soon(self.clients[client].cut)

    def soon(self, deed: Callable[[], None]) -> None:
        async def done() -> None:
            deed()

        self.deeds.append(done)

    @rule()
    def cut_the_servers_off(self) -> None:
        async def killed() -> None:
            await self.servers[0].redis.client_kill_filter(_type="pubsub")

        self.deeds.append(killed)

    @rule(server=which_server, channel=which_channel)
    def lose_a_publication(self, server: int, channel: int) -> None:
        """Redis does not do that; what comes after it must tell."""

        def losing() -> None:
            feed = self.servers[server].realtime._broker._feeds.get(self.channels[channel])
            if feed is not None:
                self.is_unnoticed = True
                _losing(feed)

        self.soon(losing)

    @rule(channel=which_channel)
    def remove_a_history(self, channel: int) -> None:
        name = self.channels[channel]
        self.ledger.shortened.add(name)
        self.deeds.append(lambda: self.servers[0].realtime.backend.streams.forget(name))

    @rule()
    def empty_redis(self) -> None:
        async def flushed() -> None:
            self.is_unnoticed = True
            await self.servers[0].redis.flushall()

        self.deeds.append(flushed)

    @rule(pauses=st.lists(st.integers(0, 4), min_size=1, max_size=8))
    def happen(self, pauses: list[int]) -> None:
        """All that was begun, with pauses between in half milliseconds: answers come in, or do not."""

        async def happened() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number, deed in enumerate(self.deeds):
                    tasks.create_task(_done(deed))
                    await asyncio.sleep(pauses[number % len(pauses)] / 2000)

        self.do(happened())
        self.deeds = []

    @rule()
    def settle(self) -> None:
        """In the end every client has come to where its channels stand, and nobody was told anything else."""
        self.happen([0])
        self.do(self.settled())

    async def settled(self) -> None:
        for server in self.servers:
            for feed in server.realtime._broker._feeds.values():
                vars(feed).pop("arrived", None)  # nothing is lost from here on
        streams = self.servers[0].realtime.backend.streams
        for number, channel in enumerate(self.channels):
            if self.is_unnoticed:  # another history, or a loss, is noticed by what is published then
                await self.published(0, number, 1)
            read = await streams.history(channel, "-", "+", -1)
            top = Place(read.position.epoch, read.position.offset)
            for offset, publication in read.publications:
                self.ledger.note(channel, Place(top.epoch, offset), json.loads(publication)["data"])
            async with asyncio.timeout(PATIENCE):
                for client in self.clients:
                    trail = client.trails[channel]
                    while channel in client.wanted and not (trail.is_subscribed and trail.place == top):
                        assert self.ledger.violations == [], self.ledger.violations
                        await asyncio.sleep(0.002)
        self.is_unnoticed = False

    @invariant()
    def nothing_is_missed_in_silence(self) -> None:
        assert self.ledger.violations == [], self.ledger.violations


def _hasten_and_delay(server: Server) -> None:
    """It comes back at once, however often it is cut off; what it reads is sometimes a while on the way."""
    for connection in server.realtime._broker._connections.values():
        connection._backoff = lambda _: 0.002
    streams, chance = server.realtime.backend.streams, random.Random(1)  # noqa: S311  any moment will do
    history = streams.history

    async def delayed(*asked: Any, **more: Any) -> Read:
        read = await history(*asked, **more)
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.004]))
        return read

    streams.history = delayed  # type: ignore[method-assign]


def _losing(feed: Any) -> None:
    """The next publication does not arrive."""

    def lost(_data: bytes) -> None:
        vars(feed).pop("arrived")

    feed.arrived = lost


async def _done(deed: Deed) -> None:
    await deed()


@pytest.mark.timeout(30 + 10 * EXAMPLES)
def test_no_order_of_events_is_silent_about_a_gap() -> None:
    """Publications by anybody, clients and servers cut off, histories that are short, removed, or of another life."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()

        async def started() -> list[Server]:
            url = await stack.enter_async_context(running_valkey())
            servers = [
                await stack.enter_async_context(serving(url, channel_namespaces=NAMESPACES)) for _ in range(SERVERS)
            ]
            for server in servers:
                _hasten_and_delay(server)
            return servers

        servers_ = runner.run(started())
        try:
            machine = type("Machine", (Broadcasting,), {"runner": runner, "servers": servers_})
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    # The same rules need not take the same course: there is nothing to shrink or to keep.
                    phases=[Phase.generate],
                    database=None,
                    report_multiple_bugs=False,
                ),
            )
        finally:
            runner.run(stack.aclose())
