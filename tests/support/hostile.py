"""URLs, and answers of name servers, that must lead nowhere; and by which reason each is refused where it is saved.

`{port}` stands for a port of the loopback interface on which somebody listens who must not hear of any of them, and
`{good}` for the port of an endpoint on 127.0.0.1 that may be reached.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from hookcast_core.errors import Reason


@dataclass(frozen=True, slots=True)
class Row:
    """One URL.

    `refused` is why it is not saved, None where nothing is wrong with its text; `answers` are its name's, one after
    another, of which the last one stays.
    """

    url: str
    refused: Reason | None
    answers: tuple[tuple[str, ...], ...] = ()

    def at(self, port: int, good: int) -> "Row":
        """The row with the ports of this run."""
        return Row(self.url.replace("{port}", str(port)).replace("{good}", str(good)), self.refused, self.answers)


_UNWRITABLE = (
    # no URL, or of another scheme
    "127.0.0.1:{port}",
    "//127.0.0.1:{port}/",
    "/hooks",
    "http:127.0.0.1:{port}",
    "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "https:127.0.0.1",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:{port}/_POST",
    "dict://127.0.0.1:{port}/",
    "ldap://127.0.0.1:{port}/",
    "redis://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "ws://127.0.0.1:{port}/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "jar:http://127.0.0.1:{port}!/",
    "http+unix://127.0.0.1:{port}/",
    "httpſ://127.0.0.1:{port}/",  # noqa: RUF001  a long s folds to s
    "ｈttp://127.0.0.1:{port}/",  # noqa: RUF001  full-width
    "h\u200bttp://127.0.0.1:{port}/",
    "%68ttp://127.0.0.1:{port}/",
    # no host
    "https://",
    "https:///",
    "https://:{port}/",
    "https://?@127.0.0.1/",
    "https://#@127.0.0.1/",
    "https://./",
    "https://..:{port}/",
    "https://%2e:{port}/",
    "https://。:{port}/",
    "https://\u00ad:{port}/",
    # credentials, and what looks like them
    "http://good@127.0.0.1:{port}/",
    "http://good.example@127.0.0.1:{port}/",
    "http://good.example:443@127.0.0.1:{port}/",
    "http://good.example:pass@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://:@127.0.0.1:{port}/",
    "http://a@b@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@good.example/",
    "https://127.0.0.1%40good.example/",
    "https://good.example%40127.0.0.1:{port}/",
    "http://good.example%00@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\uff20good.example/",
    "https://good.example\uff20127.0.0.1:{port}/",
    "https://[::1]@good.example/",
    "https://good.example@[::1]:{port}/",
    # backslashes, white space, control characters
    "http:\\\\127.0.0.1:{port}\\",
    "https://good.example\\@127.0.0.1:{port}/",
    "https://good.example\\.127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@good.example/",
    "https://good.example/\\..\\127.0.0.1",
    " http://127.0.0.1:{port}/",
    "\thttp://127.0.0.1:{port}/",
    "http://127.0.0.1 :{port}/",
    "http://127.0.0.1\t:{port}/",
    "ht\ntp://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nHost: good.example",
    "https://good.example/\r\n\r\nGET http://127.0.0.1:{port}/ HTTP/1.1",
    "https://good.example/\x00.127.0.0.1",
    "https://good.example\x00.127.0.0.1:{port}/",
    "https://good.example/\x7f",
    "https://good.example/\x85",
    "https://good.example/\u2028Host:\u2028127.0.0.1",
    "https://good.example/\u3000",
    "http://127.0.0.1:{port}/ HTTP/1.1",
    # percent-encoded hosts
    "https://good%00.127.0.0.1:{port}/",
    "https://good%2f127.0.0.1:{port}/",
    "https://good%3a80%2f.example/",
    "https://127.0.0.1%3a{port}/",
    "https://127.0.0.1%23.good.example/",
    "https://127.0.0.1%5c.good.example/",
    "https://%250127.0.0.1/",
    "https://127.0.0.1%.good.example/",
    "https://%ff.good.example/",
    "https://%5b%3a%3a1%5d:{port}/",
    # ports
    "https://127.0.0.1:/",
    "https://127.0.0.1:0/",
    "https://127.0.0.1:-1/",
    "https://127.0.0.1:+443/",
    "https://127.0.0.1:65536/",
    "https://127.0.0.1:99999999999/",
    "https://127.0.0.1:0x1bb/",
    "https://127.0.0.1:４４３/",  # noqa: RUF001  full-width digits
    "https://127.0.0.1:443:{port}/",
    "https://127.0.0.1:000443/",
    "https://good.example:https/",
    # brackets and zones
    "https://[::1/",
    "https://::1/",
    "https://::1:{port}/",
    "https://[]:{port}/",
    "https://[127.0.0.1]:{port}/",
    "https://[::127.1]:{port}/",
    "https://[localhost]:{port}/",
    "https://[::1]good.example/",
    "https://good.example[::1]/",
    "https://[[::1]]:{port}/",
    "https://[::1%lo]:{port}/",
    "https://[::1%25lo]:{port}/",
    "https://[fe80::1%25eth0]:{port}/",
    "https://[fe80::1%1]:{port}/",
    "https://[::１]:{port}/",  # noqa: RUF001  a full-width digit
    "https://[v1.127.0.0.1]:{port}/",
    "https://[1::2::3]:{port}/",
    # numbers that are no addresses
    "https://127.0.0.256:{port}/",
    "https://256.0.0.1:{port}/",
    "https://127.0.0.0.1:{port}/",
    "https://127.0.65536:{port}/",
    "https://4294967296:{port}/",
    "https://0x1007f000001:{port}/",
    "https://127.0.0.08:{port}/",
    "https://127..0.1:{port}/",
    "https://good.127:{port}/",
    "https://good.0x7f:{port}/",
    "https://127.0.0.1..:{port}/",
    "https://169.254.169.254.0x:{port}/",
    # names that are none
    "https://-good.example/",
    "https://good..example/",
    "https://.localhost:{port}/",
    "https://good,127.0.0.1:{port}/",
    "https://good;127.0.0.1:{port}/",
    "https://good*.example/",
    "https://xn--/",
    "https://xn--a/",
    "https://xn--1-:{port}/",
    "https://xn--127-.0.0.1a/",
    "https://\u200d.localhost/",
    "https://a" + "a" * 63 + ".example/",
    "https://" + "a." * 127 + "example/",
)
_LOOPBACK = (
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.01",
    "00000000177.0.0.1",
    "127.0.0x.1",
    "127.0.0.0x1",
    "１２７.０.０.１",  # noqa: RUF001  full-width digits
    "⑫⑦.0.0.1",
    "①②⑦.⓪.⓪.①",
    "𝟏𝟐𝟕.𝟎.𝟎.𝟏",  # noqa: RUF001  mathematical digits
    "127。0。0。1",
    "127．0．0．1",  # noqa: RUF001  full-width dots
    "127｡0｡0｡1",
    "127.0.0.1。",
    "1\u00ad27.0.0.1",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "%EF%BC%91%EF%BC%92%EF%BC%97.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7F00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:1::1]",
    "0",
    "0.0.0.0",  # noqa: S104  the case itself
    "0x",
    "[::]",
)
_PRIVATE = (
    "0.1.2.3",
    "10.0.0.1",
    "012.0.0.1",
    "100.64.0.1",
    "169.254.169.254",  # the clouds' metadata
    "0xa9fea9fe",
    "2852039166",
    "169.16689662",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",  # and on IPv6
    "[fd20:ce::254]",
    "100.100.100.200",
    "192.0.0.192",
    "172.16.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::10.0.0.1]",
    "[64:ff9b::192.168.0.1]",
    "[100::1]",
    "[2001::1]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
)
_BAD_ANSWERS: tuple[tuple[str, ...], ...] = (
    ("127.0.0.1",),
    ("127.0.0.2",),
    ("127.255.255.254",),
    ("::1",),
    ("0.0.0.0",),  # noqa: S104  the case itself
    ("::",),
    ("::ffff:127.0.0.1",),
    ("::ffff:7f00:1",),
    ("::127.0.0.1",),
    ("::ffff:0:127.0.0.1",),
    ("64:ff9b::127.0.0.1",),
    ("64:ff9b:1::127.0.0.1",),
    ("2002:7f00:1::1",),
    ("2001:0:7f00:1::",),
    ("10.0.0.1",),
    ("100.64.0.1",),
    ("169.254.169.254",),
    ("::ffff:169.254.169.254",),
    ("64:ff9b::a9fe:a9fe",),
    ("fd00:ec2::254",),
    ("100.100.100.200",),
    ("172.16.0.1",),
    ("192.0.0.192",),
    ("192.168.1.1",),
    ("198.18.0.1",),
    ("203.0.113.9",),
    ("224.0.0.251",),
    ("255.255.255.255",),
    ("fc00::1",),
    ("fdab:cdef::1",),
    ("fe80::1",),
    ("fec0::1",),
    ("ff02::fb",),
    ("2001:db8::1",),
    # what is no plain address
    ("::1%lo",),
    ("fe80::1%eth0",),
    ("2606:4700::1111%1",),
    ("127.1",),
    ("0x7f000001",),
    ("2130706433",),
    ("0177.0.0.1",),
    ("127.0.0.1.",),
    ("１２７.0.0.1",),  # noqa: RUF001  full-width digits
    (" 127.0.0.1",),
    ("127.0.0.1\n",),
    ("127.0.0.1\x00",),
    ("[::1]",),
    ("127.0.0.1:80",),
    ("localhost",),
    ("good.example",),
    ("",),
    # several, as behind aliases: one bad one among them is enough, wherever it stands
    ("93.184.215.14", "127.0.0.1"),
    ("127.0.0.1", "93.184.215.14"),
    ("93.184.215.14", "93.184.215.15", "10.0.0.1"),
    ("93.184.215.14", "::1"),
    ("2606:4700::1111", "fe80::1%eth0"),
    ("2606:4700::1111", "::ffff:10.0.0.1"),
    ("93.184.215.14",) * 10 + ("169.254.169.254",),
    ("93.184.215.14", "not an address"),
)
_ANSWERED_BADLY_AT_THE_GOOD_PORT: tuple[tuple[str, ...], ...] = (
    # The first of each may be reached at that port.
    ("127.0.0.1", "10.0.0.1"),
    ("10.0.0.1", "127.0.0.1"),
    ("127.0.0.1", "::1"),
    ("127.0.0.1", "127.0.0.2"),
    ("127.0.0.1", "::ffff:127.0.0.2"),
    ("127.0.0.1", "127.0.0.1%lo"),
)
_TURNS_TO: tuple[tuple[str, ...], ...] = (
    ("::1",),
    ("127.0.0.2",),
    ("10.0.0.1",),
    ("169.254.169.254",),
    ("::ffff:169.254.169.254",),
    ("127.0.0.1", "::1"),
    ("93.184.215.14", "::1"),
    ("fe80::1%lo",),
)
_SPELT_NAMES = (
    "https://LOCALHOST:{port}/",
    "https://localhost.:{port}/",
    "https://ｌｏｃａｌｈｏｓｔ:{port}/",  # noqa: RUF001  full-width
    "https://loc\u00adalhost:{port}/",
    "https://localhost%2e:{port}/",
    "https://%6cocalhost:{port}/",
    "https://sub。localhost:{port}/",
    "https://127.0.0.1.nip.example:{port}/",
    "https://2130706433.nip.example:{port}/",
    "https://metadata.google.internal/",
    "https://kubernetes.default.svc/",
    "https://intern\u00e9t.example:{port}/",
    "https://faß.example:{port}/",
    "https://router:{port}/",
    "https://my_service:{port}/",
)
_REDIRECT_TARGETS = (
    "http://127.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://localhost:{port}/",
    "https://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http://good@127.1:{port}/",
)
REDIRECTS = tuple((status, to) for status in (301, 302, 307, 308) for to in _REDIRECT_TARGETS) + tuple(
    (status, _REDIRECT_TARGETS[0]) for status in (300, 303, 304, 305, 306, 399)
)
"""Status and Location of answers that the good endpoint gives."""


def rows(port: int, good: int) -> list[Row]:
    """The table, without the redirects."""
    return [row.at(port, good) for row in _rows()]


def _rows() -> Iterator[Row]:
    for url in _UNWRITABLE:
        yield Row(url, Reason.INVALID_URL)
    for host in (*_LOOPBACK, *_PRIVATE):
        yield Row(f"https://{host}:{{port}}/", Reason.EGRESS_DENIED)
    for host in _LOOPBACK[::4]:
        yield Row(f"http://{host}:{{port}}/hooks?a=1", Reason.EGRESS_DENIED)
    for public in ("93.184.215.14", "[2606:4700::1111]", "168.63.129.16"):  # the last is Azure's own service
        yield Row(f"http://{public}:{{port}}/", Reason.EGRESS_DENIED)  # not encrypted
    yield from _named()


def _named() -> Iterator[Row]:
    names = (f"name-{number}.example" for number in count())
    for url in _SPELT_NAMES:
        yield Row(url, None, (("127.0.0.1", "::1"),))
    for answer in _BAD_ANSWERS:
        yield Row(f"https://{next(names)}:{{port}}/", None, (answer,))
    for answer in (("127.0.0.1",), ("93.184.215.14",), ("::1",)):
        yield Row(f"http://{next(names)}:{{port}}/", None, (answer,))
    for answer in _ANSWERED_BADLY_AT_THE_GOOD_PORT:
        yield Row(f"http://{next(names)}:{{good}}/mixed", None, (answer,))
    for answer in _TURNS_TO:
        yield Row(f"http://{next(names)}:{{good}}/turning", None, (("127.0.0.1",), answer))
