"""The hub: who gets what, in how many writes."""

import asyncio
import time

import pytest

from hookcast_app.realtime import framing
from hookcast_app.realtime.framing import Encoding
from hookcast_app.realtime.hub import FLUSH_BYTES, Hub
from hookcast_app.realtime.protocol import encode_publication
from hookcast_app.realtime.stats import Stats


class Recorder:
    """A connection that keeps what is written to it."""

    def __init__(self, encoding: Encoding = Encoding.LINES) -> None:
        self.encoding = encoding
        self.writes: list[bytes] = []
        self.interruptions: list[str] = []

    def write(self, frames: bytes, /) -> None:
        self.writes.append(frames)

    def interrupted(self, channel: str) -> None:
        self.interruptions.append(channel)

    def disconnect(self) -> None:
        raise AssertionError("the hub disconnects nobody")


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def hub(stats: Stats) -> Hub:
    return Hub(stats)


def line(channel: str, number: int) -> bytes:
    return b'{"push":{"channel":"%b","pub":{"data":%d}}}\n' % (channel.encode(), number)


def publish(hub: Hub, channel: str, *numbers: int) -> None:
    for number in numbers:
        hub.publish(channel, encode_publication(b"%d" % number))


async def test_what_is_published_in_one_tick_is_one_write_of_shared_bytes(hub: Hub, stats: Stats) -> None:
    """Each client is written to once, all with the very same object."""
    one, two = Recorder(), Recorder()
    hub.subscribe("a", one)
    hub.subscribe("a", two)

    publish(hub, "a", 1, 2, 3)
    assert one.writes == []
    await asyncio.sleep(0)

    assert one.writes == [line("a", 1) + line("a", 2) + line("a", 3)]
    assert one.writes[0] is two.writes[0]
    assert (stats.publications, stats.deliveries) == (3, 6)


async def test_clients_with_the_same_channels_to_come_share_one_write(hub: Hub) -> None:
    """Each gets its own channels and no others, in one write, in each channel's order."""
    both, alike, only_a, only_b = (Recorder() for _ in range(4))
    for channel, members in {"a": (both, alike, only_a), "b": (both, alike, only_b)}.items():
        for member in members:
            hub.subscribe(channel, member)

    publish(hub, "a", 1)
    publish(hub, "b", 2)
    publish(hub, "a", 3)
    await asyncio.sleep(0)

    assert both.writes == [line("a", 1) + line("a", 3) + line("b", 2)]
    assert both.writes[0] is alike.writes[0]
    assert only_a.writes == [line("a", 1) + line("a", 3)]
    assert only_b.writes == [line("b", 2)]


class Laborious(Recorder):
    """One that takes a while to be written to, and so stands for thousands."""

    def write(self, frames: bytes, /) -> None:
        super().write(frames)
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            pass


async def test_after_a_long_flush_publications_wait_for_one_another(hub: Hub) -> None:
    """For about as long as that took; what must not wait (an answer goes out behind it) does not."""
    client = Laborious()
    hub.subscribe("a", client)
    publish(hub, "a", 1)
    await asyncio.sleep(0)
    publish(hub, "a", 2)
    await asyncio.sleep(0)
    publish(hub, "a", 3)
    await asyncio.sleep(0)
    assert client.writes == [line("a", 1)]

    async with asyncio.timeout(10):
        while len(client.writes) < 2:
            await asyncio.sleep(0.001)
    assert client.writes[1] == line("a", 2) + line("a", 3)
    publish(hub, "a", 4)
    hub.flush()
    assert client.writes[2:] == [line("a", 4)]


async def test_each_tick_begins_anew(hub: Hub) -> None:
    """Nothing is written twice."""
    reader = Recorder()
    hub.subscribe("a", reader)

    for number in range(3):
        publish(hub, "a", number)
        await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert reader.writes == [line("a", number) for number in range(3)]


