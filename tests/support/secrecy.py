"""Whether a secret can be read in bytes, however it is spelled there."""

import binascii
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from html import escape
from urllib.parse import quote, quote_plus

PREFIXES = ("whsec_", "whsk_", "whpk_", "Bearer ", "Basic ")
_SHORTEST = 12
_PEM_LINE = re.compile(r"^[A-Za-z0-9+/=]{40,}$", re.MULTILINE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_MAGIC = (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda")


def shows(content: bytes, secret: str) -> str | None:
    """How a secret, or the part of it that matters, is spelled in the content; None if it is not there."""
    return next((way for way, spelling in spellings(secret) if spelling in content), None)


class Search:
    """Looks for many secrets in many places, packed or not."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._spellings = {
            spelling: f"{name} ({way})" for name, secret in secrets.items() for way, spelling in spellings(secret)
        }

    def found(self, content: bytes) -> list[str]:
        """What of them is in the content, and how it is spelled."""
        everything = b"\n".join(unpacked(content))
        return [what for spelling, what in self._spellings.items() if spelling in everything]


def spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    """Every way to write a secret that is looked for, by name."""
    for part in _parts(secret):
        yield from _of_bytes(part)
        try:
            text = part.decode()
        except UnicodeDecodeError:
            continue  # a key's own bytes
        yield from _of_text(text)


def unpacked(content: bytes) -> Iterator[bytes]:
    """It, what is base64 in it, and whatever of these can be decompressed."""
    parts = [content, *map(from_base64, _BASE64.findall(content))]
    for part in parts:
        yield part
        for magic in _MAGIC:
            for found in re.finditer(re.escape(magic), part):
                try:
                    yield zlib.decompressobj(wbits=47).decompress(part[found.start() :])
                except zlib.error:
                    continue


def from_base64(text: bytes) -> bytes:
    """What it encodes, in either alphabet; nothing if it is none."""
    usual = text.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        return b64decode(usual + b"=" * (-len(usual) % 4))
    except binascii.Error:
        return b""


def _parts(secret: str) -> Iterator[bytes]:
    """The text, what follows its prefix, the bytes that this is base64 of, and the lines of a key in PEM."""
    yield secret.encode()
    lines = _PEM_LINE.findall(secret) if "-----BEGIN" in secret else []
    bare = next((secret.removeprefix(prefix) for prefix in PREFIXES if secret.startswith(prefix)), secret)
    for text in {bare, "".join(lines), *lines}:
        if len(text) >= _SHORTEST:
            yield text.encode()
            raw = from_base64(text.encode())
            if len(raw) >= _SHORTEST and re.fullmatch(r"[A-Za-z0-9+/_-]+={0,2}", text):
                yield raw


def _of_bytes(raw: bytes) -> Iterator[tuple[str, bytes]]:
    yield "as it is", raw
    yield "reversed", raw[::-1]
    yield "hex", raw.hex().encode()
    yield "hex in capitals", raw.hex().upper().encode()
    for shift in range(3):
        # Whatever stands before it, of three ways that base64 cuts the bytes this is one.
        encoded = b64encode(b"\0" * shift + raw)[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        yield "base64", encoded
        yield "urlsafe base64", encoded.translate(bytes.maketrans(b"+/", b"-_"))


def _of_text(text: str) -> Iterator[tuple[str, bytes]]:
    written = {
        "JSON": json.dumps(text)[1:-1],
        "JSON in UTF-8": json.dumps(text, ensure_ascii=False)[1:-1],
        "JSON with escaped slashes": json.dumps(text)[1:-1].replace("/", "\\/"),
        "JSON in JSON": json.dumps(json.dumps(text)[1:-1])[1:-1],
        "a Python literal": repr(text)[1:-1],
        "HTML": escape(text),
        "percent-encoded": quote(text, safe=""),
        "percent-encoded with slashes": quote(text),
        "a form": quote_plus(text),
    }
    for way, spelling in written.items():
        yield way, spelling.encode()
        yield f"{way}, reversed", spelling[::-1].encode()
    small = re.sub(r"%..", lambda found: found[0].lower(), written["percent-encoded"])
    yield "percent-encoded in small letters", small.encode()
    yield "Latin-1", text.encode("latin-1", "replace")
