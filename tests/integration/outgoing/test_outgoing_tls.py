"""TLS verifies certificate and name, presents what it was given, resumes sessions, and fails with its own reason."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hookcast_app.outgoing import AttemptFailed, ClientCertificate, HttpClient, Tls
from hookcast_app.outgoing import tls as tls_module
from hookcast_app.outgoing.connection import Connection
from hookcast_app.outgoing.dialer import _secured
from hookcast_app.outgoing.tls import Contexts, SessionContext, make_context
from hookcast_core.egress import Url, parse_url
from hookcast_core.errors import Reason
from tests.integration.outgoing.endpoint import OK, Endpoint, Respond, answer, answer_and_close, hang, open_files, until
from tests.support.certificates import Authority, private_pem

Serve = Callable[..., Awaitable[Endpoint]]
MakeClient = Callable[..., HttpClient]
AUTHORITY = Authority()
OTHER_AUTHORITY = Authority("another authority")
SHOP = AUTHORITY.sign("shop.example")
TRUST = Tls(ca_certificate=AUTHORITY.pem)


async def to_loopback(_host: str) -> list[str]:
    """Resolve every name to loopback."""
    return ["127.0.0.1"]


@pytest.fixture
def client(make_client: MakeClient) -> HttpClient:
    """Make a client for which every name is on loopback."""
    return make_client(resolve=to_loopback)


async def fail(client: HttpClient, url: Url, tls: Tls | None = TRUST, *, timeout_ms: int = 5_000) -> AttemptFailed:
    """Post what is expected to fail; how it did."""
    with pytest.raises(AttemptFailed) as failure:
        await client.post(url, b"", b"{}", timeout_ms=timeout_ms, tls=tls)
    return failure.value


async def test_a_certificate_of_the_endpoints_authority_is_accepted(serve: Serve, client: HttpClient) -> None:
    """A subscription's own CA is trusted for its endpoint, and the connection is kept."""
    endpoint = await serve(answer(), tls=SHOP.server_context())

    for _ in range(3):
        got = await client.post(endpoint.url(host="shop.example"), b"", b"{}", timeout_ms=5_000, tls=TRUST)
        assert (got.status, got.head) == (200, b"ok")

    assert endpoint.connections == 1


async def test_an_address_is_verified_as_such(serve: Serve, client: HttpClient) -> None:
    """A URL with an address needs a certificate for that address."""
    endpoint = await serve(answer(), tls=AUTHORITY.sign("127.0.0.1").server_context())
    by_name = await serve(answer(), tls=SHOP.server_context())

    assert (await client.post(endpoint.url(), b"", b"", timeout_ms=5_000, tls=TRUST)).status == 200
    assert (await fail(client, by_name.url())).reason is Reason.TLS_FAILED


@pytest.mark.parametrize(
    ("signed", "tls"),
    [
        (AUTHORITY.sign("other.example"), TRUST),
        (AUTHORITY.sign("127.0.0.1"), TRUST),
        (AUTHORITY.sign("shop.example", expired=True), TRUST),
        (OTHER_AUTHORITY.sign("shop.example"), TRUST),
        (SHOP, None),
        (SHOP, Tls(ca_certificate=OTHER_AUTHORITY.pem)),
    ],
    ids=["another name", "only the address", "expired", "another authority", "no CA given", "another CA given"],
)
async def test_a_certificate_that_does_not_hold_is_refused(
    serve: Serve, client: HttpClient, signed: object, tls: Tls | None
) -> None:
    """Nothing is sent to a server that has not proved its name, and no connection stays."""
    assert isinstance(signed, type(SHOP))
    endpoint = await serve(answer(), tls=signed.server_context())

    failure = await fail(client, endpoint.url(host="shop.example"), tls)

    assert failure.reason is Reason.TLS_FAILED
    assert "certificate" in failure.detail
    assert endpoint.requests == []


async def test_a_client_certificate_is_presented(serve: Serve, client: HttpClient) -> None:
    """An endpoint that asks who we are is told."""
    endpoint = await serve(answer(), tls=SHOP.server_context(clients=AUTHORITY))
    tls = Tls(AUTHORITY.pem, AUTHORITY.sign("hookcast").for_client)

    got = await client.post(endpoint.url(host="shop.example"), b"", b"", timeout_ms=5_000, tls=tls)

    assert got.status == 200


