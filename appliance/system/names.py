"""By which names and addresses this machine is reached on its networks."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import psutil

EVERY_NETWORK = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
"""Hosts to listen on that mean all addresses of the machine."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def addresses() -> tuple[str, ...]:
    """IP addresses of interfaces that are up, without loopback and link-local ones, IPv4 first.

    A sandbox may forbid to ask for interfaces (systemd's RestrictAddressFamilies without AF_NETLINK): none are known
    then.
    """
    try:
        up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
        found = [entry.address for name, entries in psutil.net_if_addrs().items() if name in up for entry in entries]
    except OSError:
        return ()
    usable = [address for text in found if (address := _address(text)) is not None]
    return tuple(str(address) for address in sorted(usable, key=lambda one: one.version))


def interface_of(address: str) -> str | None:
    """What the kernel calls the interface with an address; ``None`` where none has it, or may be asked for."""
    try:
        found = psutil.net_if_addrs()
    except OSError:
        return None
    return next((name for name, entries in found.items() if any(one.address == address for one in entries)), None)


def names(host: str, announced: str | None, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Everything that a browser may have in its address bar: ``more`` (the operator's own), the host's name, alone,
    with ``.local`` and in full, the name that is ``announced``, the addresses of ``host`` ("every network" is all of
    them), this machine itself."""
    found = [*more]
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    found += [name, short, f"{short}.local", *([f"{announced}.local"] if announced else [])]
    found += addresses() if host in EVERY_NETWORK else [host]
    return tuple(dict.fromkeys([*found, *LOCAL_NAMES]))


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach that address."""
    address = _parsed(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    address = _parsed(text)
    return None if address is None or address.is_loopback or address.is_link_local else address


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
