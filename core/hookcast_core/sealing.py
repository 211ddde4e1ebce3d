"""Packing and sealing: nothing that stores or carries a configuration can read it, or change it unnoticed. Pure.

gzip (RFC 1952) without a time, then Fernet (AES-128-CBC and HMAC-SHA256, with the time of sealing).
"""

import zlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from hookcast_core.errors import InvalidInput, Reason

_GZIP = 31
"""zlib's number for 32 KiB of window in gzip's container; such a stream says no time."""
LEVEL = 3
"""Costs a third of the default's time and a tenth more bytes."""


class Sealer:
    """Seals with the first of its Fernet keys and opens with any, newest first, so that keys can be rotated.

    Raises ValueError where a key is not 32 bytes in URL-safe base64.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        fernets = [Fernet(key) for key in keys]
        self._fernet = MultiFernet(fernets)
        self._newest = fernets[0]

    def seal(self, content: bytes, now: int) -> bytes:
        """A token of `content`, sealed at `now` (epoch seconds): ASCII, different each time."""
        packer = zlib.compressobj(LEVEL, wbits=_GZIP)
        return self._fernet.encrypt_at_time(packer.compress(content) + packer.flush(), now)

    def open(self, token: bytes, limit: int) -> tuple[bytes, int]:
        """What was sealed, and when (epoch seconds).

        InvalidInput (InvalidConfiguration) where it was not sealed with one of these keys, was changed since, or has
        more than `limit` bytes, without unpacking more.
        """
        try:
            packed = self._fernet.decrypt(token)
            sealed_at = self._fernet.extract_timestamp(token)
        except InvalidToken:
            raise _invalid("was not sealed with a key in HOOKCAST_INTERNAL_KEY, or is damaged") from None
        return _unpack(packed, limit), sealed_at

    def is_newest(self, token: bytes) -> bool:
        """Whether it was sealed with the first key: another one may soon be taken away."""
        try:
            self._newest.extract_timestamp(token)  # which checks the signature, and decrypts nothing
        except InvalidToken:
            return False
        return True


def _unpack(packed: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        content = unpacker.decompress(packed, limit)
    except zlib.error:
        raise _invalid("is damaged") from None
    if not unpacker.eof:
        raise _invalid(f"has more than {limit} bytes, or was cut")
    return content


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_CONFIGURATION, None, f"the configuration {detail}")
