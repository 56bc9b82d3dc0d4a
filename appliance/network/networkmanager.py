"""A card's settings as a connection of NetworkManager, by nmcli.

A trial is a new connection that lives in memory (``save no``): the connection that was there is not touched, and a
machine that loses its power in the middle starts with it. Taking it back is bringing the old one up and deleting the
new; a confirmed one is written to disk.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from appliance.network.checks import LinkSettings
from appliance.network.read import Link
from appliance.network.tools import Tools
from drivers.command import CommandFailed

PREFIX = "r1box-"
PRIORITY = "100"
"""Before other connections of the card at the next start."""
WAIT_S = "30"
_UUID = re.compile(r"\(([0-9a-f-]{36})\)")


class NetworkManager:
    """Puts settings in force. Every method blocks and raises CommandFailed or OSError."""

    name = "networkmanager"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def writes(self, settings: LinkSettings, link: Link) -> tuple[str, ...]:
        """What a preview shows: the commands."""
        del link
        return (" ".join(("nmcli", *added(settings))), f"nmcli connection up {PREFIX}{settings.interface}")

    def try_out(self, settings: LinkSettings, link: Link) -> str | None:
        """Put it in force; the new connection's UUID."""
        del link
        told = self._tools.do("nmcli", *added(settings))
        found = _UUID.search(told)
        ref = None if found is None else found[1]
        self._tools.do("nmcli", "-w", WAIT_S, "connection", "up", "uuid", ref or f"{PREFIX}{settings.interface}")
        return ref

    def take_back(self, interface: str, link: Link, ref: str | None) -> None:
        """The connection before comes up again. Idempotent: a connection that is gone already is no failure."""
        try:
            if link.ref is not None:
                self._tools.do("nmcli", "-w", WAIT_S, "connection", "up", "uuid", link.ref)
        finally:
            for one in [ref] if ref is not None else self._in_memory(interface):
                with suppress(CommandFailed):
                    self._tools.do("nmcli", "connection", "delete", "uuid", one)

    def keep(self, settings: LinkSettings, link: Link, ref: str | None) -> None:
        """A change of a connection that lives in memory writes it to disk. One of ours from before goes."""
        name = ref or f"{PREFIX}{settings.interface}"
        self._tools.do("nmcli", "connection", "modify", name, "connection.autoconnect-priority", PRIORITY)
        if link.ref is not None and link.ref != ref and link.source.startswith(PREFIX):
            with suppress(CommandFailed):
                self._tools.do("nmcli", "connection", "delete", "uuid", link.ref)

    def in_force(self, settings: LinkSettings, link: Link | None, ref: str | None) -> bool:
        """Whether the card has our connection now."""
        if link is None:
            return False
        return link.ref == ref if ref is not None else link.source == f"{PREFIX}{settings.interface}"

    def _in_memory(self, interface: str) -> list[str]:
        """Connections of ours that are not on disk: those of a trial whose UUID nobody wrote down."""
        told = self._tools.told("nmcli", "-t", "-f", "NAME,UUID,FILENAME", "connection", "show") or ""
        rows = [line.split(":") for line in told.splitlines()]
        return [
            row[1] for row in rows if len(row) >= 3 and row[0] == f"{PREFIX}{interface}" and row[2].startswith("/run/")
        ]


def added(settings: LinkSettings) -> Sequence[str]:
    """nmcli's words for a new connection (nmcli(1), nm-settings-nmcli(5))."""
    words = ["connection", "add", "save", "no", "type", "ethernet"]
    words += ["con-name", f"{PREFIX}{settings.interface}", "ifname", settings.interface]
    words += ["connection.autoconnect-priority", PRIORITY]
    for version in (4, 6):
        addresses = _of(settings.addresses, version)
        dns = _of(settings.dns, version)
        family = f"ipv{version}"
        if addresses:
            words += [f"{family}.method", "manual", f"{family}.addresses", ",".join(addresses)]
            gateway = _of(settings.gateways, version)
            words += [f"{family}.gateway", gateway[0]] if gateway else []
        elif settings.mode == "dhcp" or version == 6:
            # Without an address of its own IPv6 goes on taking what the router announces, as before.
            words += [f"{family}.method", "auto"]
        else:
            words += [f"{family}.method", "disabled"]
            continue
        words += [f"{family}.dns", ",".join(dns)] if dns else []
        if not addresses and settings.dns:
            words += [f"{family}.ignore-auto-dns", "yes"]
    return tuple(words)


def _of(values: Iterable[str], version: int) -> list[str]:
    return [one for one in values if ipaddress.ip_interface(one).version == version]
