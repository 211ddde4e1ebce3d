"""Connections are kept, bounded, shared in order, and replaced where the endpoint closed them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hookcast_app.outgoing import AttemptFailed, HttpClient
from hookcast_app.outgoing.connection import Connection
from hookcast_core.errors import Reason
from tests.integration.outgoing.endpoint import (
    OK,
    Endpoint,
    Respond,
    answer,
    answer_and_close,
    hang,
    scripted,
    until,
)

HEADERS = b"content-type: application/json\r\nwebhook-id: msg_1\r\n"
Serve = Callable[..., Awaitable[Endpoint]]
MakeClient = Callable[..., HttpClient]


async def fail(client: HttpClient, endpoint: Endpoint, *, timeout_ms: int = 5_000) -> AttemptFailed:
    """Post what is expected to fail; how it did."""
    with pytest.raises(AttemptFailed) as failure:
        await client.post(endpoint.url(), HEADERS, b"{}", timeout_ms=timeout_ms)
    return failure.value


async def test_a_connection_is_used_again(serve: Serve, client: HttpClient) -> None:
    """Posts one after another to one endpoint share a connection."""
    endpoint = await serve(answer())

    for _ in range(5):
        await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    assert (endpoint.connections, len(endpoint.requests)) == (1, 5)


async def test_users_of_a_url_can_be_kept_apart(serve: Serve, client: HttpClient) -> None:
    """A pool's connections are its own."""
    endpoint = await serve(answer())

    for pool in ("a", "b", "a"):
        await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000, pool=pool)

    assert endpoint.connections == 2


@pytest.mark.parametrize("connection", [b"", b"connection: close\r\n"])
async def test_an_endpoint_has_no_more_connections_than_it_may(
    serve: Serve, make_client: MakeClient, connection: bytes
) -> None:
    """Posts beyond the bound wait for a connection, or for the place of one that is closed; all are answered."""
    now, most = 0, 0

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        writer.write(b"HTTP/1.1 200 OK\r\n" + connection + b"content-length: 0\r\n\r\n")

    endpoint = await serve(respond)
    client = make_client(connections_per_endpoint=3)

    posts = [client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000) for _ in range(30)]
    answers = await asyncio.gather(*posts)

    assert [got.status for got in answers] == [200] * 30
    assert most == 3
    assert endpoint.connections == (30 if connection else 3)


async def test_a_post_that_waits_too_long_for_a_connection_says_so(serve: Serve, make_client: MakeClient) -> None:
    """The time-out counts from the call."""
    endpoint = await serve(hang)
    client = make_client(connections_per_endpoint=1)
    first = asyncio.create_task(client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000))
    await until(lambda: len(endpoint.requests) == 1)

    failure = await fail(client, endpoint, timeout_ms=50)

    assert failure.reason is Reason.CONNECT_TIMEOUT
    assert endpoint.connections == 1
    first.cancel()


@pytest.mark.parametrize("connection", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
async def test_those_who_gave_up_waiting_keep_no_place(
    serve: Serve, make_client: MakeClient, connection: bytes
) -> None:
    """Cancelled before, and in the very moment in which a connection or its place is handed over: the next gets it."""
    endpoint = await serve(answer(b"HTTP/1.1 200 OK\r\n" + connection + b"content-length: 0\r\n\r\n"))
    client = make_client(connections_per_endpoint=1)

    async def first() -> None:
        await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)
        second.cancel()

    leading = asyncio.create_task(first())
    await asyncio.sleep(0)
    second, third, fourth = [
        asyncio.create_task(client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)) for _ in range(3)
    ]
    await asyncio.sleep(0)
    third.cancel()

    await asyncio.wait([leading, second, third, fourth])

    assert third.cancelled()
    assert second.cancelled()
    assert fourth.result().status == 200
    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200


