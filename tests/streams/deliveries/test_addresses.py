"""Which addresses a delivery may go to."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.deliveries.addresses import AllowList, refusal
from streams.deliveries.errors import AllowListError

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2001:200::1",
]

FORBIDDEN = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "this network",
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "carrier",
    "100.127.255.255": "carrier",
    "100.100.100.200": "metadata",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata",
    "169.254.170.2": "metadata",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "protocols",
    "192.0.0.192": "metadata",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4",
    "192.168.0.1": "private",
    "198.18.0.1": "benchmarks",
    "198.19.255.255": "benchmarks",
    "198.51.100.7": "documentation",
    "203.0.113.9": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "compatible",
    "::8.8.8.8": "compatible",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:10.0.0.1": "private",
    "::ffff:169.254.169.254": "metadata",
    "::ffff:0:127.0.0.1": "translated",
    "64:ff9b::127.0.0.1": "NAT64",
    "64:ff9b::10.1.2.3": "NAT64",
    "64:ff9b::169.254.169.254": "NAT64",
    "64:ff9b:1::8.8.8.8": "local NAT64",
    "64:ff9b:1:ffff::1": "local NAT64",
    "100::1": "discarding",
    "2001::1": "Teredo",
    "2001:0:53aa:64c::1": "Teredo",
    "2001:2::1": "benchmarks",
    "2001:10::1": "identifier",
    "2001:20::1": "identifier",
    "2001:1::1": "protocols",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:808:808::": "6to4",
    "2620:4f:8000::1": "sink",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "segment routing",
    "fc00::1": "unique local",
    "fd00:ec2::254": "metadata",
    "fd20:ce::254": "metadata",
    "fe80::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "2606:4700::5efe:10.0.0.1": "ISATAP",
    "2606:4700::200:5efe:127.0.0.1": "ISATAP",
    "2606:4700:4700::1111%eth0": "interface",
}


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_called(text: str) -> None:
    assert refusal(ip_address(text)) is None


@pytest.mark.parametrize(("text", "kind"), FORBIDDEN.items())
def test_an_address_that_is_not_public_is_refused_by_what_it_is(text: str, kind: str) -> None:
    assert kind in str(refusal(ip_address(text)))


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_whatever_python_calls_not_global_is_refused(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert refusal(address) is not None


@given(
    st.one_of(
        st.integers(0, 2**128 - 1),
        # Near the borders of what is special, too.
        st.builds(
            lambda prefix, rest: (int(IPv6Address(prefix)) + rest) % 2**128,
            st.sampled_from([text for text in FORBIDDEN if ":" in text and "%" not in text]),
            st.integers(-(2**100), 2**100),
        ),
    ).map(IPv6Address)
)
def test_no_address_outside_global_unicast_is_public(address: IPv6Address) -> None:
    if refusal(address) is None:
        assert (
            address in ip_network("2000::/3")
            or address.ipv4_mapped is not None
            or address in ip_network("64:ff9b::/96")
        )


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_address_is_judged_alike_in_its_forms_for_ipv6(address: IPv4Address) -> None:
    forbidden = refusal(address) is not None

    assert (refusal(IPv6Address(f"::ffff:{address}")) is not None) == forbidden
    assert (refusal(IPv6Address(f"64:ff9b::{address}")) is not None) == forbidden


@pytest.mark.parametrize(
    ("entry", "held", "not_held"),
    [
        ("10.1.0.0/16", [("10.1.2.3", 80), ("::ffff:10.1.2.3", 443)], [("10.2.0.1", 80)]),
        ("127.0.0.1:9093", [("127.0.0.1", 9093)], [("127.0.0.1", 9092), ("127.0.0.2", 9093)]),
        ("10.1.0.0/16:8443", [("10.1.2.3", 8443)], [("10.1.2.3", 443)]),
        ("fd00::/8", [("fd12::1", 443)], [("fe80::1", 443)]),
        ("[fd00::1]:8443", [("fd00::1", 8443)], [("fd00::1", 443), ("fd00::2", 8443)]),
        ("::1", [("::1", 1)], [("127.0.0.1", 1)]),
    ],
)
def test_a_network_of_the_allow_list(
    entry: str, held: list[tuple[str, int]], not_held: list[tuple[str, int]]
) -> None:
    allowed = AllowList.of([entry])

    assert all(allowed.holds(ip_address(address), port) for address, port in held)
    assert not any(allowed.holds(ip_address(address), port) for address, port in not_held)


@pytest.mark.parametrize(
    ("entry", "held", "not_held"),
    [
        ("hooks.internal", ["hooks.internal", "HOOKS.internal."], ["a.hooks.internal", "xhooks.internal"]),
        ("*.internal", ["a.internal", "a.b.internal"], ["internal", "xinternal", "internal.example.org"]),
    ],
)
def test_a_host_of_the_allow_list(entry: str, held: list[str], not_held: list[str]) -> None:
    allowed = AllowList.of([entry])

    assert all(allowed.holds_host(host, 443) for host in held)
    assert not any(allowed.holds_host(host, 443) for host in not_held)


@pytest.mark.parametrize(
    "entry",
    ["", "10.0.0.0/33", "10.0.0.1/8", "host:0", "host:99999", "host:port", "a b", "https://host", "*"],
)
def test_an_entry_that_cant_be_read_is_quoted(entry: str) -> None:
    with pytest.raises(AllowListError) as raised:
        AllowList.of(["10.0.0.0/8", entry])

    assert repr(entry) in str(raised.value)
