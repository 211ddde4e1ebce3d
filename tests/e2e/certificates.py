"""A certificate and its authority as a Secret holds them."""

from tests.support.certificates import Authority


def issued_for(*hosts: str) -> dict[str, str]:
    """What a Secret of type kubernetes.io/tls holds, with `ca.crt`."""
    authority = Authority()
    signed = authority.sign(*hosts)
    return {"tls.crt": signed.chain, "tls.key": signed.key, "ca.crt": authority.pem}
