"""A card's settings as a file for systemd-networkd (systemd.network(5)).

The first file whose [Match] fits is the one that counts, by its name. A trial is a file in /run with a name before all
others; the files that were there are not touched. Taking it back is removing it, and a machine that loses its power in
the middle of a trial starts with what it had, because /run is empty then. A confirmed change is a file in /etc.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from appliance.network.checks import LinkSettings
from appliance.network.files import put_file, remove_file
from appliance.network.read import Link
from appliance.network.tools import Tools

TRIAL_FOLDER = "/run/systemd/network"
KEPT_FOLDER = "/etc/systemd/network"
_ONCE = frozenset({"Network", "Link", "DHCPv4", "DHCPv6", "IPv6AcceptRA"})
_HEAD = "# Written by R1 Box. Change it in the console (Network) or with: r1box network set\n"
_OWN_KEYS = frozenset({"address", "gateway", "dns", "dhcp"})
_SECTION = re.compile(r"\s*\[(?P<name>[^\]]+)\]\s*")


class Networkd:
    """Puts settings in force. Every method blocks and raises CommandFailed or OSError."""

    name = "networkd"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def writes(self, settings: LinkSettings, link: Link) -> tuple[str, ...]:
        """What a preview shows: the file as it will stay."""
        return (f"{kept_path(settings.interface)}:\n{self._text(settings, link)}",)

    def try_out(self, settings: LinkSettings, link: Link) -> str | None:
        """Put it in force; it lasts until the machine's next start."""
        put_file(self._tools.at(trial_path(settings.interface)), self._text(settings, link))
        self._reload(settings.interface)
        return None

    def take_back(self, interface: str, link: Link, ref: str | None) -> None:
        """The file that counted before counts again. Idempotent."""
        del link, ref
        remove_file(self._tools.at(trial_path(interface)))
        self._reload(interface)

    def keep(self, settings: LinkSettings, link: Link, ref: str | None) -> None:
        """The trial's file becomes one that stays. networkd is not told: it has read the same settings already, and a
        reload would interrupt the link."""
        del link, ref
        trial = self._tools.at(trial_path(settings.interface))
        put_file(self._tools.at(kept_path(settings.interface)), trial.read_text("utf-8"))
        remove_file(trial)

    def in_force(self, settings: LinkSettings, link: Link | None, ref: str | None) -> bool:
        """Whether networkd took this file rather than another one that fits too."""
        del ref
        return link is not None and link.source == trial_path(settings.interface)

    def _text(self, settings: LinkSettings, link: Link) -> str:
        before = [_read(self._tools.at(path)) for path in (link.source, *link.dropins)]
        return network_text(settings, before)

    def _reload(self, interface: str) -> None:
        self._tools.do("networkctl", "reload")
        # A link that was set up by a removed file is not always taken up again by the reload alone.
        self._tools.do("networkctl", "reconfigure", interface)


def trial_path(interface: str) -> str:
    """Sorts before every name that others use (10-netplan-..., 20-r1box.network)."""
    return f"{TRIAL_FOLDER}/00-r1box-{interface}.network"


def kept_path(interface: str) -> str:
    """After the trial's, before the others."""
    return f"{KEPT_FOLDER}/01-r1box-{interface}.network"


def network_text(settings: LinkSettings, before: Sequence[str] = ()) -> str:
    """The file. What the files ``before`` it say beside addresses, gateways, name servers and DHCP is carried over:
    a VLAN, an MTU or a route of the operator's own does not get lost."""
    network = [f"Address={one}" for one in settings.addresses]
    network += [f"Gateway={one}" for one in settings.gateways]
    network += [f"DNS={one}" for one in settings.dns]
    if settings.mode == "dhcp":
        network.insert(0, "DHCP=yes")
    carried = _carried(before)
    network += carried.pop("Network", [])
    parts = [_HEAD + f"[Match]\nName={settings.interface}\n", _section("Network", network)]
    if settings.mode == "dhcp":
        for name in ("DHCPv4", "DHCPv6"):
            own = ["UseDNS=no"] if settings.dns else []
            lines = [line for line in carried.pop(name, []) if not line.lower().startswith("usedns")]
            if own + lines:
                parts.append(_section(name, own + lines))
    parts += [_section(name.partition("#")[0], lines) for name, lines in carried.items()]
    return "\n".join(parts)


def _section(name: str, lines: Sequence[str]) -> str:
    return f"[{name}]\n" + "".join(f"{line}\n" for line in lines)


def _carried(texts: Sequence[str]) -> dict[str, list[str]]:
    """Sections of other files without what is ours. A section that may stand several times ([Route]) is kept apart by a
    number behind its name."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key: str | None = None
        for line in text.splitlines():
            told = line.strip()
            if section := _SECTION.fullmatch(line):
                name = section["name"]
                key = name if name in _ONCE else f"{name}#{len(found)}"
                key = None if name in ("Match", "Address") else key
            elif key is not None and told and told[0] not in "#;" and not _is_own(key, told):
                found.setdefault(key, []).append(told)
    return {key: lines for key, lines in found.items() if not _is_default_route(key, lines)}


def _is_own(section: str, line: str) -> bool:
    name = line.partition("=")[0].strip().lower()
    return section == "Network" and name in _OWN_KEYS


def _is_default_route(key: str, lines: Sequence[str]) -> bool:
    """A [Route] with a gateway and no destination is a default route, written the long way."""
    names = {line.partition("=")[0].strip() for line in lines}
    return key.startswith("Route#") and "Gateway" in names and "Destination" not in names


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
