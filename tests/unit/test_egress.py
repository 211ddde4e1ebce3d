"""URLs are judged by their parts, however they are spelled, and nothing private is reachable unless allowed."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hookcast_core.egress import DENIED_NETWORKS, EgressPolicy, denied_network, inner_address, parse_url
from hookcast_core.errors import EgressDenied, InvalidInput, Reason

DENIED = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]
PUBLIC_URL = parse_url("https://shop.example/hooks")
NOTHING_ALLOWED = EgressPolicy(())


def denies(policy: EgressPolicy, url: str, address: str | None = None) -> bool:
    """Whether the policy refuses the URL, or the address that it resolved to."""
    parsed = parse_url(url)
    try:
        policy.check_url(parsed)
        if address is not None:
            policy.check_address(parsed, address)
    except EgressDenied:
        return True
    return False


# Addresses


def test_the_table_holds_exactly_the_networks_of_the_design() -> None:
    """Nobody drops or widens a denied network unnoticed."""
    assert {str(network) for network in DENIED_NETWORKS} == set(DENIED)


@pytest.mark.parametrize("network", DENIED)
def test_a_denied_network_is_denied_from_its_first_address_to_its_last(network: str) -> None:
    """Both ends and the middle of every denied network are unreachable."""
    first, last = ip_network(network)[0], ip_network(network)[-1]
    middle = type(first)((int(first) + int(last)) // 2)

    for address in (first, middle, last):
        with pytest.raises(EgressDenied):
            NOTHING_ALLOWED.check_address(PUBLIC_URL, str(address))


def neighbours() -> Iterator[str]:
    """Addresses right before and after each denied network that no other denied or judged-within network holds."""
    for text in DENIED:
        network = ip_network(text)
        for number in (int(network[0]) - 1, int(network[-1]) + 1):
            if not 0 <= number < 1 << network.max_prefixlen:
                continue
            address = type(network[0])(number)
            inside = any(address in ip_network(other) for other in DENIED)
            if not inside and address not in IPv6Network("::/96"):
                yield str(address)


@pytest.mark.parametrize("address", sorted(set(neighbours())))
def test_the_neighbours_of_a_denied_network_are_reachable(address: str) -> None:
    """A denied network ends where it ends."""
    NOTHING_ALLOWED.check_address(PUBLIC_URL, address)


def test_most_networks_have_a_neighbour_that_was_tested() -> None:
    """The case above is no empty list: only networks that touch others have none."""
    assert len(set(neighbours())) >= 40


@pytest.mark.parametrize("wrapper", ["::{}", "::ffff:{}", "::ffff:0:{}", "64:ff9b::{}"])
@pytest.mark.parametrize(
    ("inner", "denied"), [("127.0.0.1", True), ("169.254.169.254", True), ("10.255.255.255", True), ("8.8.8.8", False)]
)
def test_an_ipv6_address_that_wraps_an_ipv4_one_is_judged_by_it(wrapper: str, inner: str, *, denied: bool) -> None:
    """No translation leads to what is denied, and none keeps a public address from being reached."""
    address = wrapper.format(inner)

    assert denies(NOTHING_ALLOWED, "https://shop.example/", address) is denied
    assert inner_address(IPv6Address(address)) == IPv4Address(inner)


def test_loopback_and_unspecified_wrap_nothing() -> None:
    """::1 is loopback, not 0.0.0.1, so that allowing 0.0.0.0/8 does not allow it."""
    assert inner_address(IPv6Address("::1")) is None
    assert denies(EgressPolicy(["0.0.0.0/8"]), "https://[::1]/")


@pytest.mark.parametrize(
    "address", ["fe80::1%eth0", "2606:4700::1111%1", "::ffff:8.8.8.8%1", "shop.example", "", "8.8"]
)
def test_an_address_with_a_zone_or_none_at_all_is_denied(address: str) -> None:
    """What a resolver may answer besides an address is not connected to."""
    assert denies(NOTHING_ALLOWED, "https://shop.example/", address)


def test_a_denial_does_not_tell_what_a_private_name_resolves_to() -> None:
    """Whoever may subscribe cannot map the internal network by its refusals."""
    with pytest.raises(EgressDenied) as refusal:
        NOTHING_ALLOWED.check_address(PUBLIC_URL, "10.9.8.7")

    assert (refusal.value.reason, refusal.value.field) == (Reason.EGRESS_DENIED, "endpoint.url")
    assert "10.9.8.7" not in refusal.value.detail
    assert "10.0.0.0/8" in refusal.value.detail


# Spellings


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0x0.0x0.0x1",
        "017700000001",
        "0177.0.0.01",
        "0000000000000000177.0.0.1",
        "127.0.0.0x1",
        "127.0x.0.1",
        "１２７.０.０.１",  # noqa: RUF001  full-width digits
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127．0．0．1",  # noqa: RUF001  full-width dots
        "%31%32%37.0.0.1",
        "%EF%BC%91%EF%BC%92%EF%BC%97.1",
        "127.0.0.1%2E",
        "[::ffff:127.0.0.1]",
        "[::FFFF:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
    ],
)
def test_every_spelling_of_a_loopback_address_is_that_address(host: str) -> None:
    """Resolvers understand many spellings; all are seen through."""
    url = parse_url(f"https://{host}/")

    assert (url.host, url.is_literal) == ("127.0.0.1", True)
    assert denies(NOTHING_ALLOWED, f"https://{host}/")


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[0000::0001]", "::1"),
        ("[::127.0.0.1]", "::7f00:1"),
        ("[64:FF9B::10.0.0.1]", "64:ff9b::a00:1"),
        ("[FE80::1]", "fe80::1"),
        ("0", "0.0.0.0"),  # noqa: S104  the case itself
        ("0x", "0.0.0.0"),  # noqa: S104  the case itself
        ("255.255.65535", "255.255.255.255"),
        ("4294967295", "255.255.255.255"),
        ("169.16689662", "169.254.169.254"),
    ],
)
def test_an_address_is_written_canonically_and_judged(host: str, canonical: str) -> None:
    """What is judged is the address, not its text."""
    assert parse_url(f"https://{host}/").host == canonical
    assert denies(NOTHING_ALLOWED, f"https://{host}/")


@pytest.mark.parametrize(
    ("text", "rebuilt"),
    [
        ("HTTPS://Shop.EXAMPLE", "https://shop.example/"),
        ("https://shop.example./hooks", "https://shop.example/hooks"),
        ("https://shop.example:443/", "https://shop.example/"),
        ("https://shop.example:0443/", "https://shop.example/"),
        ("http://shop.example:443/", "http://shop.example:443/"),
        ("https://shop.example?q=1", "https://shop.example/?q=1"),
        ("https://shop.example/a#b?c", "https://shop.example/a"),
        ("https://shop.example#@evil.example/", "https://shop.example/"),
        ("https://shop.example/%7euser/%e2%82%ac?a=%2f", "https://shop.example/%7Euser/%E2%82%AC?a=%2F"),
        ('https://shop.example/€?q=[1]|"<>{}^`', "https://shop.example/%E2%82%AC?q=%5B1%5D%7C%22%3C%3E%7B%7D%5E%60"),
        ("https://shop.example/a/../b//c?d?e/@:", "https://shop.example/a/../b//c?d?e/@:"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://b%C3%BCcher.example/", "https://xn--bcher-kva.example/"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://ｓｈｏｐ.example/", "https://shop.example/"),  # noqa: RUF001  full-width
        ("https://shop\u00ad.example/", "https://shop.example/"),
        ("https://my_service:8443/", "https://my_service:8443/"),
        ("https://1.2.3.4.example/", "https://1.2.3.4.example/"),
        ("https://[2606:4700:0::1111]:8443/x", "https://[2606:4700::1111]:8443/x"),
        ("https://[2606:4700::1111]", "https://[2606:4700::1111]/"),
    ],
)
def test_a_url_is_rebuilt_from_its_parts(text: str, rebuilt: str) -> None:
    """What is sent is one normal form, which parses to itself."""
    url = parse_url(text)

    assert str(url) == rebuilt
    assert parse_url(rebuilt) == url


def test_a_url_gives_what_a_request_needs() -> None:
    """Host header, address to connect to and target are ready to use."""
    url = parse_url("https://[2606:4700::1111]:8443/hooks?a=1#top")

    assert (url.scheme, url.host, url.port, url.target) == ("https", "2606:4700::1111", 8443, "/hooks?a=1")
    assert url.authority == "[2606:4700::1111]:8443"
    assert parse_url("http://shop.example:80/").authority == "shop.example"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop.example/hooks",
        "//shop.example",
        "https:shop.example",
        "https:/shop.example",
        "https:///hooks",
        "https://",
        "https://:443/",
        "https://./",
        "https://../",
        "https://a..b/",
        "https://.a/",
        "https://%2e/",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "gopher://shop.example/",
        "javascript:alert(1)",
        "wss://shop.example/",
        "httpſ://shop.example/",  # noqa: RUF001  a long s folds to s
        "https://user@shop.example/",
        "https://user:password@shop.example/",
        "https://@shop.example/",
        "https://shop.example%40evil.example/",
        "https://shop.example:/",
        "https://shop.example:0/",
        "https://shop.example:65536/",
        "https://shop.example:-1/",
        "https://shop.example:+443/",
        "https://shop.example:4_43/",
        "https://shop.example:４４３/",  # noqa: RUF001  full-width digits
        "https://shop.example:443:443/",
        "https://shop.example:000443/",
        " https://shop.example/",
        "https://shop.example/ ",
        "https://shop.example/a b",
        "https://shop.example/\r\nHost: evil.example",
        "https://shop.example/\t",
        "https://shop.example/\x00",
        "https://shop.example/\x7f",
        "https://shop.example/\x85",
        "https://shop.example/\u3000",
        "https://shop.example/\ud800",
        "https://shop%0a.example/",
        "https://shop%00.example/",
        "https://shop%20.example/",
        "https://shop%2f.example/",
        "https://shop%252e.example/",
        "https://shop%.example/",
        "https://shop%ff.example/",
        "https://shop.example\\@evil.example/",
        "https:\\\\shop.example\\",
        "https://shop.example/100%",
        "https://shop.example/%zz",
        "https://-shop.example/",
        "https://shop-.example/",
        "https://sh!op.example/",
        "https://shop*.example/",
        "https://xn--/",
        "https://xn--a/",
        "https://xn--1-/",
        "https://xn--shop-.example/",
        "https://xn--bcher-KVA0.example/",
        "https://\u200d.example/",
        "https://\u2603\ufe0f\u0338.example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "example/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://1.2.3.256/",
        "https://1.2.65536/",
        "https://4294967296/",
        "https://0x100000000/",
        "https://08/",
        "https://1.2.3.09/",
        "https://shop.123/",
        "https://shop.0x7f/",
        "https://1..2/",
        "https://" + "1" * 1_000 + "/",
        "https://[::1/",
        "https://::1/",
        "https://[]/",
        "https://[::1]x/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%eth0]/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:127.1]/",
        "https://[::１]/",  # noqa: RUF001  full-width digit
        "https://[[::1]]/",
        "https://a[::1]/",
        "https://shop.example/" + "a" * 2_048,
        "https://shop.example/" + "€" * 400,
    ],
)
def test_what_is_no_plain_http_url_is_refused(text: str) -> None:
    """A refusal names the field and the stable reason."""
    with pytest.raises(InvalidInput) as refusal:
        parse_url(text, field="spec.endpoint.url")

    assert refusal.value.reason is Reason.INVALID_URL
    assert refusal.value.field == "spec.endpoint.url"


def test_a_refusal_repeats_nothing_of_the_url() -> None:
    """Credentials and tokens in a URL do not end up in a status or a log."""
    with pytest.raises(InvalidInput) as refusal:
        parse_url("https://user:s3cret@shop.example/?token=t0ken")

    assert "s3cret" not in str(refusal.value)
    assert "t0ken" not in str(refusal.value)


def test_a_url_may_have_2048_characters() -> None:
    """The longest URL is accepted and one more character is not."""
    longest = "https://shop.example/".ljust(2_048, "a")

    assert str(parse_url(longest)) == longest
    with pytest.raises(InvalidInput):
        parse_url(longest + "a")


# What is allowed


@pytest.mark.parametrize(
    ("allow", "url", "address", "denied"),
    [
        # nothing
        ((), "https://shop.example/", "8.8.8.8", False),
        ((), "https://shop.example:8443/", "8.8.8.8", False),
        ((), "http://shop.example/", "8.8.8.8", True),
        ((), "http://8.8.8.8/", None, True),
        ((), "https://8.8.8.8/", None, False),
        ((), "https://localhost/", "127.0.0.1", True),
        # networks, under every name and port, also by http
        (["10.0.0.0/8"], "https://10.1.2.3:8443/", None, False),
        (["10.0.0.0/8"], "http://shop.example/", "10.1.2.3", False),
        (["10.0.0.0/8"], "http://shop.example/", "8.8.8.8", True),
        (["10.0.0.0/8"], "https://shop.example/", "8.8.8.8", False),
        (["10.0.0.0/8"], "https://shop.example/", "11.0.0.0", False),
        (["10.0.0.0/8"], "https://shop.example/", "127.0.0.1", True),
        (["10.0.0.0/8"], "https://shop.example/", "::ffff:10.1.2.3", False),
        (["10.0.0.0/8"], "https://shop.example/", "64:ff9b::10.1.2.3", False),
        (["8.8.8.8"], "http://8.8.8.8/", None, False),
        (["fc00::/7"], "http://[fd00::1]/", None, False),
        (["fc00::/7"], "https://[fe80::1]/", None, True),
        # addresses with a port, under every name
        (["127.0.0.1:9000"], "http://127.0.0.1:9000/", None, False),
        (["127.0.0.1:9000"], "http://[::ffff:127.0.0.1]:9000/", None, False),
        (["127.0.0.1:9000"], "http://localhost:9000/", "127.0.0.1", False),
        (["127.0.0.1:9000"], "http://localhost:9000/", "::1", True),
        (["127.0.0.1:9000"], "http://127.0.0.1:9001/", None, True),
        (["127.0.0.1:9000"], "https://127.0.0.1/", None, True),
        (["127.0.0.1:9000"], "http://127.0.0.2:9000/", None, True),
        (["127.1:9000"], "http://127.0.0.1:9000/", None, False),
        (["[::1]:9000"], "http://[::1]:9000/", None, False),
        (["[::1]:9000"], "http://[::1]/", None, True),
        # names with a port, wherever they resolve to
        (["shop.svc:80"], "http://shop.svc/", "10.1.2.3", False),
        (["SHOP.svc.:80"], "http://shop.SVC./", "10.1.2.3", False),
        (["shop.svc:80"], "http://shop.svc:8080/", "10.1.2.3", True),
        (["shop.svc:443"], "https://shop.svc/", "10.1.2.3", False),
        (["shop.svc:80"], "http://eshop.svc/", "10.1.2.3", True),
        (["shop.svc:80"], "http://10.1.2.3/", None, True),
        (["*.svc.local:80"], "http://shop.svc.local/", "10.1.2.3", False),
        (["*.svc.local:80"], "http://shop.team.svc.local/", "10.1.2.3", False),
        (["*.svc.local:80"], "http://svc.local/", "10.1.2.3", True),
        (["*.svc.local:80"], "http://evilsvc.local/", "10.1.2.3", True),
        (["*.svc.local:80"], "http://svc.local.evil.example/", "10.1.2.3", True),
        (["*.svc.local:80"], "https://shop.svc.local/", "10.1.2.3", True),
        (["*.bücher.example:80"], "http://a.xn--bcher-kva.example/", "10.1.2.3", False),
    ],
)
def test_what_is_allowed_is_reachable_and_no_more(
    allow: Sequence[str], url: str, address: str | None, *, denied: bool
) -> None:
    """An entry opens what it says, by http too, and nothing beside it."""
    assert denies(EgressPolicy(allow), url, address) is denied


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "shop.svc",
        "*:80",
        "*.:80",
        "*.127.0.0.1:80",
        "*.*.svc:80",
        "shop.svc:http",
        "shop.svc:0",
        "http://shop.svc:80",
        "user@shop.svc:80",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "fe80::%eth0/128",
        "[fe80::1%eth0]:80",
        "[::1]",
        ":80",
    ],
)
def test_an_entry_that_is_neither_network_nor_host_and_port_is_named(entry: str) -> None:
    """A typing error in the setting stops the start, with the entry in the message."""
    with pytest.raises(ValueError, match="is neither a network") as refusal:
        EgressPolicy(["10.0.0.0/8", entry])

    assert repr(entry) in str(refusal.value)


# Any text

HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=4).map(lambda address: hex(int(address))),
    st.ip_addresses(v=4).map(lambda address: f"[::ffff:{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.text(min_size=1, max_size=30),
    st.text("abc019xX.-:[]%@①。ß\u200d", min_size=1, max_size=30),
)
URLS = st.one_of(
    st.text(max_size=100),
    st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["https", "http", "HTTPS"]),
        HOSTS,
        st.one_of(st.just(""), st.integers(-1, 70_000).map(lambda port: f":{port}")),
        st.one_of(st.just(""), st.text(max_size=50).map(lambda text: f"/{text}")),
    ),
)


@given(URLS)
@example("https://xn--0.pt")
@example("https://％３１.1/")  # noqa: RUF001  a full-width percent sign is no escape
def test_any_text_is_a_url_that_parses_to_itself_or_is_refused(text: str) -> None:
    """Nothing but the refusal is ever raised, and an accepted URL is ASCII without room for a second line."""
    try:
        url = parse_url(text)
    except InvalidInput:
        return

    assert parse_url(str(url)) == url
    assert str(parse_url(str(url))) == str(url)
    assert str(url).isascii()
    assert not any(char <= " " or char == "\x7f" for char in f"{url.authority}{url.target}")


@given(URLS)
def test_no_accepted_url_has_a_private_address_while_nothing_is_allowed(text: str) -> None:
    """However it is spelled, an address that passes is public, and a host that is a number is an address."""
    try:
        url = parse_url(text)
        NOTHING_ALLOWED.check_url(url)
    except InvalidInput:
        return

    assert url.scheme == "https"
    if url.is_literal:
        assert denied_network(ip_address(url.host)) is None
    else:
        assert not url.host.rpartition(".")[2].isdigit()


@given(st.ip_addresses())
def test_an_address_passes_exactly_if_it_is_in_no_denied_network(address: IPv4Address | IPv6Address) -> None:
    """The judgement of a resolved address is the table's, by the inner address where there is one."""
    judged = inner_address(address) or address
    expected = any(judged in ip_network(network) for network in DENIED)

    assert denies(NOTHING_ALLOWED, "https://shop.example/", str(address)) is expected
