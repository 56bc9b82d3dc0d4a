"""Xid errors: what NVIDIA's driver wrote about its cards to the kernel log since the machine was started.

Lines look like ``NVRM: Xid (PCI:0000:2b:00): 79, pid=1234, name=x, GPU has fallen off the bus.``; the ``PCI:``, the pid
and the text come and go with the driver's age. The log is read from systemd's journal, else from ``/dev/kmsg``; where
neither is there or this user may not read it, what it holds is unknown, which is no error. Meanings: ``xid.toml``.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from drivers.command import CommandFailed, minimal_environment, run
from drivers.errors import printable
from drivers.pci import normalize_address
from drivers.types import DeviceFault, Severity

JOURNAL_TIMEOUT_S = 5.0
JOURNAL_PATHS = ("usr/bin/journalctl", "bin/journalctl")
KMSG_PATH = "dev/kmsg"
OFF_THE_BUS = 79
RECOVERY_CHANGED = 154
_MAX_KMSG_BYTES = 32 << 20
_MAX_TEXT = 200

_XID = re.compile(r"NVRM:\s*Xid\s*\((?:PCI:)?([0-9a-fA-F:.]{4,20})\):\s*(\d{1,5})\b,?\s*(.*)")
_GONE = re.compile(r"NVRM:\s*GPU (?:at PCI:)?([0-9a-fA-F:.]{4,20}):? (?:GPU )?has fallen off the bus", re.IGNORECASE)
_ISO_TIME = re.compile(r"\s*(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[+-]\d\d:?\d\d|Z)?)\s")
_LOADING = "NVRM: loading NVIDIA"
_RECOVERY = re.compile(r"to 0x([0-9a-f]{1,8})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class XidEvent:
    """One line of the log. ``address`` is the card's (``0000:2b:00.0``), ``text`` what follows the number, ``time`` as
    the journal writes it (ISO 8601, local; ``None`` from other sources)."""

    address: str
    code: int
    text: str = ""
    time: str | None = None


@dataclass(frozen=True, slots=True)
class XidLog:
    """What the kernel log tells. ``source`` is ``journal`` or ``kmsg``, ``None`` when it could not be read; ``refused``
    says whose permission was missing, in words for a message."""

    events: tuple[XidEvent, ...] = ()
    source: str | None = None
    refused: str | None = None


class XidMeaning(msgspec.Struct, frozen=True):
    """One number of ``xid.toml``; ``action`` is a key of its actions."""

    meaning: str
    action: str
    severity: Literal["info", "warning", "error"] = "warning"
    finding: str = "xid_reported"


class XidTable(msgspec.Struct, frozen=True):
    """All of ``xid.toml``."""

    actions: dict[str, str]
    xid: dict[str, XidMeaning]

    def get(self, code: int) -> XidMeaning | None:
        return self.xid.get(str(code))


def read_table() -> XidTable:
    """The meanings that come with this package."""
    text = Path(__file__).with_name("xid.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), XidTable, strict=True)


def parse_log(text: str) -> tuple[XidEvent, ...]:
    """The Xid lines of a kernel log since the module was last loaded, in its order. Never raises; lines that are
    something else are left out."""
    events: list[XidEvent] = []
    for line in text.splitlines():
        if "NVRM" not in line:
            continue
        if _LOADING in line:
            # The module was loaded anew: every card was started afresh.
            events.clear()
            continue
        found = _XID.search(line)
        gone = None if found else _GONE.search(line)
        match = found or gone
        if match is None:
            continue
        place = match.group(1).rstrip(":")
        address = normalize_address(place if "." in place else f"{place}.0")
        if address is None:
            continue
        time = _ISO_TIME.match(line)
        code = int(found.group(2)) if found else OFF_THE_BUS
        rest = found.group(3) if found else "GPU has fallen off the bus."
        events.append(XidEvent(address, code, printable(rest)[:_MAX_TEXT], time.group(1) if time else None))
    return tuple(events)


def latest_by_card(events: Iterable[XidEvent]) -> Mapping[str, tuple[XidEvent, ...]]:
    """The last event of each number for each card's address, in the log's order.

    A change of the recovery action (Xid 154) back to "none" says that the card was reset: what came before is over.
    """
    cards: dict[str, dict[int, XidEvent]] = {}
    for event in events:
        card = cards.setdefault(event.address, {})
        if event.code == RECOVERY_CHANGED and (found := _RECOVERY.search(event.text)) and int(found.group(1), 16) == 0:
            card.clear()
            continue
        card.pop(event.code, None)
        card[event.code] = event
    return {address: tuple(card.values()) for address, card in cards.items() if card}


def faults(events: Sequence[XidEvent], table: XidTable) -> tuple[DeviceFault, ...]:
    """The events as faults of a device, the gravest first, of equal ones the newest first."""
    found = [_fault(event, table) for event in reversed(events)]
    grave = (Severity.ERROR, Severity.WARNING, Severity.INFO)
    return tuple(sorted(found, key=lambda fault: grave.index(fault.severity)))


def _fault(event: XidEvent, table: XidTable) -> DeviceFault:
    known = table.get(event.code)
    if known is None:
        return DeviceFault(f"xid:{event.code}")
    meaning = known.meaning
    if event.code == RECOVERY_CHANGED and event.text:
        meaning = f"{meaning} ({event.text.rstrip('.')})"
    return DeviceFault(f"xid:{event.code}", meaning, table.actions[known.action], Severity(known.severity))


def read_log(
    root: Path,
    *,
    journal: Path | None = None,
    kmsg: Path | None = None,
    timeout_s: float = JOURNAL_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
) -> XidLog:
    """Read the kernel log of this boot. ``journal`` is the journalctl to run (default: the one below ``root``),
    ``kmsg`` the kernel's own node. Never raises.
    """
    if journal is None:
        journal = next((root / path for path in JOURNAL_PATHS if (root / path).is_file()), None)
    refused: str | None = None
    if journal is not None:
        log = _read_journal(journal, timeout_s, minimal_environment() if environment is None else environment)
        if log.source is not None:
            return log
        refused = log.refused
    log = _read_kmsg(kmsg or root / KMSG_PATH)
    return log if log.source is not None else XidLog(refused=refused or log.refused)


def _read_journal(journal: Path, timeout_s: float, environment: Mapping[str, str]) -> XidLog:
    """``-k`` means this boot alone; exit code 1 is "nothing found"."""
    argv = [str(journal), "-k", "-b", "-o", "short-iso", "--no-pager", "-g", "NVRM"]
    try:
        result = run(argv, timeout_s=timeout_s, environment=environment, ok_codes=(0, 1))
    except CommandFailed:
        return XidLog()
    events = parse_log(result.stdout)
    said = result.stderr.lower()
    if not events and ("not seeing messages" in said or "insufficient permissions" in said):
        return XidLog(refused="the journal is for root and the groups systemd-journal and adm")
    nothing = "no entries" in (result.stdout + said).lower() and "no journal files" not in said
    if not events and not nothing:
        return XidLog()
    return XidLog(events, source="journal")


def _read_kmsg(path: Path) -> XidLog:
    """The kernel's ring of messages, without waiting for new ones. Its oldest lines may have been overwritten."""
    data = bytearray()
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return XidLog(refused="the kernel's messages are for root (kernel.dmesg_restrict)")
    except OSError:
        return XidLog()
    try:
        # A broken pipe says that lines were overwritten while we read: the next read goes on after them.
        with contextlib.suppress(BlockingIOError):
            while len(data) < _MAX_KMSG_BYTES:
                try:
                    chunk = os.read(number, 8192)
                except BrokenPipeError:
                    continue
                if not chunk:
                    break
                data += chunk
    except OSError:
        return XidLog()
    finally:
        os.close(number)
    return XidLog(parse_log(data.decode("utf-8", "replace")), source="kmsg")
