"""A change of the network on trial: in force at once, taken back unless it is confirmed in time.

    none -> applying -> trial -> none (confirmed)
              |           |
              +-----------+-> rolling_back -> none (rolled_back, expired, failed)

``Trials`` is the only writer, in the helper that runs as root. Nothing that a trial puts in force outlives the
machine's run: files are in /run, connections in memory, the host name in the kernel. So a power cut takes it back by
itself. Its record is in /run too: a helper that was killed goes on with the same clock when it starts again
(CLOCK_BOOTTIME, which counts while the machine sleeps), and takes back what it finds half done.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.network.checks import LinkSettings, Settled, settle
from appliance.network.errors import AddressTaken, ChangeFailed, NotKept, NoTrial, TrialRunning
from appliance.network.files import put_file
from appliance.network.machine import Machine
from appliance.network.read import Link, Reader
from appliance.schemas.network import Interface, NetworkChange, Preview, Trial, TrialEnd, TrialStatus
from drivers.command import CommandFailed

_log = structlog.get_logger(__name__)

SETTLE_S = 12.0
"""How long an interface may take to have its addresses; a network card's link alone takes 3 s."""
LOOK_EVERY_S = 0.3
AGAIN_S = 5.0
"""Between two tries to take a change back that the system refuses to."""


class Backend(Protocol):
    """What ``Networkd`` and ``NetworkManager`` do."""

    name: str

    def writes(self, settings: LinkSettings, link: Link) -> tuple[str, ...]: ...

    def try_out(self, settings: LinkSettings, link: Link) -> str | None: ...

    def take_back(self, interface: str, link: Link, ref: str | None) -> None: ...

    def keep(self, settings: LinkSettings, link: Link, ref: str | None) -> None: ...

    def in_force(self, settings: LinkSettings, link: Link | None, ref: str | None) -> bool: ...


class Prober(Protocol):
    """``arp.who_has``: who answers for an IPv4 address on an interface. Raises OSError."""

    def __call__(self, interface: str, address: str, source: str | None = None) -> str | None: ...


class Record(BaseModel):
    """A trial as it is written down."""

    model_config = ConfigDict(extra="forbid")

    phase: Literal["applying", "trial", "rolling_back"]
    id: str
    change: NetworkChange
    lines: tuple[dict[str, Any], ...]
    began_at: datetime
    ends_at: datetime
    ends_s: float
    link: LinkSettings | None = None
    before: Link | None = None
    ref: str | None = None
    ntp: tuple[str, ...] | None = None
    hostname: str | None = None
    hostname_before: str | None = None
    gateway_answers: bool | None = None
    outcome: Literal["rolled_back", "expired", "failed"] | None = None
    reason: str | None = None


