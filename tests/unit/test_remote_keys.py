"""Keys that a provider publishes: which are taken, when they are fetched, and what happens while it is away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs

from hookcast_app.auth import TokenInvalid, TokenVerifier
from hookcast_app.auth.jws import Header
from hookcast_app.auth.key_set import read_jwk_set
from hookcast_app.auth.remote_keys import MAX_KEYS, RemoteKeys
from hookcast_app.settings import Settings
from hookcast_core.errors import Unavailable

RSA, RSA_NEXT = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
EC, EC_SLOW = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
ALGORITHMS = ("RS256", "ES256", "ES384", "EdDSA", "HS256")
SECRET = "0123456789abcdef" * 4


def jwk(key: Any, kid: str | None = None, **members: Any) -> dict[str, Any]:
    """The public key, as a provider would publish it."""
    kinds: dict[type, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm: Any = next((kinds[kind] for kind in kinds if isinstance(key, kind)), OKPAlgorithm)
    described: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**described, **({} if kid is None else {"kid": kid}), **members}


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": keys, "more": 1}).encode()


class Provider:
    """Publishes what a test says, and counts how often it is asked."""

    def __init__(self, *keys: Any) -> None:
        self.document = document(*keys)
        self.is_away = False
        self.asked = 0

    async def __call__(self) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("nobody is there")
        return self.document


Start = Callable[..., TokenVerifier]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Starts verifiers of a provider's keys that are looked for again after `pause` seconds at the earliest."""
    tasks = []

    def started(provider: Provider, *, pause: float = 0.0, refresh: float = 60.0) -> TokenVerifier:
        settings = Settings(jwks_url="https://idp.example/keys", jwt_secret=SECRET, jwt_algorithms=ALGORITHMS)
        verifier = TokenVerifier(settings, fetch=provider)
        verifier._remote = RemoteKeys(
            provider, refresh_seconds=refresh, pause_seconds=pause, patience_seconds=5 * pause + 0.5
        )
        tasks.append(asyncio.create_task(verifier.run()))
        return verifier

    yield started
    for task in tasks:
        assert not task.done()
        task.cancel()


def signed(key: Any, algorithm: str, kid: str | None = None) -> str:
    return jwt.encode({"sub": "ann"}, key, algorithm, None if kid is None else {"kid": kid})


async def test_tokens_name_their_key(start: Start) -> None:
    """Of any kind; one without a name is verified where its algorithm leaves no choice. All by one fetch."""
    provider = Provider(jwk(RSA, "r"), jwk(RSA_NEXT, "n"), jwk(EC, "e"), jwk(EC_SLOW, "s", use="sig"), jwk(ED))
    verifier = start(provider)

    good = [(RSA, "RS256", "r"), (RSA_NEXT, "RS256", "n"), (EC, "ES256", "e"), (EC_SLOW, "ES384", "s")]
    for key, algorithm, kid in [*good, (ED, "EdDSA", None), (EC, "ES256", None)]:
        assert (await verifier.verify(signed(key, algorithm, kid))).user == "ann"
    assert provider.asked == 1
    assert (await verifier.verify(signed(SECRET, "HS256", "whatever"))).user == "ann"
    for key, algorithm, kid in [(RSA, "RS256", "n"), (RSA, "RS256", "e"), (EC, "ES256", "r"), (RSA, "RS256", None)]:
        with pytest.raises(TokenInvalid):
            await verifier.verify(signed(key, algorithm, kid))


async def test_a_new_key_is_looked_for_when_a_token_names_it(start: Start) -> None:
    """Rotation needs no restart; many that come at once share one look, and what is withdrawn is gone with it."""
    provider = Provider(jwk(RSA, "old"))
    verifier = start(provider)
    await verifier.verify(signed(RSA, "RS256", "old"))
    provider.document = document(jwk(RSA_NEXT, "new"))

    found = await asyncio.gather(*(verifier.verify(signed(RSA_NEXT, "RS256", "new")) for _ in range(50)))

    assert {identity.user for identity in found} == {"ann"}
    assert provider.asked == 2
    with pytest.raises(TokenInvalid):
        await verifier.verify(signed(RSA, "RS256", "old"))


async def test_names_that_nobody_has_make_few_requests(start: Start) -> None:
    """However many tokens are made up, the provider is asked once in a while; each of them is refused in the end."""
    provider = Provider(jwk(RSA, "r"))
    verifier = start(provider, pause=0.2)

    async def made_up(number: int) -> None:
        with pytest.raises(TokenInvalid):
            await verifier.verify(signed(RSA, "RS256", f"made up {number}"))

    await asyncio.gather(*map(made_up, range(50)))
    await asyncio.gather(*map(made_up, range(50)))

    assert provider.asked <= 3


