"""Which addresses a delivery may go to: a function of the address alone, and the list of exceptions.

What is not ordinary public unicast is refused. The tables follow IANA's special-purpose registries for
IPv4 and IPv6; addresses that carry an IPv4 address are judged by what they carry, or refused whole where
that can't be told for sure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from streams.deliveries.errors import AllowListError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Narrower networks stand before wider ones: the first that holds an address names it.
_SPECIAL_V4 = (
    ("169.254.169.254/32", "the cloud's metadata service"),
    ("169.254.170.2/32", "the cloud's metadata service"),
    ("100.100.100.200/32", "the cloud's metadata service"),
    ("192.0.0.192/32", "the cloud's metadata service"),
    ("168.63.129.16/32", "the cloud's metadata service"),
    ("0.0.0.0/32", "the unspecified address"),
    ("0.0.0.0/8", "of this network"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "of a carrier's NAT"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "of an anycast sink"),
    ("192.52.193.0/24", "reserved for protocols"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("192.168.0.0/16", "a private address"),
    ("192.175.48.0/24", "of an anycast sink"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "a multicast address"),
    ("255.255.255.255/32", "the broadcast address"),
    ("240.0.0.0/4", "reserved"),
)
_SPECIAL_V6 = (
    ("fd00:ec2::/32", "the cloud's metadata service"),
    ("fd20:ce::254/128", "the cloud's metadata service"),
    ("::/128", "the unspecified address"),
    ("::1/128", "a loopback address"),
    ("::/96", "an IPv4-compatible address"),
    ("::ffff:0:0:0/96", "an IPv4-translated address"),
    ("64:ff9b:1::/48", "of a local NAT64"),
    ("100::/64", "for discarding"),
    ("2001::/32", "a Teredo address"),
    ("2001:2::/48", "for benchmarks"),
    ("2001:10::/28", "a cryptographic identifier"),
    ("2001:20::/28", "a cryptographic identifier"),
    ("2001::/23", "reserved for protocols"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "a 6to4 address"),
    ("2620:4f:8000::/48", "of an anycast sink"),
    ("3fff::/20", "for documentation"),
    ("5f00::/16", "for segment routing"),
    ("fc00::/7", "a unique local address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a site-local address"),
    ("ff00::/8", "a multicast address"),
)
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Interface identifiers that make an ISATAP router send to the IPv4 address in their last 32 bits.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def plain(address: Address) -> Address:
    """The IPv4 address itself in place of its IPv4-mapped form: both lead to the same host."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@cache
def _special(version: int) -> tuple[tuple[Network, str], ...]:
    table = _SPECIAL_V4 if version == 4 else _SPECIAL_V6
    return tuple((ip_network(network), kind) for network, kind in table)


def refusal(address: Address) -> str | None:
    """What is wrong with an address as a delivery's target: what it is; None when it is public."""
    address = plain(address)
    for network, kind in _special(address.version):
        if address in network:
            return kind
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        inner = refusal(IPv4Address(int(address) & 0xFFFF_FFFF))
        return inner and f"a NAT64 form of an address that is {inner}"
    if address not in _GLOBAL_UNICAST_V6:
        return "reserved"
    if address.scope_id is not None:
        return "bound to an interface"
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        inner = refusal(IPv4Address(int(address) & 0xFFFF_FFFF))
        return inner and f"an ISATAP form of an address that is {inner}"
    return None


@dataclass(frozen=True)
class _Entry:
    """A network or a host name (`*.` in front: everything below it), on one port or on all."""

    network: Network | None
    host: str | None
    port: int | None


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME = 253


def bare(host: str) -> str:
    """A host name as it is compared: in lower case, without the root's dot."""
    return host.lower().removesuffix(".")


def is_name(host: str) -> bool:
    """Whether this has the form of a host name, in ASCII (`xn--` where it was not)."""
    host = bare(host)
    return len(host) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, host.split(".")))


def _port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        inside, _, rest = text[1:].partition("]")
        return inside, int(rest.removeprefix(":")) if rest else None
    if text.count(":") == 1:
        name, _, port = text.partition(":")
        return name, int(port)
    return text, None


def _entry(text: str) -> _Entry:
    try:
        target, port = _port(text.strip())
        if not target or (port is not None and not 0 < port < 65536):
            raise ValueError
        first = target.partition("/")[0]
        if "/" in target or ":" in target or first.replace(".", "").isdigit():
            return _Entry(ip_network(target), None, port)
        if not is_name(target.removeprefix("*.")):
            raise ValueError
    except ValueError:
        raise AllowListError(
            f"{text!r} is neither a network (10.1.0.0/16, 10.1.2.3, [fd00::1]:8443) nor a host "
            "(hooks.example.internal, *.example.internal, hooks.example.internal:8443)"
        ) from None
    return _Entry(None, bare(target), port)


@dataclass(frozen=True)
class AllowList:
    """The exceptions that whoever runs this has made: addresses and hosts that may be called all the same.

    What is on it may be called on any port (or on the port that the entry names), and without TLS.
    """

    entries: tuple[_Entry, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "AllowList":
        """From entries such as `10.1.0.0/16`, `127.0.0.1:9093`, `hooks.internal`, `*.internal:8443`.

        Raises AllowListError, which quotes the entry that can't be read.
        """
        return cls(tuple(map(_entry, entries)))

    def holds_host(self, host: str, port: int) -> bool:
        """Whether the host is allowed by its name, whatever it resolves to."""
        host = bare(host)
        return any(
            entry.host is not None
            and entry.port in (None, port)
            and (host.endswith(entry.host[1:]) if entry.host.startswith("*.") else host == entry.host)
            for entry in self.entries
        )

    def holds(self, address: Address, port: int) -> bool:
        """Whether the address is allowed."""
        address = plain(address)
        return any(
            entry.network is not None and entry.port in (None, port) and address in entry.network
            for entry in self.entries
        )

    def could_hold(self, host: str, port: int) -> bool:
        """Whether the host may turn out to be allowed, as far as can be told before it is resolved."""
        try:
            return self.holds(ip_address(host), port)
        except ValueError:
            return self.holds_host(host, port) or any(
                entry.network is not None and entry.port in (None, port) for entry in self.entries
            )
