"""How often wrong keys may be tried, pure: a bucket of tries for each address, and one for all."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from schemas.time import SECOND, Micros

_MOST_ADDRESSES: Final = 10_000


@dataclass
class _Bucket:
    tries: float
    at: Micros


class Throttle:
    """`tries` wrong keys at once from an address, then one more every `refill`; ten times that from all.

    An IPv6 address stands for its /64: one machine has as many addresses as it likes there.
    """

    def __init__(self, tries: int = 10, refill: Micros = 6 * SECOND) -> None:
        self._tries = tries
        self._refill = refill
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None

    def wait(self, address: str, now: Micros) -> Micros:
        """How long the address has to wait before it may try again; 0 when it may now."""
        own = self._filled(self._addresses.get(_network(address)), self._tries, self._refill, now)
        everyone = self._filled(self._all, self._tries * 10, self._refill // 10, now)
        return max(self._until_one(own, self._refill), self._until_one(everyone, self._refill // 10))

    def failed(self, address: str, now: Micros) -> None:
        """The address has tried a wrong key."""
        network = _network(address)
        own = self._filled(self._addresses.pop(network, None), self._tries, self._refill, now)
        self._addresses[network] = _Bucket(max(0.0, own.tries - 1), now)
        everyone = self._filled(self._all, self._tries * 10, self._refill // 10, now)
        self._all = _Bucket(max(0.0, everyone.tries - 1), now)
        while len(self._addresses) > _MOST_ADDRESSES:
            self._addresses.popitem(last=False)

    @staticmethod
    def _filled(bucket: _Bucket | None, tries: int, refill: Micros, now: Micros) -> _Bucket:
        if bucket is None:
            return _Bucket(tries, now)
        return _Bucket(min(float(tries), bucket.tries + max(0, now - bucket.at) / refill), now)

    @staticmethod
    def _until_one(bucket: _Bucket, refill: Micros) -> Micros:
        return 0 if bucket.tries >= 1 else round((1 - bucket.tries) * refill)


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return address
