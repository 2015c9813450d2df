"""
How often one address, or one person, may ask: buckets that fill up with time.  Pure.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

PEOPLE_MAX: Final = 100_000  # those who asked last; older ones begin anew
BURST_S: Final = 5  # what may come at once: as much as in so many seconds
IPV6_NETWORK_BITS: Final = 64  # of one household, or one machine


class Limit:
    """Lets *per_s* requests a second pass for each name, and *burst* at once."""

    def __init__(self, per_s: float, burst: float) -> None:
        assert burst >= 1, "nothing would ever pass"
        self._per_s = per_s
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # as of when

    def wait_s(self, name: str, now_s: float) -> float:
        """Take one request of *name*; return 0.0, or how long it has to wait instead."""
        left, since_s = self._left.pop(name, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        passes = left >= 1
        self._left[name] = (left - 1 if passes else left, now_s)
        if len(self._left) > PEOPLE_MAX:
            self._left.popitem(last=False)
        return 0.0 if passes else (1 - left) / self._per_s


def asker(peer: str, forwarded: Sequence[str], proxies: int) -> str:
    """
    Return who asks: *peer*, or what the outermost of our *proxies* said it was asked by.

    forwarded: the addresses of X-Forwarded-For, the last one said by the proxy next to us.
    """
    chain = [*forwarded, peer]
    address = chain[-1 - proxies] if len(chain) > proxies else chain[0]
    return _network(address.strip()) or peer


@lru_cache(maxsize=10_000)
def _network(address: str) -> str:
    """Return whom an address counts as, "" where it is none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, IPV6_NETWORK_BITS), strict=False))
    return str(found)
