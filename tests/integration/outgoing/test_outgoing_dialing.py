"""Every connection goes to an address that was resolved and judged for it, and to no other."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from hookcast_app.outgoing import AttemptFailed, HttpClient, SystemResolver
from hookcast_app.outgoing import resolver as resolver_module
from hookcast_app.outgoing.dialer import _connect_failure
from hookcast_app.outgoing.resolver import MAX_ENTRIES, system_addresses
from hookcast_core.egress import Url, parse_url
from hookcast_core.errors import Reason
from tests.integration.outgoing.endpoint import Endpoint, answer, answer_and_close, open_files, until

Serve = Callable[..., Awaitable[Endpoint]]
MakeClient = Callable[..., HttpClient]
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Names:
    """A resolver whose answers a test sets, one after another; the last one stays."""

    def __init__(self, *answers: Sequence[str] | OSError) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        """Answer the next."""
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, OSError):
            raise found
        return found


async def fail(client: HttpClient, url: Url, *, timeout_ms: int = 5_000) -> AttemptFailed:
    """Post what is expected to fail; how it did."""
    with pytest.raises(AttemptFailed) as failure:
        await client.post(url, b"", b"{}", timeout_ms=timeout_ms)
    return failure.value


# Names


async def test_a_name_that_turns_private_is_denied_at_the_next_connection(
    serve: Serve, make_client: MakeClient
) -> None:
    """DNS rebinding: judged fine once is not judged fine for ever."""
    endpoint = await serve(answer_and_close(CLOSING))
    inside = await serve(answer(), host="127.0.0.2", port=endpoint.port)
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    client = make_client(allow=(f"127.0.0.1:{endpoint.port}",), resolve=names)
    url = endpoint.url(host="shop.example")

    first = await client.post(url, b"", b"", timeout_ms=5_000)
    failure = await fail(client, url)

    assert first.status == 200
    assert failure.reason is Reason.EGRESS_DENIED
    assert names.asked == ["shop.example", "shop.example"]
    assert inside.connections == 0


async def test_a_name_that_turns_private_is_denied_when_a_kept_connection_is_replaced(
    serve: Serve, make_client: MakeClient
) -> None:
    """Sending once more on a new connection judges once more."""
    requests = 0

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        if requests > 1:
            raise ConnectionError
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    endpoint = await serve(respond)
    inside = await serve(answer(), host="127.0.0.2", port=endpoint.port)
    client = make_client(
        allow=(f"127.0.0.1:{endpoint.port}",), resolve=Names(["127.0.0.1"], ["127.0.0.2"]), connections_per_endpoint=1
    )
    url = endpoint.url(host="shop.example")
    await client.post(url, b"", b"", timeout_ms=5_000)

    failures = [await fail(client, url), await fail(client, url)]

    assert [failure.reason for failure in failures] == [Reason.EGRESS_DENIED] * 2
    assert inside.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1", "10.0.0.1"],
        ["10.0.0.1", "127.0.0.1"],
        ["127.0.0.1", "::1"],
        ["127.0.0.1", "::ffff:10.0.0.1"],
        ["127.0.0.1", "127.0.0.1%lo"],
        ["127.0.0.1", "fe80::1%lo"],
        ["127.0.0.1"] * 10 + ["10.0.0.1"],
    ],
)
async def test_a_name_with_one_private_address_is_denied(
    serve: Serve, make_client: MakeClient, addresses: list[str]
) -> None:
    """Which of its addresses would be taken is not left to chance: all are judged."""
    endpoint = await serve(answer())
    client = make_client(resolve=Names(addresses))

    failure = await fail(client, endpoint.url(host="shop.example"))

    assert failure.reason is Reason.EGRESS_DENIED
    assert endpoint.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "0x7f000001", "localhost", "LOCALHOST."])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nothing_private_is_reached_while_nothing_is_allowed(
    serve: Serve, make_client: MakeClient, scheme: str, host: str
) -> None:
    """Neither an address in any spelling nor a name leads to ourselves, with the system's own resolver."""
    endpoint = await serve(answer())
    client = make_client(allow=())

    failure = await fail(client, parse_url(f"{scheme}://{host}:{endpoint.port}/"))

    assert failure.reason is Reason.EGRESS_DENIED
    assert endpoint.connections == 0