async def test_who_comes_gets_what_comes_after(hub: Hub) -> None:
    """Not what was published before, even within one tick."""
    early, late = Recorder(), Recorder()
    hub.subscribe("a", early)

    publish(hub, "a", 1)
    hub.subscribe("a", late)
    publish(hub, "a", 2)
    await asyncio.sleep(0)

    assert b"".join(early.writes) == line("a", 1) + line("a", 2)
    assert late.writes == [line("a", 2)]


async def test_who_leaves_gets_nothing_more(hub: Hub) -> None:
    """Not even what was published in this tick; leaving twice, or what one was never in, is nothing."""
    leaver, stays = Recorder(), Recorder(Encoding.EVENTS)
    hub.subscribe("a", leaver)
    hub.subscribe("a", stays)

    publish(hub, "a", 1)
    assert hub.unsubscribe("a", leaver)
    assert not hub.unsubscribe("a", leaver)
    assert not hub.unsubscribe("b", leaver)
    assert hub.count("a") == 1
    await asyncio.sleep(0)
    assert hub.unsubscribe("a", stays)
    publish(hub, "a", 2)
    await asyncio.sleep(0)

    assert leaver.writes == []
    assert stays.writes == [b"data: 1\n\n"]
    assert hub.count("a") == 0


async def test_a_buffer_that_grows_large_is_written_before_the_tick_ends(hub: Hub) -> None:
    """One write stays near what a socket takes, whatever a tick brings."""
    reader = Recorder()
    hub.subscribe("a", reader)
    publication = encode_publication(b'"%b"' % (b"x" * (FLUSH_BYTES // 4)))

    for _ in range(8):
        hub.publish("a", publication)

    assert len(reader.writes) == 2
    assert all(len(written) < 2 * FLUSH_BYTES for written in reader.writes)


async def test_each_encoding_is_made_once_a_publication(hub: Hub) -> None:
    """Clients of every kind share a channel."""
    readers = {encoding: Recorder(encoding) for encoding in Encoding}
    for reader in readers.values():
        hub.subscribe("a", reader)

    publish(hub, "a", 7)
    await asyncio.sleep(0)

    assert readers[Encoding.LINES].writes == [line("a", 7)]
    assert readers[Encoding.FRAMES].writes == [framing.frame(line("a", 7)[:-1])]
    assert readers[Encoding.EVENTS].writes == [b"data: 7\n\n"]
    assert readers[Encoding.NAMED_EVENTS].writes == [b'data: {"channel":"a","data":7}\n\n']
    assert readers[Encoding.PUBLICATIONS].writes == [b'{"data":7}\n']
    assert readers[Encoding.TYPED_FRAMES].writes == [framing.frame(b'{"type":"message","data":7}')]


async def test_the_epoch_goes_with_a_publication(hub: Hub) -> None:
    """To those who tell positions."""
    reader = Recorder(Encoding.EVENTS)
    hub.subscribe("a", reader)

    hub.publish("a", b'{"offset":3,"data":7}', "e")
    await asyncio.sleep(0)

    assert reader.writes == [b"id: e:3\ndata: 7\n\n"]


async def test_what_is_no_publication_is_not_sent_as_an_event(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the channel goes on."""
    reader = Recorder(Encoding.EVENTS)
    hub.subscribe("a", reader)

    hub.publish("a", b"no JSON")
    hub.publish("a", b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    publish(hub, "a", 1)
    await asyncio.sleep(0)

    assert reader.writes == [b"data: 1\n\n"]
    assert "publication on a" in caplog.text


async def test_an_interruption_is_told_to_every_subscriber(hub: Hub, stats: Stats) -> None:
    """Of that channel, however it listens."""
    frames, events, other = Recorder(Encoding.FRAMES), Recorder(Encoding.EVENTS), Recorder()
    hub.subscribe("a", frames)
    hub.subscribe("a", events)
    hub.subscribe("b", other)

    hub.interrupted("a")

    assert frames.interruptions == events.interruptions == ["a"]
    assert other.interruptions == []
    assert stats.interruptions == 1