async def test_a_failure_to_open_gives_its_place_to_the_next(serve: Serve, make_client: MakeClient) -> None:
    """A place is not lost with the connection that was to take it."""
    endpoint = await serve(answer())
    failures = [OSError("no"), OSError("no")]

    async def resolve(_host: str) -> list[str]:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return ["127.0.0.1"]

    client = make_client(resolve=resolve, connections_per_endpoint=1)
    url = endpoint.url(host="shop.example")

    got = await asyncio.gather(
        *[client.post(url, HEADERS, b"", timeout_ms=5_000) for _ in range(3)], return_exceptions=True
    )

    assert [type(result).__name__ for result in got] == ["AttemptFailed", "AttemptFailed", "Answer"]


async def test_an_idle_connection_is_closed_after_some_time(serve: Serve, make_client: MakeClient) -> None:
    """An endpoint that gets nothing costs no socket."""
    endpoint = await serve(answer())
    client = make_client(idle_seconds=0.05)

    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)
    await until(lambda: endpoint.ended == 1)

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200
    assert endpoint.connections == 2


async def test_a_connection_in_use_is_not_idle(serve: Serve, make_client: MakeClient) -> None:
    """A slow answer is waited for, though idle connections are closed sooner."""

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(OK)

    endpoint = await serve(respond)
    client = make_client(idle_seconds=0.02)

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200


async def test_an_old_connection_is_not_used_again(serve: Serve, make_client: MakeClient) -> None:
    """However busy an endpoint is, its name is resolved and judged again from time to time."""
    endpoint = await serve(answer())
    client = make_client(max_age_seconds=0.0)

    for _ in range(3):
        await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    assert endpoint.connections == 3


async def test_a_connection_that_the_endpoint_closed_while_idle_is_replaced(serve: Serve, client: HttpClient) -> None:
    """A closed connection that we know of is never tried."""
    endpoint = await serve(answer())
    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    endpoint.writers[0].close()
    await until(lambda: endpoint.ended == 1)

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200
    assert (endpoint.connections, len(endpoint.requests)) == (2, 2)


async def test_a_kept_connection_that_was_closed_before_an_answer_is_replaced_once(
    serve: Serve, client: HttpClient
) -> None:
    """The race between our request and the endpoint's closing costs no attempt."""
    endpoint = await serve(scripted(answer(), answer_and_close(b""), answer()))

    statuses = [(await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status for _ in range(2)]

    assert statuses == [200, 200]
    assert (endpoint.connections, len(endpoint.requests)) == (2, 3)


async def test_a_replaced_connection_is_not_replaced_again(serve: Serve, client: HttpClient) -> None:
    """One more request at most, and its failure is the attempt's."""
    endpoint = await serve(scripted(answer(), answer_and_close(b""), answer_and_close(b""), answer()))
    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    failure = await fail(client, endpoint)

    assert failure.reason is Reason.CONNECTION_LOST
    assert len(endpoint.requests) == 3
    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (answer_and_close(b"H"), Reason.CONNECTION_LOST),
        (hang, Reason.RESPONSE_TIMEOUT),
        (answer(b"\x00"), Reason.INVALID_RESPONSE),
    ],
    ids=["after a byte", "no answer", "garbage"],
)
async def test_what_fails_otherwise_on_a_kept_connection_is_not_sent_again(
    serve: Serve, client: HttpClient, bad: Respond, reason: Reason
) -> None:
    """Only silence and then the end say that a request was not taken."""
    endpoint = await serve(scripted(answer(), bad))
    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    failure = await fail(client, endpoint, timeout_ms=200)

    assert failure.reason is reason
    assert len(endpoint.requests) == 2


async def test_an_answer_that_nobody_asked_for_ends_the_connection(serve: Serve, client: HttpClient) -> None:
    """Whatever comes while a connection is idle is never taken for the next request's answer."""
    endpoint = await serve(answer())
    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    endpoint.writers[0].write(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n")
    await until(lambda: endpoint.ended == 1)

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200


async def test_a_request_on_a_connection_that_has_just_ended_fails_at_once() -> None:
    """Between being handed over and being used a connection may end; nothing then waits for an answer."""
    connection = Connection(asyncio.get_running_loop(), lambda _: None)

    with pytest.raises(AttemptFailed) as failure:
        await connection.exchange(b"", 0.0)

    assert failure.value.reason is Reason.CONNECTION_LOST
    assert not connection.is_stale
