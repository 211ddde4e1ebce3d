"""The outgoing client posts exact bytes, keeps connections, and ends every attempt with an answer or a reason."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hookcast_app.outgoing import AttemptFailed, HttpClient
from hookcast_app.outgoing.response import HEAD_BYTES
from hookcast_core.errors import Reason
from tests.integration.outgoing.endpoint import (
    OK,
    Endpoint,
    Respond,
    answer,
    answer_and_close,
    hang,
    repeat,
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


# Requests and answers


async def test_a_post_sends_the_bytes_that_it_was_given(serve: Serve, client: HttpClient) -> None:
    """Nothing is added but request line, Host and Content-Length; the body stays as it was signed."""
    endpoint = await serve(answer(b"HTTP/1.1 202 Accepted\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nfine"))

    got = await client.post(endpoint.url(target="/h?a=%20b"), HEADERS, b'{"a":\xc3\xa9}', timeout_ms=5_000)

    host = f"127.0.0.1:{endpoint.port}".encode()
    assert endpoint.requests == [
        b"POST /h?a=%20b HTTP/1.1\r\nhost: " + host + b"\r\n" + HEADERS + b'content-length: 8\r\n\r\n{"a":\xc3\xa9}'
    ]
    assert (got.status, got.retry_after, got.head) == (202, "3", b"fine")
    assert 0 <= got.duration_ms < 5_000


async def test_a_large_body_arrives_whole(serve: Serve, client: HttpClient) -> None:
    """A body larger than any buffer on the way is sent like a small one."""
    endpoint = await serve(answer())
    body = b"0123456789abcdef" * 100_000

    got = await client.post(endpoint.url(), HEADERS, body, timeout_ms=5_000)

    assert got.status == 200
    assert endpoint.requests[0].endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("status", [200, 204, 302, 404, 410, 429, 500, 503])
async def test_every_status_is_an_answer(serve: Serve, client: HttpClient, status: int) -> None:
    """What a status means is decided elsewhere."""
    endpoint = await serve(answer(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status))

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == status


async def test_a_body_without_length_ends_with_the_connection(serve: Serve, client: HttpClient) -> None:
    """Old servers answer so."""
    endpoint = await serve(answer_and_close(b"HTTP/1.0 200 OK\r\n\r\nold"))

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).head == b"old"


async def test_a_redirect_is_not_followed(serve: Serve, client: HttpClient) -> None:
    """A public endpoint cannot send us on to a private one."""
    private = await serve(answer())
    redirect = f"HTTP/1.1 302 Found\r\nLocation: {private.url()}\r\nContent-Length: 0\r\n\r\n".encode()
    endpoint = await serve(answer(redirect))

    got = await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    assert got.status == 302
    assert private.connections == 0


async def test_a_proxy_in_the_environment_is_not_used(
    serve: Serve, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve and connect without our judgement."""
    proxy, endpoint = await serve(answer()), await serve(answer())
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, str(proxy.url()))

    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    assert (proxy.connections, endpoint.connections) == (0, 1)


# What goes wrong


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (answer_and_close(b""), Reason.CONNECTION_LOST),
        (answer_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), Reason.CONNECTION_LOST),
        (
            answer_and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            Reason.CONNECTION_LOST,
        ),
        (answer_and_close(b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.CONNECTION_LOST),
        (answer(b"220 mail.example ESMTP\r\n"), Reason.INVALID_RESPONSE),
        (
            answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            Reason.INVALID_RESPONSE,
        ),
        (repeat(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 100), Reason.INVALID_RESPONSE),
        (repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10), Reason.INVALID_RESPONSE),
        (hang, Reason.RESPONSE_TIMEOUT),
    ],
    ids=[
        "closed",
        "closed in the body",
        "closed in a chunk",
        "closed after 100",
        "no HTTP",
        "upgraded",
        "endless headers",
        "endless 100",
        "no answer",
    ],
)
async def test_a_bad_endpoint_is_left_with_its_reason(
    serve: Serve, client: HttpClient, respond: Respond, reason: Reason
) -> None:
    """Each way to fail has its own reason, sends the request once, and leaves no connection open."""
    endpoint = await serve(respond)

    failure = await fail(client, endpoint, timeout_ms=500)

    assert failure.reason is reason
    assert len(endpoint.requests) == 1
    await until(lambda: endpoint.ended == 1)


async def test_a_time_out_bounds_the_whole_attempt(serve: Serve, client: HttpClient) -> None:
    """An endpoint that sends a byte from time to time gains nothing by it."""
    endpoint = await serve(repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b"x", pause=0.02))
    loop = asyncio.get_running_loop()
    start = loop.time()

    failure = await fail(client, endpoint, timeout_ms=300)

    assert failure.reason is Reason.RESPONSE_TIMEOUT
    assert 0.29 < loop.time() - start < 20


