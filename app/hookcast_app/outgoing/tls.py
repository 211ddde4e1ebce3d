"""TLS of outgoing connections: whom we trust, who we are, and sessions that save the second handshake."""

import os
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_CONTEXTS = 1_000
MAX_SESSIONS = 1_000


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate that an endpoint asks us for: PEM texts, the chain beginning with our own, the key unencrypted."""

    chain: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """What a subscription says about TLS. `ca_certificate` (PEM, one or more) replaces the system's authorities."""

    ca_certificate: str | None = None
    client_certificate: ClientCertificate | None = None


class SessionContext(ssl.SSLContext):
    """A client's context that offers the last session of the same server name (RFC 8446, section 2.2).

    Sessions stay within the context, so that one is never offered under other trust or another client certificate.
    """

    _sessions: OrderedDict[str, ssl.SSLSession]

    def wrap_bio(  # the standard library's signature
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap as the base class does, with the session kept for `server_hostname`."""
        if isinstance(server_hostname, str):
            session = self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def keep_session(self, server_hostname: str, session: ssl.SSLSession) -> None:
        """Keep a session; in TLS 1.3 the ticket that makes it useful comes after the handshake."""
        self._sessions[server_hostname] = session
        self._sessions.move_to_end(server_hostname)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)


class Contexts:
    """One context for each combination of trust and client certificate, whatever the number of endpoints."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[Tls, SessionContext] = OrderedDict()

    def get(self, tls: Tls) -> SessionContext:
        """Find or make the context. Raises ssl.SSLError where a certificate or key is unusable."""
        context = self._contexts.get(tls)
        if context is None:
            context = self._contexts[tls] = make_context(tls)
        self._contexts.move_to_end(tls)
        if len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)
        return context


def make_context(tls: Tls) -> SessionContext:
    """Make a context that verifies certificate and name, TLS 1.2 or later. Raises ssl.SSLError."""
    context = SessionContext(ssl.PROTOCOL_TLS_CLIENT)
    context._sessions = OrderedDict()  # noqa: SLF001  SSLContext is made in __new__, which takes no more
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.ca_certificate is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=tls.ca_certificate)
        except (TypeError, ValueError):
            raise ssl.SSLError("empty, or not ASCII") from None
    if tls.client_certificate is not None:
        with _as_file(tls.client_certificate) as path:
            # A password that is set keeps OpenSSL from asking the terminal for one.
            context.load_cert_chain(path, password="")
    return context


def describe(error: ssl.SSLError) -> str:
    """OpenSSL's name for what went wrong (`WRONG_VERSION_NUMBER`), or what we say ourselves."""
    return getattr(error, "reason", None) or str(error)


@contextmanager
def _as_file(certificate: ClientCertificate) -> Iterator[str]:
    """OpenSSL's Python binding reads keys from files alone: one in memory where there is memfd, else a private one."""
    content = f"{certificate.chain}\n{certificate.key}\n".encode()
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("client-certificate"), "wb", buffering=0) as file:
            file.write(content)
            yield f"/proc/self/fd/{file.fileno()}"
    else:  # pragma: no cover  macOS
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
