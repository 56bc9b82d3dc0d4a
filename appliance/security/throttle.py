"""Slows down the guessing of passwords, without locking people out for ever. In memory; thread-safe.

Three counts of failed attempts, each with a wait that doubles from one second on:

| count | free | longest wait | stops |
|---|---|---|---|
| name and address | 5 | 15 min | guessing one password from one machine |
| address | 20 | 15 min | trying many names from one machine |
| name | 30 | 30 s | guessing from many machines; short, so that strangers cannot keep a person out |

An attempt counts as failed from its beginning until it has succeeded: a thousand at once do not get a free try each.
A count is forgotten when nothing was tried for an hour. The local socket and the command line never ask here.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from appliance.security.errors import LoginThrottled

_FORGET_AFTER_S = 3_600.0
_MOST_COUNTS = 20_000


@dataclass(frozen=True, slots=True)
class _Limit:
    free: int
    longest_wait_s: float


_PAIR = _Limit(5, 900.0)
_ADDRESS = _Limit(20, 900.0)
_NAME = _Limit(30, 30.0)


@dataclass(slots=True)
class _Count:
    failures: int = 0
    last_s: float = 0.0
    open_at_s: float = 0.0


class LoginThrottle:
    """``begin`` before a password is checked, ``succeed`` when it was right."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[tuple[str, ...], _Count] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, address: str | None) -> None:
        """Count an attempt. Raises LoginThrottled, without counting it, while one has to wait."""
        now = self._clock()
        with self._lock:
            counts = [(self._count(key, now), limit) for key, limit in _keys(name, address)]
            wait_s = max(count.open_at_s - now for count, _ in counts)
            if wait_s > 0:
                raise LoginThrottled(wait_s=math.ceil(wait_s))
            for count, limit in counts:
                count.failures += 1
                count.last_s = now
                beyond = count.failures - limit.free
                if beyond >= 0:
                    # 2**20 s are longer than any longest wait.
                    count.open_at_s = now + min(2.0 ** min(beyond, 20), limit.longest_wait_s)

    def succeed(self, name: str, address: str | None) -> None:
        """The attempt was right: it does not count, and what this person mistyped before is forgotten.

        The address keeps its other failures: who knows one password must not get free tries at other people's.
        """
        with self._lock:
            (pair, _), (whole_address, _), (whole_name, _) = _keys(name, address)
            mistyped = self._counts.pop(pair, None)
            self._take_back(whole_name, 1 if mistyped is None else mistyped.failures)
            self._take_back(whole_address, 1 if mistyped is None else mistyped.failures)

    def _take_back(self, key: tuple[str, ...], failures: int) -> None:
        count = self._counts.get(key)
        if count is not None:
            count.failures = max(count.failures - failures, 0)
            count.open_at_s = 0.0

    def _count(self, key: tuple[str, ...], now: float) -> _Count:
        count = self._counts.get(key)
        if count is None or now - count.last_s > _FORGET_AFTER_S:
            count = self._counts[key] = _Count(last_s=now)
        self._counts.move_to_end(key)
        while len(self._counts) > _MOST_COUNTS:
            self._counts.popitem(last=False)
        return count


def _keys(name: str, address: str | None) -> tuple[tuple[tuple[str, ...], _Limit], ...]:
    where = network_of(address)
    return (("pair", name, where), _PAIR), (("address", where), _ADDRESS), (("name", name), _NAME)


def network_of(address: str | None) -> str:
    """What counts as one machine: an IPv4 address, the /64 of an IPv6 one (a host has 2**64 of those)."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
