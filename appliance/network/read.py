"""How the machine is on its networks, from what the system's own commands print. Needs no rights and changes nothing.

``ip -j`` says what is in force, whoever set it; systemd-networkd and NetworkManager say which interfaces they keep and
whence the addresses come. A command that is not there leaves its part unknown.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from appliance.network.tools import Tools
from appliance.schemas.network import Clock, Interface, Mode, Network

_VIRTUAL = frozenset({"veth", "ifb", "dummy", "tun", "ipip", "sit", "gre", "vxlan", "wireguard", "vcan", "nlmon"})
"""Kinds of ``ip -d`` that lead to no cable of this machine; shown only where somebody keeps them."""
_KEPT = frozenset({"configured", "configuring", "pending", "initialized", "failed"})
"""networkd's states of a link that it keeps (networkctl(1)); the others are unmanaged and linger."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a manager says of an interface. ``source`` is a file or a connection's name, ``ref`` its UUID; ``dropins``
    are files that add to it."""

    manager: str
    source: str
    ref: str | None = None
    mode: Mode | None = None
    dns: tuple[str, ...] = ()
    dropins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """Blocks for as long as five commands take, tenths of a second."""

    tools: Tools
    hostname: Callable[[], str] = socket.gethostname
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def read(self) -> Network:
        """Everything but a trial."""
        return Network(
            hostname=self.hostname(),
            interfaces=tuple(self.interfaces()),
            dns=tuple(self._dns()),
            clock=self.clock(),
        )

    def links(self) -> dict[str, Link]:
        """Whoever keeps an interface, by its name. NetworkManager counts where both claim one: it acts last."""
        return {**dict(_networkd_links(self.tools.json("networkctl", "--json=short", "list"))), **self._nm_links()}

    def interfaces(self) -> Iterator[Interface]:
        """The cards, in the system's order."""
        links = self.links()
        routes = [*_listed(self.tools.json("ip", "-j", "route", "show", "default"))]
        routes += _listed(self.tools.json("ip", "-6", "-j", "route", "show", "default"))
        for told in _listed(self.tools.json("ip", "-j", "-d", "address", "show")):
            name = str(told.get("ifname", ""))
            link = links.get(name)
            if told.get("link_type") != "ether" or (link is None and _kind(told) in _VIRTUAL):
                continue
            addresses = tuple(_addresses(told))
            own = [route for route in routes if route.get("dev") == name and route.get("gateway")]
            yield Interface(
                name=name,
                mac=told.get("address"),
                up="UP" in told.get("flags", ()),
                carrier="LOWER_UP" in told.get("flags", ()),
                speed_mbps=self._speed(name),
                mode=_mode(told, own, addresses) if link is None or link.mode is None else link.mode,
                addresses=addresses,
                gateways=tuple(dict.fromkeys(str(route["gateway"]) for route in own)),
                dns=() if link is None else link.dns,
                manager=None if link is None else link.manager,
                source=None if link is None else link.source,
            )

    def clock(self) -> Clock:
        """The clock and who keeps it."""
        told = _pairs(self.tools.told("timedatectl", "show"))
        timesync = self.tools.told("timedatectl", "show-timesync")
        more = _pairs(timesync)
        servers = [*more.get("LinkNTPServers", "").split(), *more.get("SystemNTPServers", "").split()]
        return Clock(
            now=self.now(),
            zone=told.get("Timezone") or None,
            synchronized={"yes": True, "no": False}.get(told.get("NTPSynchronized", "")),
            servers=tuple(dict.fromkeys(servers)),
            server=more.get("ServerName") or None,
            service=None if timesync is None or told.get("NTP") == "no" else "systemd-timesyncd",
        )

    def _nm_links(self) -> dict[str, Link]:
        found = {}
        for row in _rows(self.tools.told("nmcli", "-t", "-f", "DEVICE,STATE,CONNECTION,CON-UUID", "device")):
            if len(row) != 4 or row[1].startswith(("unmanaged", "unavailable")):
                continue
            name, _, connection, uuid = row
            fields = "ipv4.method,ipv6.method"
            methods = dict(_pairs_of(self.tools.told("nmcli", "-t", "-f", fields, "connection", "show", uuid)))
            shown = self.tools.told("nmcli", "-t", "-f", "IP4.DNS,IP6.DNS", "device", "show", name)
            mode: Mode | None = {"auto": "dhcp", "manual": "static"}.get(methods.get("ipv4.method", ""))  # type: ignore[assignment]
            if mode is None and methods.get("ipv6.method") == "manual":
                mode = "static"
            dns = tuple(value for _, value in _pairs_of(shown) if value)
            found[name] = Link("networkmanager", connection, uuid or None, mode, dns)
        return found

    def _dns(self) -> Iterator[str]:
        """Name servers that are asked, in their order."""
        told = self.tools.told("resolvectl", "dns")
        if told is not None:
            for line in told.splitlines():
                yield from (one for one in line.partition(":")[2].split() if _is_address(one))
            return
        try:
            text = self.tools.at("/etc/resolv.conf").read_text("utf-8", "replace")
        except OSError:
            return
        for line in text.splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "nameserver" and _is_address(rest.strip()):
                yield rest.strip()

    def _speed(self, name: str) -> int | None:
        """Mbit/s; the kernel says -1 or refuses where there is no cable or no such thing."""
        try:
            speed = int(self.tools.at(f"/sys/class/net/{name}/speed").read_text("ascii"))
        except (OSError, ValueError):
            return None
        return speed if speed > 0 else None


