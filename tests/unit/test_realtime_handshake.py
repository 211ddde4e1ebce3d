"""The opening handshake as a decision on its headers; the cases over real connections are test_wire_handshake.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.realtime.handshake import MAX_HEADERS, MAX_LINE, Opening, Refusal, accepted, opening, refused

Headers = list[tuple[bytes, bytes]]
HEADERS: Headers = [
    (b"host", b"server.example.com"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"origin", b"http://example.com"),
    (b"sec-websocket-protocol", b"chat, superchat"),
    (b"sec-websocket-version", b"13"),
]
"""RFC 6455, 1.2."""
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer that RFC 6455, 1.3 has for it."""


def changed(name: bytes, *values: bytes) -> Headers:
    """The handshake with another value of a header, several, or none."""
    return [*[pair for pair in HEADERS if pair[0] != name], *((name, value) for value in values)]


def test_the_handshake_of_the_standard_is_answered_as_there() -> None:
    """RFC 6455, 1.3 and 4.2.2."""
    assert opening(b"/chat", HEADERS) == Opening(ACCEPT, ["chat", "superchat"])


@pytest.mark.parametrize(
    ("offered", "read"),
    [
        ([], []),
        ([b""], []),
        ([b"a,b", b" c\t"], ["a", "b", "c"]),
        ([b", a,,b ,"], ["a", "b"]),
        ([b"token.e30.e30.c2ln"], ["token.e30.e30.c2ln"]),
    ],
)
def test_subprotocols_are_a_list(offered: list[bytes], read: list[str]) -> None:
    """In any number of lines; empty elements are ignored (RFC 9110, 5.6.1.2)."""
    assert opening(b"/", changed(b"sec-websocket-protocol", *offered)) == Opening(ACCEPT, read)


WRONG: dict[str, tuple[Headers, int]] = {
    "no host": (changed(b"host"), 400),
    "two hosts": (changed(b"host", b"a", b"a"), 400),
    "two origins": (changed(b"origin", b"http://a", b"http://a"), 400),
    "no key": (changed(b"sec-websocket-key"), 400),
    "a key of 15 bytes": (changed(b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAA"), 400),
    "a key of 17 bytes": (changed(b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAAA="), 400),
    "a key with a line break": (changed(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ\n=="), 400),
    "two keys": (changed(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "no version": (changed(b"sec-websocket-version"), 400),
    "two versions": (changed(b"sec-websocket-version", b"13", b"13"), 400),
    "a body": (changed(b"content-length", b"1"), 400),
    "a chunked body": (changed(b"transfer-encoding", b"chunked"), 400),
    "subprotocols of no form": (changed(b"sec-websocket-protocol", b"a, b c"), 400),
    "another version": (changed(b"sec-websocket-version", b"8"), 426),
    "too many headers": ([*HEADERS, *[(b"x", b"")] * (MAX_HEADERS - len(HEADERS) + 1)], 431),
    "a long header": (changed(b"x", bytes(MAX_LINE + 1)), 431),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(name: str) -> None:
    """With the status that says why."""
    headers, status = WRONG[name]
    found = opening(b"/", headers)
    assert isinstance(found, Refusal)
    assert found.status == status


def test_what_is_within_the_limits_is_taken() -> None:
    """As many headers as may be, each as long as it may be; no body may be announced."""
    most = [*HEADERS, *[(b"x", bytes(MAX_LINE))] * (MAX_HEADERS - len(HEADERS))]
    assert isinstance(opening(bytes(MAX_LINE), most), Opening)
    assert isinstance(opening(b"/", changed(b"content-length", b"0")), Opening)
    assert opening(bytes(MAX_LINE + 1), HEADERS) == Refusal(414, b"the target is longer than 8 KiB\n")


def test_a_client_of_another_version_learns_ours() -> None:
    """RFC 6455, 4.4."""
    found = opening(b"/", changed(b"sec-websocket-version", b"8"))
    assert isinstance(found, Refusal)
    assert dict(found.headers) == {b"sec-websocket-version": b"13", b"upgrade": b"websocket"}


@given(st.binary(), st.lists(st.tuples(st.sampled_from([name for name, _ in HEADERS]), st.binary())))
def test_nothing_that_a_client_sends_is_an_error_of_ours(target: bytes, headers: Headers) -> None:
    """Whatever it is."""
    assert isinstance(opening(target, headers), Opening | Refusal)


def test_answers_are_written_as_http_has_them() -> None:
    """A handshake is taken without a body and without what was not chosen; a refusal says how long it is."""
    taken = accepted(ACCEPT, "chat", [(b"x", b"y")])
    assert taken.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert taken.endswith(b"sec-websocket-accept: %b\r\nsec-websocket-protocol: chat\r\nx: y\r\n\r\n" % ACCEPT)
    assert b"sec-websocket-protocol" not in accepted(ACCEPT, None, ())
    assert refused(426, [(b"Content-Length", b"9"), (b"a", b"b")], b"no\n") == (
        b"HTTP/1.1 426 Upgrade Required\r\na: b\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n"
    )
