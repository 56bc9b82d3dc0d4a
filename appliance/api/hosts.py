"""By which names the box answers people's browsers.

A page on the internet can have its own name resolve to the box's address (DNS rebinding): to the browser page and box
are then one site, and the page may read what the box answers. It brings no key and no session, so only what is public
is within its reach: the login above all, where it could guess passwords from within the network. A request that comes
without a key must therefore name the box by

- an address (no name, so nothing that could be rebound),
- a name without a dot, or below a domain that nobody can own on the internet (``PRIVATE_DOMAINS``),
- a name that the box knows as its own (``known``: its host name, the announced name, the setting ``more_names``).

Programs with a key are not concerned: no page has one.
"""

from __future__ import annotations

import ipaddress
import re

from appliance.errors import AppError

PRIVATE_DOMAINS = ("local", "localhost", "internal", "home.arpa", "lan", "home", "corp", "intranet", "private")
"""RFC 6761, 6762, 8375, ICANN's ``.internal`` (2024), and those that are so common within companies that ICANN gives
them to nobody."""

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
_SHOWN_CHARS = 100


class UnknownHost(AppError):
    """The request names the box by a name that could be anybody's."""

    code = "unknown_host"
    http_status = 421
    template = "This box does not know the name '{name}'."
    hint_template = (
        "Use its address, or have the operator add the name to the setting more_names. Programs with a key are not "
        "concerned."
    )


class HostNames:
    """``known`` are the box's own names, without ports; ``*.ai.example`` stands for any one name before the first dot,
    as in certificates."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self._known = frozenset(name.lower().rstrip(".") for name in known)

    def check(self, host: str) -> None:
        """``host`` is the header's text. Raises UnknownHost."""
        match = _HOST.fullmatch(host.strip())
        if match is None or not (match["six"] or self._is_own(match["name"].lower().rstrip("."))):
            raise UnknownHost(name=f"{host:.{_SHOWN_CHARS}}")

    def _is_own(self, name: str) -> bool:
        if name in self._known or "." not in name or _is_address(name) or name.endswith(_ENDINGS):
            return True
        return f"*.{name.partition('.')[2]}" in self._known


_ENDINGS = tuple(f".{domain}" for domain in PRIVATE_DOMAINS)


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
