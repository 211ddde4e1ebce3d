"""From a subscription or a webhook source and its Secrets to an entry of the configuration.

Pure: Secrets are looked up by a function. The one place where a specification is judged against the world around it,
for the custom resource, the REST body and the YAML file alike.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from pydantic import SecretStr

from hookcast_core.configuration import ClientCertificate, Entry, SigningKey, Source, SourceEntry
from hookcast_core.egress import EgressPolicy, parse_url
from hookcast_core.errors import EgressDenied, HookcastError, InvalidInput, Reason
from hookcast_core.filters import compile_filter
from hookcast_core.names import check_header_value, shown_name
from hookcast_core.signing import parse_secret
from hookcast_core.source import Scheme, VerificationSecretRef, WebhookSource
from hookcast_core.subscription import Endpoint, Header, SecretKeyRef, Subscription, epoch_ms

MAX_PRIVATE_KEY = 16_384
"""Characters."""
MAX_RSA_BITS = 8_192
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey
MAX_CERTIFICATES = 65_536
MAX_SECRET = 4_096
"""Characters of what requests are verified with."""

SecretReader = Callable[[str], Mapping[str, bytes] | None]
"""The data of the Secret of that name in the object's namespace; None if there is none. May raise SecretNotAllowed."""


class SecretNotAllowed(HookcastError):  # noqa: N818  named as the reason that becomes of it
    """A SecretReader raises it for a Secret that is there and that objects may not refer to."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which subscription or source it is, and which version of it."""

    uid: str
    generation: int
    namespace: str
    name: str
    source: Source


def resolve(
    identity: Identity,
    spec: Subscription,
    secrets: SecretReader,
    policy: EgressPolicy,
    generated_key: Callable[[Identity], str],
    *,
    prefix: str = "",
) -> Entry:
    """The entry that the dispatcher works from, with every reference resolved and every value checked.

    InvalidInput with the field that is wrong, `prefix` before it (`spec.`): InvalidFilter, InvalidURL, EgressDenied
    (literal addresses and schemes; names are judged at delivery), SecretNotFound, SecretKeyNotFound, SecretNotAllowed,
    InvalidSecret. `generated_key` gives the HMAC key of a subscription that names none.
    """
    read = _Secrets(secrets, prefix)
    if spec.events.filter is not None:
        compile_filter(spec.events.filter, f"{prefix}events.filter")
    tls = spec.endpoint.tls
    return Entry(
        uid=identity.uid,
        generation=identity.generation,
        namespace=identity.namespace,
        name=identity.name,
        source=identity.source,
        spec=spec,
        url=_url(spec.endpoint, read, policy),
        headers=tuple(
            _header(header, f"endpoint.headers[{i}]", read) for i, header in enumerate(spec.endpoint.headers)
        ),
        signing_keys=_signing_keys(spec, read) or (_generated(generated_key(identity)),),
        ca_certificate=_authorities(tls.ca_secret_ref, read) if tls and tls.ca_secret_ref else None,
        client_certificate=_client_certificate(tls.client_certificate_secret_ref.name, read)
        if tls and tls.client_certificate_secret_ref
        else None,
    )


def resolve_source(identity: Identity, spec: WebhookSource, secrets: SecretReader, *, prefix: str = "") -> SourceEntry:
    """The entry that requests are judged by, with every secret read and checked.

    InvalidInput with the field that is wrong, `prefix` before it (`spec.`): SecretNotFound, SecretKeyNotFound,
    SecretNotAllowed, InvalidSecret.
    """
    read = _Secrets(secrets, prefix)
    verification = spec.verification
    texts = [
        _verification_secret(verification.scheme, reference, f"verification.secretRefs[{i}]", read)
        for i, reference in enumerate(verification.secret_refs)
    ]
    return SourceEntry(
        uid=identity.uid,
        generation=identity.generation,
        namespace=identity.namespace,
        name=identity.name,
        source=identity.source,
        spec=spec,
        secrets=tuple(map(SecretStr, texts)),
    )


class _Secrets:
    """Reads values of Secrets and says which field referred to what is missing."""

    def __init__(self, reader: SecretReader, prefix: str) -> None:
        self._reader = reader
        self.prefix = prefix

    def text(self, name: str, key: str, field: str) -> str:
        try:
            data = self._reader(name)
        except SecretNotAllowed:
            detail = f'the Secret {name} may not be used: label it hookcast.dev/allow="true"'
            raise InvalidInput(Reason.SECRET_NOT_ALLOWED, self.prefix + field, detail) from None
        if data is None:
            raise InvalidInput(Reason.SECRET_NOT_FOUND, self.prefix + field, f"there is no Secret {name}")
        if key not in data:
            detail = f"the Secret {name} has no key {shown_name(key)}"
            raise InvalidInput(Reason.SECRET_KEY_NOT_FOUND, self.prefix + field, detail)
        try:
            # A line break at the end comes from editors and shells, and is no part of any of these values.
            return data[key].decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise self.invalid(field, f"{key} of the Secret {name} is not UTF-8 text") from None

    def of(self, reference: SecretKeyRef, field: str) -> str:
        return self.text(reference.name, reference.key, field)

    def invalid(self, field: str, detail: str) -> InvalidInput:
        return InvalidInput(Reason.INVALID_SECRET, self.prefix + field, detail)


def _url(endpoint: Endpoint, read: _Secrets, policy: EgressPolicy) -> str:
    if endpoint.url_secret_ref is None:
        return _judged(endpoint.url or "", f"{read.prefix}endpoint.url", policy)
    field = "endpoint.urlSecretRef"
    text = read.of(endpoint.url_secret_ref, field)
    try:
        return _judged(text, read.prefix + field, policy)
    except EgressDenied:
        # The message names the host, which is part of the secret.
        raise EgressDenied("the URL in the Secret may not be reached", field=read.prefix + field) from None
    except InvalidInput as error:
        raise InvalidInput(error.reason, read.prefix + field, "the text in the Secret is not a usable URL") from None