async def shake_hands(context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do a server's handshake and, unlike asyncio's own, send the alert that says why it failed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = context.wrap_bio(incoming, outgoing, server_side=True)
    refused = False
    while not refused:
        incoming.write(await reader.read(65_536))
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            refused = True
        writer.write(outgoing.read())
    await reader.read()
    writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "tls",
    [TRUST, Tls(AUTHORITY.pem, OTHER_AUTHORITY.sign("hookcast").for_client)],
    ids=["no certificate", "another authority's"],
)
async def test_an_endpoint_that_does_not_know_us_refuses_in_tls(
    client: HttpClient, tls: Tls, version: ssl.TLSVersion
) -> None:
    """Whether the refusal comes in the handshake (TLS 1.2) or after it (1.3), its reason is TLS."""
    context = SHOP.server_context(clients=AUTHORITY)
    context.maximum_version = version
    server = await asyncio.start_server(lambda r, w: shake_hands(context, r, w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    failure = await fail(client, parse_url(f"https://shop.example:{port}/"), tls, timeout_ms=2_000)

    assert failure.reason is Reason.TLS_FAILED
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_new_connection_resumes_the_session(serve: Serve, client: HttpClient, version: ssl.TLSVersion) -> None:
    """The second connection to a name is spared the full handshake; another name or another trust is not."""
    resumed = []

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    context = AUTHORITY.sign("shop.example", "other.example").server_context()
    context.maximum_version = version
    endpoint = await serve(respond, tls=context)
    other_trust = Tls(ca_certificate=AUTHORITY.pem + OTHER_AUTHORITY.pem)

    for host, tls in [
        ("shop.example", TRUST),
        ("shop.example", TRUST),
        ("shop.example", TRUST),
        ("other.example", TRUST),
        ("shop.example", other_trust),
    ]:
        await client.post(endpoint.url(host=host), b"", b"", timeout_ms=5_000, tls=tls)

    assert resumed == [False, True, True, False, False]


async def hang_in_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the client's hello and say nothing."""
    await reader.read()
    writer.close()


async def close_in_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the client's hello and close."""
    await reader.read(1)
    writer.close()


async def answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the client's hello for a bad request."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak first."""
    writer.write(b"220 mail.example ESMTP\r\n")
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (hang_in_handshake, Reason.CONNECT_TIMEOUT),
        (close_in_handshake, Reason.TLS_FAILED),
        (answer_in_plain, Reason.TLS_FAILED),
        (greet, Reason.TLS_FAILED),
    ],
)
async def test_a_handshake_that_does_not_come_about_has_its_reason(
    client: HttpClient, behave: Respond, reason: Reason
) -> None:
    """A server that hangs is a time-out, one that speaks no TLS is not; neither leaves a socket."""
    ended = 0

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        await behave(reader, writer)
        ended += 1

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    failure = await fail(client, parse_url(f"https://shop.example:{port}/"), timeout_ms=300)

    assert failure.reason is reason
    await until(lambda: ended == 1)
    server.close()
    await server.wait_closed()