async def test_keys_stay_while_their_provider_is_away(start: Start) -> None:
    """A token whose key is not known cannot be judged then: it is neither good nor bad. The log says so once."""
    provider = Provider(jwk(RSA, "r"))
    verifier = start(provider)
    await verifier.verify(signed(RSA, "RS256", "r"))

    with capture_logs() as logs:
        for gone in (True, False):
            provider.is_away, provider.document = gone, b"<html>"
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await verifier.verify(signed(RSA_NEXT, "RS256", "new"))
            assert (await verifier.verify(signed(RSA, "RS256", "r"))).user == "ann"
        provider.document = document(jwk(RSA_NEXT, "new"))
        assert (await verifier.verify(signed(RSA_NEXT, "RS256", "new"))).user == "ann"

    told = [(line["event"], line.get("reason")) for line in logs]
    assert told == [
        ("token keys not fetched", "nobody is there"),
        ("token keys not fetched", "it is no JSON Web Key Set"),
        ("token keys fetched", None),
    ]


async def test_a_provider_that_hangs_holds_no_token_for_ever(start: Start) -> None:
    """It waits for a bounded time, and for nothing where its key is known."""
    provider = Provider(jwk(RSA, "r"))
    verifier = start(provider)
    await verifier.verify(signed(RSA, "RS256", "r"))
    hanging = asyncio.Event()

    async def hang() -> bytes:
        await hanging.wait()
        return provider.document

    assert verifier._remote is not None
    verifier._remote._fetch = hang

    with pytest.raises(Unavailable):
        await verifier.verify(signed(RSA_NEXT, "RS256", "new"))
    assert (await verifier.verify(signed(RSA, "RS256", "r"))).user == "ann"
    hanging.set()


async def test_keys_are_fetched_again_unasked(start: Start) -> None:
    """So that one that was withdrawn is not used for long."""
    provider = Provider(jwk(RSA, "r"))
    verifier = start(provider, refresh=0.02)
    await verifier.verify(signed(RSA, "RS256", "r"))
    provider.document = document(jwk(EC, "e"))

    async with asyncio.timeout(10):
        assert verifier._remote is not None
        while verifier._remote._find(Header("RS256", "r")) is not None:
            await asyncio.sleep(0.005)


SYMMETRIC = {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "x"}
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505  it is refused


@pytest.mark.parametrize(
    "useless",
    [
        SYMMETRIC,
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(RSA, alg="RSA-OAEP"),
        jwk(RSA, alg="ES256"),
        jwk(RSA, alg="HS256"),
        jwk(SMALL),
        {**jwk(RSA), "e": jwk(RSA)["n"]},
        {**jwk(RSA), "n": "!"},
        {**jwk(RSA), "n": 7},
        {**jwk(EC), "crv": "P-384"},
        {**jwk(EC), "x": jwk(EC)["y"]},
        {**jwk(ED), "crv": "X25519"},
        {"kty": "RSA"},
        {"kid": "x"},
        "key",
        7,
    ],
)
def test_a_key_that_is_of_no_use_is_passed_over(useless: Any) -> None:
    """Shared secrets, keys for something else, weak or broken ones; the others of the set count."""
    keys, passed_over = read_jwk_set(document(useless, jwk(RSA, "r")), MAX_KEYS)

    assert [key.kid for key in keys] == ["r"]
    assert passed_over == 1


def test_a_key_counts_for_the_algorithm_that_it_names() -> None:
    """And what of it is private is not looked at."""
    private: dict[str, Any] = RSAAlgorithm.to_jwk(RSA, as_dict=True)
    [key], _ = read_jwk_set(document({**private, "alg": "RS384", "key_ops": ["verify"]}), MAX_KEYS)

    assert key.key.algorithms == {"RS384"}
    assert isinstance(key.key.key, rsa.RSAPublicKey)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"keys":1}', b"{}", b"\xff", document(*[SYMMETRIC] * (MAX_KEYS + 1)), b'{"keys":' + b"[" * 9_000],
)
def test_what_is_no_key_set_is_refused_whole(text: bytes) -> None:
    """Also one with too many keys: which of them count would be a guess."""
    with pytest.raises(ValueError, match=r"JSON Web Key Set|at most 64"):
        read_jwk_set(text, MAX_KEYS)


def test_slow_keys_are_known_as_such() -> None:
    """Their checks are for a thread: beyond 4,096 bits, and on the two large curves."""
    large = rsa.RSAPublicNumbers(65537, (1 << 4_199) + 1).public_key()
    described: dict[str, Any] = RSAAlgorithm.to_jwk(large, as_dict=True)
    keys, _ = read_jwk_set(document(jwk(RSA), jwk(EC), jwk(ED), jwk(EC_SLOW), described), MAX_KEYS)

    assert [key.key.is_slow for key in keys] == [False, False, False, True, True]