def _judged(text: str, field: str, policy: EgressPolicy) -> str:
    url = parse_url(text, field=field)
    try:
        policy.check_url(url)
    except EgressDenied as denied:
        raise EgressDenied(denied.detail, field=field) from None
    return str(url)


def _header(header: Header, field: str, read: _Secrets) -> tuple[str, str]:
    if header.value_from is None:
        return header.name, header.value or ""
    field += ".valueFrom"
    value = read.of(header.value_from.secret_key_ref, field)
    _check_sendable(value, field, read)
    return header.name, value


def _signing_keys(spec: Subscription, read: _Secrets) -> tuple[SigningKey, ...]:
    keys = []
    for index, reference in enumerate(spec.signing.keys):
        field = f"signing.keys[{index}].secretRef"
        text = read.of(reference.secret_ref, field)
        key = parse_secret(text, field=read.prefix + field)
        if key.algorithm != reference.algorithm or not key.can_sign:
            raise read.invalid(field, f"the key in the Secret is no private key for {reference.algorithm}")
        expires = None if reference.expires_at is None else epoch_ms(reference.expires_at)
        keys.append(SigningKey.model_validate({"algorithm": key.algorithm, "secret": text, "expires_at": expires}))
    return tuple(keys)


def _generated(secret: str) -> SigningKey:
    key = parse_secret(secret, field="signing.keys")
    return SigningKey.model_validate({"algorithm": key.algorithm, "secret": secret})


def _authorities(reference: SecretKeyRef, read: _Secrets) -> str:
    field = "endpoint.tls.caSecretRef"
    what = f"{reference.key} of the Secret {reference.name}"
    return _pem(_certificates(read.of(reference, field), what, field, read))


def _client_certificate(name: str, read: _Secrets) -> ClientCertificate:
    """A Secret as Kubernetes has it for kubernetes.io/tls."""
    field = "endpoint.tls.clientCertificateSecretRef"
    text, key = (read.text(name, part, field) for part in ("tls.crt", "tls.key"))
    chain = _certificates(text, f"tls.crt of the Secret {name}", field, read)
    private = _private_key(key, f"tls.key of the Secret {name}", field, read)
    if chain[0].public_key() != private.public_key():
        raise read.invalid(field, f"tls.key of the Secret {name} is not the key of the first certificate in tls.crt")
    return ClientCertificate(chain=_pem(chain), key=_pem_of(private))


def _private_key(text: str, what: str, field: str, read: _Secrets) -> PrivateKey:
    """A key of the kinds that certificates are made for.

    Whether an RSA key's primes are such is not asked: with a large one that takes minutes, during which nothing else
    runs. Whether it is the certificate's key is.
    """
    if len(text) > MAX_PRIVATE_KEY:
        raise read.invalid(field, f"{what} has over {MAX_PRIVATE_KEY} characters")
    try:
        key = load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise read.invalid(field, f"{what} is no private key in PEM, unencrypted") from None
    if not isinstance(key, PrivateKey) or (isinstance(key, RSAPrivateKey) and key.key_size > MAX_RSA_BITS):
        raise read.invalid(
            field, f"{what} is neither RSA of at most {MAX_RSA_BITS} bits nor a key of an elliptic curve"
        )
    return key


def _pem_of(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _certificates(text: str, what: str, field: str, read: _Secrets) -> list[Certificate]:
    if len(text) > MAX_CERTIFICATES:
        raise read.invalid(field, f"{what} has over {MAX_CERTIFICATES} characters")
    try:
        return load_pem_x509_certificates(text.encode())
    except ValueError:
        raise read.invalid(field, f"{what} holds no certificates in PEM, or a broken one") from None


def _pem(certificates: Iterable[Certificate]) -> str:
    """Without the comments that bundles have, of which some clients take ASCII alone."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def _verification_secret(scheme: Scheme, reference: VerificationSecretRef, field: str, read: _Secrets) -> str:
    if reference.key is None:
        return _credentials(reference.name, field, read)
    text = read.text(reference.name, reference.key, field)
    if not text:
        # Anyone can sign with an empty key.
        raise read.invalid(field, f"{reference.key} of the Secret {reference.name} is empty")
    if len(text) > MAX_SECRET:
        raise read.invalid(field, f"{reference.key} of the Secret {reference.name} has over {MAX_SECRET} characters")
    if scheme == "StandardWebhooks":
        parse_secret(text, field=read.prefix + field)
    if scheme in {"Bearer", "GitLab"}:
        _check_sendable(text, field, read)
    return text


def _credentials(name: str, field: str, read: _Secrets) -> str:
    """`username:password` of a Secret as Kubernetes has it for kubernetes.io/basic-auth (RFC 7617, section 2)."""
    username, password = (read.text(name, key, field) for key in ("username", "password"))
    if not username or ":" in username:
        raise read.invalid(field, f"username of the Secret {name} is empty or has a colon, which ends it")
    if not password:
        raise read.invalid(field, f"password of the Secret {name} is empty")
    if len(username) + len(password) >= MAX_SECRET or not (username + password).isprintable():
        raise read.invalid(field, f"the Secret {name} holds control characters, or over {MAX_SECRET} characters")
    return f"{username}:{password}"


def _check_sendable(text: str, field: str, read: _Secrets) -> None:
    """A value that a header is to hold, or that is compared with one's: else it could never be equal."""
    try:
        check_header_value(text)
    except ValueError as error:
        raise read.invalid(field, str(error)) from None
