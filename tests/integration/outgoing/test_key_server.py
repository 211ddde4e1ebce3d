"""Keys of tokens, fetched from where a provider publishes them."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from hookcast_app.auth import TokenVerifier
from hookcast_app.key_server import KeyServer
from hookcast_app.settings import Settings
from hookcast_core.errors import Unavailable
from tests.integration.outgoing.endpoint import Endpoint

KEY = ec.generate_private_key(ec.SECP256R1())


def answering(body: bytes, status: bytes = b"200 OK") -> Any:
    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()

    return respond


async def fetched(endpoint: Endpoint, *allow: str) -> bytes:
    server = KeyServer(str(endpoint.url(target="/keys?x=1")), allow)
    try:
        return await server.fetch()
    finally:
        await server.close()


async def test_a_token_is_verified_with_a_published_key(serve: Callable[..., Any]) -> None:
    """The document is asked for by GET, at the URL of the setting, and read whole."""
    described: dict[str, Any] = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    keys = [{**described, "kid": "k", "x5c": ["A" * 30_000]}]
    endpoint: Endpoint = await serve(answering(json.dumps({"keys": keys}).encode()))
    settings = Settings(jwks_url=str(endpoint.url(target="/keys?x=1")), jwt_algorithms=("ES256",))
    server = KeyServer(settings.jwks_url or "", ("127.0.0.0/8",))
    verifier = TokenVerifier(settings, fetch=server.fetch)
    running = asyncio.create_task(verifier.run())

    assert (await verifier.verify(jwt.encode({"sub": "ann"}, KEY, "ES256", {"kid": "k"}))).user == "ann"
    running.cancel()
    await server.close()
    [request] = endpoint.requests
    assert request.startswith(b"GET /keys?x=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"content-length" not in request


@pytest.mark.parametrize("status", [b"500 Oops", b"302 Found", b"204 No Content"])
async def test_anything_but_200_is_no_document(serve: Callable[..., Any], status: bytes) -> None:
    """No redirect is followed."""
    endpoint: Endpoint = await serve(answering(b"", status))

    with pytest.raises(Unavailable, match="status"):
        await fetched(endpoint, "127.0.0.0/8")


async def test_of_a_larger_document_64_kib_are_read(serve: Callable[..., Any]) -> None:
    """Which is no JSON then."""
    endpoint: Endpoint = await serve(answering(b"x" * 1_000_000))

    assert len(await fetched(endpoint, "127.0.0.0/8")) == 65_536


async def test_by_plain_http_the_place_must_be_allowed(serve: Callable[..., Any]) -> None:
    """By https the setting itself allows it."""
    endpoint: Endpoint = await serve(answering(b"{}"))

    with pytest.raises(Unavailable, match="EgressDenied"):
        await fetched(endpoint)
    assert endpoint.connections == 0
    secure = KeyServer(str(endpoint.url(target="/keys")).replace("http://", "https://"), ())
    with pytest.raises(Unavailable, match="TLS"):
        await secure.fetch()
    await secure.close()
    assert endpoint.connections == 1