async def test_each_attempt_on_a_kept_connection_has_its_own_time_out(serve: Serve, client: HttpClient) -> None:
    """A long time-out before does not lengthen a short one, and a short one before does not shorten a long one."""

    async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(OK)

    endpoint = await serve(scripted(answer(), slow, answer(), hang))
    loop = asyncio.get_running_loop()

    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=50)
    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200
    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)
    start = loop.time()
    failure = await fail(client, endpoint, timeout_ms=100)

    assert failure.reason is Reason.RESPONSE_TIMEOUT
    assert 0.09 < loop.time() - start < 4
    assert endpoint.connections == 1


async def test_the_timer_of_an_idle_connection_harms_nothing(serve: Serve, client: HttpClient) -> None:
    """A deadline that passes after its answer came closes no connection."""
    endpoint = await serve(answer())
    await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)
    (pool,) = client._pools.values()

    pool._idle[0]._on_timer()  # a real deadline so short that a test can wait for it may pass before the answer

    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200
    assert endpoint.connections == 1


@pytest.mark.parametrize(
    "respond",
    [
        repeat(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000),
        repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", b"x" * 1_000),
        repeat(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100),
        repeat(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000),
        repeat(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: ", b"x" * 1_000),
    ],
    ids=["to the end", "by length", "chunks", "chunk extension", "trailer"],
)
async def test_an_endless_body_is_cut_and_its_status_counts(serve: Serve, client: HttpClient, respond: Respond) -> None:
    """An endpoint cannot keep us reading, and has answered."""
    endpoint = await serve(respond)

    got = await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)

    assert got.status == 200
    assert len(got.head) <= HEAD_BYTES
    await until(lambda: endpoint.ended == 1)


async def test_an_endpoint_that_speaks_first_gets_no_answer_read(make_client: MakeClient) -> None:
    """A server of another protocol is told apart, whether its greeting or our request is first."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    endpoint = Endpoint(hang)
    endpoint._server = server

    failure = await fail(make_client(), endpoint, timeout_ms=2_000)

    assert failure.reason in {Reason.CONNECTION_LOST, Reason.INVALID_RESPONSE}
    server.close()
    await server.wait_closed()


async def test_a_cancelled_post_closes_its_connection(serve: Serve, client: HttpClient) -> None:
    """Whoever gives up an attempt leaves nothing behind, and the next post is not disturbed."""
    endpoint = await serve(scripted(hang, answer()))
    post = asyncio.create_task(client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000))
    await until(lambda: len(endpoint.requests) == 1)

    post.cancel()

    await until(lambda: endpoint.ended == 1)
    assert post.cancelled()
    assert (await client.post(endpoint.url(), HEADERS, b"", timeout_ms=5_000)).status == 200


async def test_closing_the_client_ends_everything(serve: Serve, make_client: MakeClient) -> None:
    """Idle connections are closed, posts on the way and in line fail at once, and later ones are refused."""
    busy, idle = await serve(hang), await serve(answer())
    client = make_client(connections_per_endpoint=1)
    await client.post(idle.url(), HEADERS, b"", timeout_ms=5_000)
    posts = [asyncio.create_task(client.post(busy.url(), HEADERS, b"", timeout_ms=5_000)) for _ in range(2)]
    await until(lambda: len(busy.requests) == 1)

    await client.close()
    await client.close()

    results = await asyncio.gather(*posts, return_exceptions=True)
    assert [isinstance(got, AttemptFailed) and got.reason for got in results] == [Reason.CONNECTION_LOST] * 2
    await until(lambda: busy.ended == idle.ended == 1)
    with pytest.raises(RuntimeError, match="closed"):
        await client.post(idle.url(), HEADERS, b"", timeout_ms=5_000)


async def test_a_connection_that_opens_after_the_end_is_not_used(serve: Serve, make_client: MakeClient) -> None:
    """A post whose connection was being opened when the client was closed sends nothing."""
    endpoint = await serve(answer())
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def resolve(_host: str) -> list[str]:
        asked.set()
        await go_on.wait()
        return ["127.0.0.1"]

    client = make_client(resolve=resolve)
    post = asyncio.create_task(client.post(endpoint.url(host="shop.example"), HEADERS, b"", timeout_ms=5_000))
    await asked.wait()

    await client.close()
    go_on.set()

    with pytest.raises(AttemptFailed) as failure:
        await post
    assert failure.value.reason is Reason.CONNECTION_LOST
    await until(lambda: endpoint.ended == endpoint.connections)
    assert endpoint.requests == []