@pytest.mark.parametrize(
    "found", [OSError("no"), socket.gaierror(socket.EAI_NONAME, "Name or service not known"), []], ids=str
)
async def test_a_name_without_addresses_is_not_resolved(make_client: MakeClient, found: OSError | list[str]) -> None:
    """A resolver's refusal and its empty answer are the same."""
    failure = await fail(make_client(resolve=Names(found)), parse_url("https://shop.example/"))

    assert failure.reason is Reason.NAME_NOT_RESOLVED
    assert "shop.example" in failure.detail


async def test_a_resolver_that_hangs_ends_with_the_time_out(make_client: MakeClient) -> None:
    """The look-up is part of the attempt's time."""

    async def resolve(_host: str) -> Sequence[str]:
        return await asyncio.Future()

    failure = await fail(make_client(resolve=resolve), parse_url("https://shop.example/"), timeout_ms=50)

    assert failure.reason is Reason.NAME_NOT_RESOLVED


async def test_sockets_get_addresses_and_the_loop_resolves_nothing(
    serve: Serve, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between judging and connecting nothing asks for the name again."""
    endpoint = await serve(answer_and_close(CLOSING))
    client = make_client(resolve=Names(["127.0.0.1"]))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("resolved behind our back")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for host in ("shop.example", "127.0.0.1"):
        got = await client.post(endpoint.url(host=host), b"", b"", timeout_ms=5_000)
        assert got.status == 200


# Connecting


async def test_the_next_address_is_tried_when_one_refuses(serve: Serve, make_client: MakeClient) -> None:
    """One dead machine behind a name costs no attempt."""
    endpoint = await serve(answer())
    client = make_client(resolve=Names(["127.0.0.2", "127.0.0.3", "127.0.0.1"]))

    assert (await client.post(endpoint.url(host="shop.example"), b"", b"", timeout_ms=5_000)).status == 200


async def test_an_endpoint_that_refuses_connections_is_told_apart(make_client: MakeClient) -> None:
    """A closed port is not a time-out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    failure = await fail(make_client(), parse_url(f"http://127.0.0.1:{port}/"))

    assert failure.reason is Reason.CONNECT_FAILED
    assert "127.0.0.1" not in failure.detail


def test_a_failure_without_a_number_is_still_told() -> None:
    """Several errors in one, as asyncio raises them, have no errno and hold addresses."""
    failure = _connect_failure(OSError("Multiple exceptions: [Errno 111] ('10.0.0.1', 80)"), timed_out=False)

    assert (failure.reason, failure.detail) == (Reason.CONNECT_FAILED, "no TCP connection")


async def test_a_cancelled_post_leaves_no_half_open_connection(make_client: MakeClient) -> None:
    """Giving up while connecting frees the socket."""
    hole, client = Blackhole(), make_client()
    url = parse_url(f"http://127.0.0.1:{hole.port}/")
    await fail(client, url, timeout_ms=20)
    before = open_files()

    post = asyncio.create_task(client.post(url, b"", b"", timeout_ms=5_000))
    await until(lambda: open_files() > before)
    post.cancel()

    await until(lambda: open_files() <= before)
    assert post.cancelled()
    hole.close()


class Blackhole:
    """A listening socket that takes no more connections: further ones get no answer at all."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.socket()
        self._listener.bind((address, port))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fill = [socket.socket() for _ in range(4)]
        for one in self._fill:
            one.setblocking(False)
            one.connect_ex((address, self.port))

    def close(self) -> None:
        """Close all of it."""
        for one in (*self._fill, self._listener):
            one.close()


async def test_an_endpoint_that_takes_no_connection_times_out_as_such(make_client: MakeClient) -> None:
    """A firewall that drops packets is told apart from an endpoint that thinks for long, and leaves no socket."""
    hole, client = Blackhole(), make_client()
    url = parse_url(f"http://127.0.0.1:{hole.port}/")
    first = await fail(client, url, timeout_ms=100)
    before = open_files()

    more = [await fail(client, url, timeout_ms=20) for _ in range(5)]

    assert {failure.reason for failure in (first, *more)} == {Reason.CONNECT_TIMEOUT}
    await until(lambda: open_files() <= before)
    hole.close()


async def test_an_address_that_takes_no_connection_leaves_time_for_the_next(
    serve: Serve, make_client: MakeClient
) -> None:
    """Each address has its share of the time for connecting."""
    endpoint = await serve(answer())
    hole = Blackhole("127.0.0.2", endpoint.port)
    client = make_client(resolve=Names(["127.0.0.2", "127.0.0.1"]))

    got = await client.post(endpoint.url(host="shop.example"), b"", b"", timeout_ms=1_000)

    assert got.status == 200
    hole.close()


# The system's resolver


class LookUp:
    """Counts look-ups, each of which waits until the test lets it go on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.fails = False

    def __call__(self, host: str) -> Sequence[str]:
        """Look up, blocking."""
        self.asked.append(host)
        assert self.go_on.wait(5)
        if self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return (f"192.0.2.{len(self.asked)}",)


async def test_a_name_is_looked_up_once_at_a_time_and_its_answer_kept_for_some_seconds() -> None:
    """Many posts to one name are one question, asked again when the answer has become old."""
    look_up, now = LookUp(), [100.0]
    resolver = SystemResolver(look_up, ttl_seconds=5, clock=lambda: now[0])
    asking = [asyncio.create_task(resolver("shop.example")) for _ in range(3)]
    await until(lambda: look_up.asked == ["shop.example"])
    asking[0].cancel()
    look_up.go_on.set()

    together = await asyncio.gather(*asking[1:])
    now[0] = 104.9
    kept = await resolver("shop.example")
    now[0] = 105.1
    again = await resolver("shop.example")

    assert together == [("192.0.2.1",)] * 2
    assert (kept, again) == (("192.0.2.1",), ("192.0.2.2",))
    resolver.close()


async def test_a_failed_look_up_is_not_kept() -> None:
    """A name that appears works with the next attempt."""
    look_up = LookUp()
    look_up.go_on.set()
    look_up.fails = True
    resolver = SystemResolver(look_up)

    with pytest.raises(OSError, match="later"):
        await resolver("shop.example")
    look_up.fails = False

    assert await resolver("shop.example") == ("192.0.2.2",)
    resolver.close()


async def test_a_resolver_keeps_a_bounded_number_of_answers() -> None:
    """Subscribing to ever new names does not fill the memory."""
    resolver = SystemResolver(lambda _host: ("192.0.2.1",))

    for number in range(MAX_ENTRIES):
        resolver._known[f"{number}.example"] = (0.0, ())
    await resolver("shop.example")

    assert len(resolver._known) == MAX_ENTRIES
    assert "0.example" not in resolver._known
    resolver.close()


async def test_look_ups_that_wait_fail_when_the_resolver_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A post on its way at shutdown fails like others; it is not taken for a cancelled one."""
    monkeypatch.setattr(resolver_module, "THREADS", 1)
    look_up = LookUp()
    resolver = SystemResolver(look_up)
    running, waiting = asyncio.create_task(resolver("a.example")), asyncio.create_task(resolver("b.example"))
    await until(lambda: look_up.asked == ["a.example"])

    resolver.close()
    look_up.go_on.set()

    with pytest.raises(OSError, match="closed"):
        await waiting
    assert await running == ("192.0.2.1",)


def test_the_system_knows_its_own_name() -> None:
    """The look-up gives addresses, each once."""
    found = system_addresses("localhost")

    assert "127.0.0.1" in found or "::1" in found
    assert len(set(found)) == len(found)