def _networkd_links(told: Any) -> Iterator[tuple[str, Link]]:
    """From ``networkctl --json list``: links with a file that networkd keeps."""
    for one in _listed(told.get("Interfaces") if isinstance(told, Mapping) else None):
        file = one.get("NetworkFile")
        if not file or one.get("AdministrativeState") not in _KEPT:
            continue
        sources = {str(item.get("ConfigSource")) for item in _listed(one.get("Addresses"))}
        mode: Mode | None = "dhcp" if sources & {"DHCPv4", "DHCPv6"} else "static" if "static" in sources else None
        dns = tuple(address for item in _listed(one.get("DNS")) if (address := _packed(item.get("Address"))))
        dropins = tuple(str(path) for path in one.get("NetworkFileDropins") or ())
        yield str(one.get("Name")), Link("networkd", str(file), None, mode, dns, dropins)


def _addresses(told: Mapping[str, Any]) -> Iterator[str]:
    """Without link-local ones, which nobody gives and every interface has."""
    for one in _listed(told.get("addr_info")):
        if one.get("scope") != "link" and one.get("local"):
            yield f"{one['local']}/{one.get('prefixlen')}"


def _mode(told: Mapping[str, Any], routes: list[dict[str, Any]], addresses: tuple[str, ...]) -> Mode | None:
    """By the kernel's own marks, where no manager says it: a lease has an end, and its route names the protocol."""
    if any(one.get("dynamic") and one.get("family") == "inet" for one in _listed(told.get("addr_info"))):
        return "dhcp"
    if any(route.get("protocol") == "dhcp" for route in routes):
        return "dhcp"
    return "static" if addresses else None


def _kind(told: Mapping[str, Any]) -> str:
    info = told.get("linkinfo")
    return str(info.get("info_kind", "")) if isinstance(info, Mapping) else ""


def _listed(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; of anything else none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _packed(value: Any) -> str | None:
    """An address that systemd prints as a list of bytes."""
    try:
        return str(ipaddress.ip_address(bytes(value)))
    except (TypeError, ValueError):
        return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0].partition("#")[0])
    except ValueError:
        return False
    return True


def _pairs(text: str | None) -> dict[str, str]:
    """Lines of ``Name=value``."""
    found = {}
    for line in (text or "").splitlines():
        name, _, value = line.partition("=")
        found[name] = value
    return found


def _rows(text: str | None) -> list[list[str]]:
    """nmcli's terse lines: fields between colons, a colon of their own behind a backslash."""
    return [
        [part.replace("\\:", ":").replace("\\\\", "\\") for part in re.split(r"(?<!\\):", line)]
        for line in (text or "").splitlines()
    ]


def _pairs_of(text: str | None) -> list[tuple[str, str]]:
    return [(row[0], ":".join(row[1:])) for row in _rows(text) if len(row) > 1]