async def test_a_connection_that_ends_before_its_handshake_is_a_tls_failure() -> None:
    """An endpoint that closes at once is told apart from one that refuses connections."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, lambda _: None)

    with pytest.raises(AttemptFailed) as failure:
        await _secured(connection, make_context(TRUST), "shop.example", loop.time() + 1)

    assert failure.value.reason is Reason.TLS_FAILED
    assert not connection.is_open


async def test_failed_handshakes_leave_no_sockets(serve: Serve, client: HttpClient) -> None:
    """A thousand attempts at a bad endpoint cost no file descriptor."""
    endpoint = await serve(hang, tls=OTHER_AUTHORITY.sign("shop.example").server_context())
    await fail(client, endpoint.url(host="shop.example"))
    before = open_files()

    for _ in range(10):
        await fail(client, endpoint.url(host="shop.example"))

    await until(lambda: open_files() <= before)


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (answer_and_close(b""), Reason.CONNECTION_LOST),
        (answer_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), Reason.CONNECTION_LOST),
        (hang, Reason.RESPONSE_TIMEOUT),
    ],
    ids=["closed", "closed in the body", "no answer"],
)
async def test_an_endpoint_that_fails_after_the_handshake_has_the_same_reasons(
    serve: Serve, client: HttpClient, respond: Respond, reason: Reason
) -> None:
    """Through TLS a lost connection is still a lost connection."""
    endpoint = await serve(respond, tls=SHOP.server_context())

    failure = await fail(client, endpoint.url(host="shop.example"), timeout_ms=500)

    assert failure.reason is reason


async def test_a_body_without_length_ends_with_the_connection(serve: Serve, client: HttpClient) -> None:
    """The end of a TLS connection is the end of such an answer too."""
    endpoint = await serve(answer_and_close(b"HTTP/1.0 200 OK\r\n\r\nold"), tls=SHOP.server_context())

    got = await client.post(endpoint.url(host="shop.example"), b"", b"", timeout_ms=5_000, tls=TRUST)

    assert got.head == b"old"


async def test_a_kept_connection_that_was_closed_is_replaced(serve: Serve, client: HttpClient) -> None:
    """The race between our request and the endpoint's closing costs no attempt, through TLS neither."""
    requests = 0

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        if requests == 2:
            raise ConnectionError
        writer.write(OK)

    endpoint = await serve(respond, tls=SHOP.server_context())

    for _ in range(2):
        got = await client.post(endpoint.url(host="shop.example"), b"", b"", timeout_ms=5_000, tls=TRUST)
        assert got.status == 200

    assert requests == 3


def encrypted() -> ClientCertificate:
    """Make a certificate whose key has a password."""
    return ClientCertificate(SHOP.chain, private_pem(ec.generate_private_key(ec.SECP256R1()), password=b"secret"))


@pytest.mark.parametrize(
    "tls",
    [
        Tls(ca_certificate="no PEM"),
        Tls(ca_certificate=""),
        Tls(ca_certificate="é"),
        Tls(AUTHORITY.pem, ClientCertificate("no PEM", SHOP.key)),
        Tls(AUTHORITY.pem, ClientCertificate(SHOP.chain, "no PEM")),
        Tls(AUTHORITY.pem, ClientCertificate(SHOP.chain, AUTHORITY.sign("x").key)),
        Tls(AUTHORITY.pem, encrypted()),
    ],
    ids=["CA", "empty CA", "CA not ASCII", "chain", "key", "another key", "encrypted key"],
)
async def test_an_unusable_certificate_is_a_failure_with_its_reason(client: HttpClient, tls: Tls) -> None:
    """What a Secret holds is found wrong before anything is sent, is not told, and nobody is asked for a password."""
    failure = await fail(client, parse_url("https://shop.example/"), tls)

    assert failure.reason is Reason.TLS_FAILED
    assert "unusable" in failure.detail
    assert "PRIVATE KEY" not in str(failure)


def test_a_key_is_not_shown() -> None:
    """What prints TLS settings prints no key."""
    assert "PRIVATE KEY" not in repr(Tls(AUTHORITY.pem, SHOP.for_client))


def test_contexts_are_made_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of endpoints under one authority share a context; the longest unused one is forgotten."""
    monkeypatch.setattr(tls_module, "MAX_CONTEXTS", 2)
    contexts = Contexts()
    other, third = Tls(OTHER_AUTHORITY.pem), Tls(AUTHORITY.pem + OTHER_AUTHORITY.pem)

    first = contexts.get(TRUST)
    assert contexts.get(Tls(AUTHORITY.pem)) is first
    contexts.get(other)
    contexts.get(TRUST)
    contexts.get(third)

    assert contexts.get(TRUST) is first
    assert len(contexts._contexts) == 2


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new names do not fill the memory."""
    monkeypatch.setattr(tls_module, "MAX_SESSIONS", 2)
    context = make_context(TRUST)
    session = object()

    for name in ("a", "b", "a", "c"):
        context.keep_session(name, session)  # type: ignore[arg-type]

    assert isinstance(context, SessionContext)
    assert context._sessions == OrderedDict(a=session, c=session)


def test_a_context_verifies_names_and_speaks_no_old_tls() -> None:
    """Nothing in a subscription can turn verification off."""
    for tls in (Tls(), TRUST, Tls(AUTHORITY.pem, SHOP.for_client)):
        context = make_context(tls)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
