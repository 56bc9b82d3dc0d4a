"""Install, go back, restart: what is refused before anything is changed, and what is said.

One of these runs at a time (``locked``). None of them touches the slot that runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.doctor import known_software
from drivers.probe import detect
from drivers.requirements import Requirements, RequirementsInvalid, load_requirements, parse_requirements
from drivers.slots import Slots
from drivers.software import llama_folders, read_llama_cuda, read_python
from drivers.types import HardwareSnapshot, Software
from drivers.vendors import VENDORS
from installer.executor import Runner
from installer.update.errors import UpdateRefused
from installer.update.facts import FACTS, RULES, SCHEMA, BundleFacts
from installer.update.judge import MODULES, judge
from installer.update.rauc import Rauc, Report

LOCK = Path("/run/r1box-update.lock")
_RESTART_S = 60.0
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Updated:
    """``version`` is in ``slot`` now and is started next."""

    version: str | None
    slot: str


@dataclass(frozen=True, slots=True)
class Updater:
    """``run`` carries out commands; ``lock`` is the file that two updates cannot hold at once."""

    rauc: Rauc
    run: Runner
    lock: Path = LOCK

    def install(self, file: Path, report: Report) -> Updated:
        """Write ``file`` into the slot that does not run. Raises UpdateRefused, UpdateFailed, NoSlots."""
        with locked(self.lock):
            slots = self.rauc.slots()
            _demand_proved(slots)
            report("reading the update", None)
            bundle = self.rauc.bundle(file)
            if bundle.compatible != slots.compatible:
                raise UpdateRefused(
                    "update_for_other_box",
                    f"{file.name} is for {bundle.compatible}; this box is {slots.compatible}.",
                    "Take the update for this kind of machine.",
                )
            self.rauc.install(file, report)
            other = slots.other
            return Updated(bundle.version, "?" if other is None else other.name)

    def roll_back(self) -> Updated:
        """Have the other system started next. Raises UpdateRefused, UpdateFailed, NoSlots."""
        with locked(self.lock):
            slots = self.rauc.slots()
            other = slots.other
            if other is None or not other.good:
                raise UpdateRefused(
                    "no_earlier_system",
                    "There is no other system to go back to: the other slot holds none that may be started.",
                    "It is there after the first update.",
                )
            self.rauc.take_other()
            return Updated(other.version, other.name)

    def restart(self) -> None:
        """Restart the machine. Raises CommandFailed."""
        self.run(("systemctl", "--no-block", "reboot"), _RESTART_S, (0,))


def _demand_proved(slots: Slots) -> None:
    running = slots.slot(slots.booted)
    if running is not None and running.tried and not slots.rescue:
        # The other slot is the one to fall back to until this one has proved itself.
        raise UpdateRefused(
            "system_not_proved",
            f"The running system (slot {running.name}) has not yet proved that it serves.",
            "Wait until r1box-install update status says that it is good, or go back to the earlier one.",
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Raises UpdateRefused (``update_busy``)."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UpdateRefused("update_busy", "Another update is at work.", "Wait for its end.") from error
        yield


def judge_bundle(
    folder: Path, root: Path = Path("/"), find: Callable[[], HardwareSnapshot] | None = None
) -> tuple[str, ...]:
    """What a bundle's own check asks the running system, before anything is written: why the update would break the
    cards here. ``folder`` is the bundle's content. Raises UpdateRefused (``update_unreadable``)."""
    facts, rules = read_facts(folder)
    snapshot = detect([vendor.probe(root) for vendor in VENDORS]) if find is None else find()

    def has_modules(vendor: str, kernel: str) -> bool:
        modules = root / "usr/lib/modules" / kernel
        return any(any(modules.rglob(pattern)) for pattern in MODULES.get(vendor, ()))

    return judge(facts, rules, snapshot, known_software(snapshot, engines()), load_requirements(), has_modules)


def read_facts(folder: Path) -> tuple[BundleFacts, Requirements]:
    """Both files of a bundle. Raises UpdateRefused (``update_unreadable``)."""
    try:
        told = json.loads((folder / FACTS).read_text("utf-8"))
        rules = parse_requirements((folder / RULES).read_text("utf-8"))
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']}, this version reads {SCHEMA}")
        software = tuple(Software(str(name), str(version)) for name, version in dict(told["software"]).items())
        facts = BundleFacts(str(told["version"]), str(told["kernel"]), software, tuple(map(str, told["drivers"])))
        if not _VERSION.fullmatch(facts.version):
            raise ValueError("its version is no version")
    except (OSError, ValueError, KeyError, TypeError, RequirementsInvalid) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise UpdateRefused(
            "update_unreadable", f"The update does not say what it needs: {problem}.", "Ask for it anew."
        ) from error
    return facts, rules


def engines() -> tuple[Software, ...]:
    """The engines of this program."""
    cuda = read_llama_cuda(llama_folders())
    return (*read_python(), *((cuda,) if cuda else ()))
