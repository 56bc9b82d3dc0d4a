"""Debian's mirrors as this machine's apt knows them, and other names of its network. They are used for the build and
may not be in what is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
OVERRIDE = "R1BOX_APT_SOURCES"
SUITE = "bookworm"
_SHORTEST = 5
"""Shorter names are found in any program by chance."""
PUBLIC_HOSTS = frozenset({"deb.debian" + ".org", "security.debian" + ".org", "ftp.debian" + ".org"})
"""Hosts that everybody knows: their names tell nothing of the build machine."""


class NoMirror(Exception):
    """apt's configuration names no mirror for the suite."""


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Addresses for the suite and its security updates."""

    main: str
    security: str

    def private_hosts(self) -> tuple[str, ...]:
        """Hosts that must not be named in what is shipped."""
        hosts = {urlsplit(address).hostname for address in (self.main, self.security)}
        return tuple(sorted(host for host in hosts if host is not None and host not in PUBLIC_HOSTS))


def network_names(environment: Mapping[str, str], resolver: str, apt: str, hostname: str) -> tuple[str, ...]:
    """Names of the build machine and its network: proxies of the environment and of apt (``apt-config dump``), search
    domains (``resolv.conf``), the machine's own name where it has dots or digits, which common words have not."""
    proxies = [value for name, value in environment.items() if name.lower() in {"http_proxy", "https_proxy"}]
    proxies += re.findall(r'^Acquire::[^ ]*Proxy[^ ]* "([^"]+)"', apt, re.MULTILINE | re.IGNORECASE)
    proxies = [value for value in proxies if value.upper() != "DIRECT"]
    found = {urlsplit(value if "://" in value else f"http://{value}").hostname for value in proxies}
    for line in resolver.splitlines():
        words = line.split()
        if words[:1] in (["search"], ["domain"]):
            found |= {word for word in words[1:] if "." in word.strip(".")}
    if re.search(r"[.\d]", hostname):
        found.add(hostname)
    return tuple(sorted(name for name in found if name and name not in PUBLIC_HOSTS and len(name) > _SHORTEST))


def read_mirrors(files: Iterable[Path], suite: str = SUITE) -> Mirrors:
    """From deb822 files and one-line files, the first that names the suite. Raises NoMirror."""
    main = security = None
    for file in files:
        if not file.is_file():
            continue
        for address, suites in _entries(file):
            if suite in suites and main is None:
                main = address
            if f"{suite}-security" in suites and security is None:
                security = address
    if main is None or security is None:
        missing = suite if main is None else f"{suite}-security"
        raise NoMirror(f"apt's sources name no mirror for {missing}; set {OVERRIDE} to a file that does")
    return Mirrors(main, security)


def _entries(file: Path) -> Iterator[tuple[str, set[str]]]:
    text = file.read_text("utf-8")
    if file.suffix == ".sources":
        for stanza in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split():
                for address in fields.get("URIs", "").split():
                    yield address, set(fields.get("Suites", "").split())
        return
    for line in text.splitlines():
        if match := re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line):
            yield match[1], {match[2]}
