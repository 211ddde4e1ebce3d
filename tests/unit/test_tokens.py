"""Connection tokens: what is accepted, and that nothing else is."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hookcast_app.auth import Identity, TokenExpired, TokenInvalid, TokenVerifier
from hookcast_app.auth.jws import MAX_TOKEN
from hookcast_app.settings import Settings

SECRET = "0123456789abcdef" * 4
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def verifier(**changes: Any) -> TokenVerifier:
    return TokenVerifier(Settings(**{"jwt_secret": SECRET, **changes}))


def signed(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm)


async def test_a_good_token_gives_its_user() -> None:
    """`sub` is the user; `exp` and `info` come with it where they are there."""
    expires_at = time.time() + 60
    token = signed({"sub": "ann", "exp": expires_at, "info": {"name": "Ann"}, "iat": time.time() + 30})

    assert await verifier().verify(signed({"sub": "ann"})) == Identity("ann")
    assert await verifier().verify(token) == Identity("ann", expires_at=expires_at, info={"name": "Ann"})


@pytest.mark.parametrize("algorithm", sorted(KEYS))
async def test_tokens_signed_with_a_private_key_are_verified_with_the_public_one(algorithm: str) -> None:
    """RS, ES and EdDSA, if the settings allow them; another key's signature is refused."""
    settings = Settings(jwt_public_key=public_pem(KEYS[algorithm]), jwt_algorithms=(algorithm,))

    assert (await TokenVerifier(settings).verify(signed({"sub": "ann"}, KEYS[algorithm], algorithm))).user == "ann"
    others = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES512": ec.generate_private_key(ec.SECP521R1()),
    }
    other = others.get(algorithm) or ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(TokenInvalid):
        await TokenVerifier(settings).verify(signed({"sub": "ann"}, other, algorithm))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": 7},
        {"sub": None},
        {"sub": "ann", "nbf": time.time() + 3_600},
        {"sub": "ann", "exp": "soon"},
        {"sub": "ann", "exp": None},
        {"sub": "ann", "exp": float("inf")},
        {"sub": "ann", "aud": "elsewhere"},
        {"sub": "ann", "exp": 10**400},
        {"sub": "\ud800"},
        {"sub": "ann", "info": {"name": "\udc00"}},
        ["sub"],
    ],
)
async def test_claims_that_do_not_hold_are_refused(claims: Any) -> None:
    """`sub` must be a text, of whole characters; times must be times; an audience that we do not know is not us."""
    payload = json.dumps(claims).encode()
    token = jwt.api_jws.encode(payload, SECRET, "HS256")

    with pytest.raises(TokenInvalid):
        await verifier().verify(token)


async def test_an_expired_token_is_told_from_an_invalid_one() -> None:
    """Its client should fetch another."""
    with pytest.raises(TokenExpired):
        await verifier().verify(signed({"sub": "ann", "exp": time.time() - 1}))


async def test_audience_and_issuer_must_be_there_if_they_are_set() -> None:
    """A token that leaves them out is refused like one that names others."""
    strict = verifier(jwt_audience="us", jwt_issuer="idp")

    assert (await strict.verify(signed({"sub": "ann", "aud": ["us", "them"], "iss": "idp"}))).user == "ann"
    for claims in ({"iss": "idp"}, {"aud": "us"}, {"aud": "them", "iss": "idp"}, {"aud": "us", "iss": "other"}):
        with pytest.raises(TokenInvalid):
            await strict.verify(signed({"sub": "ann", **claims}))


def _unsigned(algorithm: Any) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": "ann"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "\ud800.b.c",
        _unsigned("none"),
        _unsigned("HS256"),
        _unsigned(["HS256"]),
        _unsigned(None),
        signed({"sub": "ann"}, "f" * 64),
        signed({"sub": "ann"}, SECRET, "HS384"),
        base64.urlsafe_b64encode(b"[" * 9_000).decode().rstrip("=") + ".e30.x",
        signed({"sub": "ann", "info": "x" * MAX_TOKEN}),
        signed({"sub": "ann"}) + "=",
        signed({"sub": "ann"}) + "\n",
        jwt.encode({"sub": "ann"}, SECRET, "HS256", {"crit": ["b64"], "b64": True}),
        jwt.encode({"sub": "ann"}, SECRET, "HS256", {"kid": "k" * 257}),
    ],
)
async def test_what_is_not_signed_by_our_key_and_algorithm_is_refused(token: str) -> None:
    """The token does not choose how it is checked."""
    with pytest.raises(TokenInvalid) as refused:
        await verifier().verify(token)
    assert not token or token not in str(refused.value)


async def test_a_public_key_is_never_a_shared_secret() -> None:
    """Who knows the public key cannot sign with it as if it were one (the algorithm confusion attack)."""
    pem = public_pem(KEYS["RS256"])
    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    payload = base64.urlsafe_b64encode(b'{"sub":"ann"}').rstrip(b"=")
    signature = jwt.get_algorithm_by_name("HS256").sign(header + b"." + payload, pem.encode())
    forged = b".".join([header, payload, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()

    for algorithms in (("RS256",), ("RS256", "HS256")):
        with pytest.raises(TokenInvalid):
            await TokenVerifier(Settings(jwt_public_key=pem, jwt_algorithms=algorithms)).verify(forged)


async def test_without_a_key_every_token_is_refused() -> None:
    """What is not configured is closed, not open."""
    with pytest.raises(TokenInvalid):
        await TokenVerifier(Settings()).verify(signed({"sub": "ann"}))


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("HOOKCAST_JWT_SECRET", {"jwt_secret": "x" * 31}),
        ("HOOKCAST_JWT_SECRET", {"jwt_secret": ""}),
        ("HOOKCAST_JWT_SECRET", {"jwt_algorithms": ("RS256",)}),
        ("HOOKCAST_JWT_ALGORITHMS", {"jwt_algorithms": ("HS256", "none")}),
        ("HOOKCAST_JWT_PUBLIC_KEY", {"jwt_public_key": "no key", "jwt_algorithms": ("RS256", "HS256")}),
        ("HOOKCAST_JWT_PUBLIC_KEY", {"jwt_public_key": public_pem(KEYS["ES256"])}),
        (
            "HOOKCAST_JWT_PUBLIC_KEY: is an RSA key of 1024 bits; 2048 to 8192",
            {
                "jwt_public_key": public_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505  it is refused
                "jwt_algorithms": ("RS256", "HS256"),
            },
        ),
        ("HOOKCAST_JWKS_URL", {"jwks_url": "https://idp.example/keys"}),
        (
            "HOOKCAST_JWT_PUBLIC_KEY",
            {"jwt_public_key": public_pem(KEYS["ES256"]), "jwt_algorithms": ("RS256", "HS256")},
        ),
    ],
)
def test_settings_that_cannot_be_trusted_stop_the_start(setting: str, changes: dict[str, Any]) -> None:
    """The error names the setting, and repeats no key."""
    with pytest.raises(ValueError, match=setting) as error:
        verifier(**changes)
    for key in ("x" * 31, "BEGIN PUBLIC KEY"):
        assert key not in str(error.value)


def test_a_private_key_in_the_place_of_the_public_one_stops_the_start() -> None:
    """A server that only verifies must not hold what can sign."""
    private = KEYS["RS256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    with pytest.raises(ValueError, match="HOOKCAST_JWT_PUBLIC_KEY"):
        verifier(jwt_public_key=private, jwt_algorithms=("RS256", "HS256"))