class Book(BaseModel):
    """The file of the record: the trial that goes on, and how the last one ended."""

    trial: Record | None = None
    last: TrialEnd | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trial acts through. ``seconds`` never goes back and counts while the machine sleeps."""

    reader: Reader
    backends: Mapping[str, Backend]
    machine: Machine
    prober: Prober
    seconds: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


def preview(change: NetworkChange, reader: Reader, backends: Mapping[str, Backend]) -> Preview:
    """What a change would do. Raises NetworkInvalid."""
    settled = settle(change, reader.read())
    writes: tuple[str, ...] = ()
    if settled.link is not None:
        link = reader.links()[settled.link.interface]
        writes = backends[link.manager].writes(settled.link, link)
    return Preview(change=settled.change, lines=settled.lines, warnings=settled.warnings, writes=writes)


class Trials:
    """One trial at a time. Every method blocks; ``wake`` is called when ``next_s`` has passed."""

    def __init__(self, parts: Parts, file: Path) -> None:
        self._parts = parts
        self._file = file
        self._book = _read(file)

    def status(self) -> TrialStatus:
        """The trial that goes on, and the last end."""
        one = self._book.trial
        return TrialStatus(trial=None if one is None else self._told(one), last=self._book.last)

    def begin(self, change: NetworkChange, seconds: int) -> TrialStatus:
        """Put it in force. Raises NetworkInvalid, TrialRunning, ChangeFailed; after an error all is as before."""
        if (running := self._book.trial) is not None:
            raise TrialRunning(seconds_left=max(round(running.ends_s - self._parts.seconds()), 0))
        now = self._parts.reader.read()
        settled = settle(change, now)
        self._refuse_taken(settled)
        at = self._parts.now()
        record = Record(
            phase="applying",
            id=f"net_{secrets.token_hex(6)}",
            change=settled.change,
            lines=tuple(line.model_dump() for line in settled.lines),
            began_at=at,
            ends_at=at + timedelta(seconds=seconds),
            ends_s=self._parts.seconds() + seconds,
            link=settled.link,
            before=None if settled.link is None else self._parts.reader.links()[settled.link.interface],
            ntp=settled.ntp,
            hostname=settled.hostname,
            hostname_before=now.hostname,
        )
        self._write(record)
        try:
            self._apply(record)
        except (CommandFailed, OSError, ChangeFailed) as error:
            reason = getattr(error, "message", None) or str(error)
            self._take_back("failed", reason)
            if isinstance(error, ChangeFailed):
                raise
            hint = getattr(error, "hint", None) or "Look at the log of the network's service."
            raise ChangeFailed(reason=reason, advice=hint) from error
        answers = self._gateway_answers(record)
        # The time counts from now on: what is not in force yet cannot be judged.
        at = self._parts.now()
        ends = {"ends_at": at + timedelta(seconds=seconds), "ends_s": self._parts.seconds() + seconds}
        self._write(record.model_copy(update={"phase": "trial", "gateway_answers": answers, **ends}))
        _log.info("network_trial", id=record.id, change=record.change.model_dump(exclude_none=True), seconds=seconds)
        return self.status()

    def confirm(self, trial_id: str) -> TrialStatus:
        """What is on trial stays. Raises NoTrial; NotKept when it cannot be written down (the clock runs on)."""
        record = self._running(trial_id)
        try:
            # First what asks another service, last what only writes files: a refusal leaves the rest on trial.
            if record.hostname is not None:
                self._parts.machine.keep_hostname(record.hostname)
            if record.ntp is not None:
                self._parts.machine.keep_ntp(record.ntp)
            if record.link is not None and record.before is not None:
                self._backend(record.before).keep(record.link, record.before, record.ref)
        except (CommandFailed, OSError) as error:
            raise NotKept(reason=getattr(error, "message", None) or str(error)) from error
        self._end(record, "confirmed", None)
        return self.status()

    def roll_back(self) -> TrialStatus:
        """Take it back now. Raises NoTrial."""
        if self._book.trial is None:
            raise NoTrial(ended=self._ended())
        self._take_back("rolled_back", None)
        return self.status()

    def give_up(self) -> None:
        """The helper ends: nothing may stay on trial that nobody would take back."""
        if self._book.trial is not None:
            self._take_back("rolled_back", "the helper was stopped")

    def next_s(self) -> float | None:
        """Seconds until ``wake`` has something to do; None without a trial."""
        record = self._book.trial
        if record is None:
            return None
        return AGAIN_S if record.phase == "rolling_back" else max(record.ends_s - self._parts.seconds(), 0.0)

    def wake(self) -> None:
        """Take back what was not confirmed in time, what was half done when the helper died, and what could not be
        taken back before."""
        record = self._book.trial
        if record is None:
            return
        if record.phase == "rolling_back":
            self._take_back(record.outcome or "failed", record.reason)
        elif record.phase == "applying":
            self._take_back("failed", "the helper ended in the middle of it")
        elif self._parts.seconds() >= record.ends_s:
            self._take_back("expired", None)

    # ---------------------------------------------------------------------------------------------------------------

    def _apply(self, record: Record) -> None:
        if record.link is not None and record.before is not None:
            ref = self._backend(record.before).try_out(record.link, record.before)
            record.ref = ref
            self._write(record)
            self._wait_for(record.link, record.before, ref)
        if record.ntp is not None:
            self._parts.machine.try_ntp(record.ntp)
        if record.hostname is not None:
            self._parts.machine.try_hostname(record.hostname)

    def _wait_for(self, settings: LinkSettings, before: Link, ref: str | None) -> None:
        """Until the interface has what it was given. Raises ChangeFailed when another file or connection counts."""
        backend, until_s = self._backend(before), self._parts.seconds() + SETTLE_S
        while True:
            taken = backend.in_force(settings, self._parts.reader.links().get(settings.interface), ref)
            if taken and _has(self._interface(settings.interface), settings):
                return
            if self._parts.seconds() >= until_s:
                break
            self._parts.sleep(LOOK_EVERY_S)
        if not taken:
            raise ChangeFailed(
                reason=f"{backend.name} does not use it for {settings.interface}",
                advice="Another file or connection for this card comes first; r1box network show names it.",
            )
        # Without a cable, or while a lease is waited for, there is nothing more to see: the operator decides.

    def _interface(self, name: str) -> Interface | None:
        return next((one for one in self._parts.reader.interfaces() if one.name == name), None)

    def _refuse_taken(self, settled: Settled) -> None:
        """Ask the network for the new addresses. Where it cannot be asked nothing is known against them."""
        for text in settled.new_addresses:
            address = text.partition("/")[0]
            if ":" in address or settled.link is None:
                continue
            try:
                holder = self._parts.prober(settled.link.interface, address)
            except OSError as error:
                _log.warning("address_not_probed", address=address, reason=str(error))
                continue
            if holder is not None:
                raise AddressTaken(param="addresses", value=text, holder=holder)

    def _gateway_answers(self, record: Record) -> bool | None:
        """Of the IPv4 gateway, whether it was heard."""
        link = record.link
        gateway = None if link is None else next((one for one in link.gateways if ":" not in one), None)
        if link is None or gateway is None:
            return None
        source = next((one.partition("/")[0] for one in link.addresses if ":" not in one), None)
        try:
            return self._parts.prober(link.interface, gateway, source) is not None
        except OSError:
            return None

    def _take_back(self, outcome: Literal["rolled_back", "expired", "failed"], reason: str | None) -> None:
        """All parts, each as far as it goes; what the system refuses is tried again by ``wake``."""
        record = self._book.trial
        assert record is not None
        record = record.model_copy(update={"phase": "rolling_back", "outcome": outcome, "reason": reason})
        self._write(record)
        problems = []
        steps: list[Callable[[], None]] = []
        if record.link is not None and record.before is not None:
            backend, link, before = self._backend(record.before), record.link, record.before
            steps.append(lambda: backend.take_back(link.interface, before, record.ref))
        if record.ntp is not None:
            steps.append(self._parts.machine.take_back_ntp)
        if record.hostname is not None and record.hostname_before is not None:
            name = record.hostname_before
            steps.append(lambda: self._parts.machine.try_hostname(name))
        for step in steps:
            try:
                step()
            except (CommandFailed, OSError) as error:
                problems.append(str(error))
        if problems:
            _log.error("network_not_taken_back", id=record.id, problems=problems)
            return
        self._end(record, outcome, reason)

    def _end(
        self, record: Record, outcome: Literal["confirmed", "rolled_back", "expired", "failed"], reason: str | None
    ) -> None:
        told = self._told(record)
        last = TrialEnd(id=record.id, outcome=outcome, lines=told.lines, at=self._parts.now(), reason=reason)
        self._book = Book(last=last)
        self._save()
        _log.info("network_trial_ended", id=record.id, outcome=outcome, reason=reason)

    def _running(self, trial_id: str) -> Record:
        record = self._book.trial
        over = record is None or record.phase != "trial" or self._parts.seconds() >= record.ends_s
        if record is None or over or record.id != trial_id:
            raise NoTrial(ended=self._ended())
        return record

    def _ended(self) -> str:
        last = self._book.last
        words = {
            "confirmed": "; the last one was confirmed",
            "rolled_back": "; the last one was taken back",
            "expired": "; the last one was taken back, because nobody confirmed it in time",
            "failed": "; the last one was taken back, because it could not be put in force",
        }
        return "" if last is None else words[last.outcome]

    def _backend(self, link: Link) -> Backend:
        return self._parts.backends[link.manager]

    def _told(self, record: Record) -> Trial:
        return Trial.model_validate(
            {
                **record.model_dump(include={"id", "lines", "began_at", "ends_at", "gateway_answers"}),
                "change": record.change,
                "seconds_left": round(max(record.ends_s - self._parts.seconds(), 0.0), 1),
            }
        )

    def _write(self, record: Record) -> None:
        self._book = Book(trial=record, last=self._book.last)
        self._save()

    def _save(self) -> None:
        put_file(self._file, self._book.model_dump_json(), 0o600)


def _has(interface: Interface | None, settings: LinkSettings) -> bool:
    """Whether the addresses are there; of a lease, any."""
    if interface is None:
        return False
    if settings.mode == "dhcp":
        return bool(interface.addresses)
    return set(settings.addresses) <= set(interface.addresses)


def _read(file: Path) -> Book:
    """What was written down; nothing for a file that is not there. One that cannot be read is an old version's: it is
    said in the log, and its trial ends with the machine's run at the latest."""
    try:
        return Book.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Book()
    except (OSError, ValidationError) as error:
        _log.error("network_record_unreadable", file=str(file), reason=type(error).__name__)
        return Book()
