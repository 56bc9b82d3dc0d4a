"""What the live medium does by itself: find the stick with the answers, install or go on, write the log back to it.

    wait for a stick  ->  answers  ->  apply or resume  ->  log and inventory on the stick  ->  what [finish] says

An installation that the stick says was done is not repeated, so a machine that starts from the medium again stays as it
is. Nothing here asks questions: whoever wants to be asked uses the console's shell.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from drivers.errors import DriverError
from installer.actions import Unmount
from installer.answers import Answers, read_answers
from installer.apply import carry_out
from installer.errors import InstallFailed
from installer.executor import Runner, SystemExecutor, device_paths, find_disk
from installer.facts import Facts
from installer.installation import installation_id
from installer.inventory import SEED_LABELS, BlockDevice, disk_words
from installer.journal import JOURNAL_NAME, Journal, open_journal, read_or_none, start_journal
from installer.matching import check_consent
from installer.plan import WIPE, make_plan
from installer.target import ROOT

STICK = Path("/run/r1box/stick")
ANSWERS = "answers.toml"
LOG, INVENTORY = "r1box-install.log", "r1box-inventory.json"
WANTED = """\
R1 Box: this medium installs from an answer file.
  1. Put the answer file as answers.toml on a stick named R1BOX-SEED (FAT32, exFAT or ext4), with the bundles beside it.
  2. Plug it in: the installation begins by itself, on the one disk that the file names.
The disks of this machine:"""

FactsOf = Callable[[Answers, tuple[BlockDevice, ...], Path], Facts]


@dataclass(slots=True)
class Log:
    """Every line goes to the screen at once and is kept for the stick."""

    show: Callable[[str], None]
    lines: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        self.show(text)
        self.lines.append(text)


@dataclass(frozen=True, slots=True)
class Machine:
    """What an installation without a person needs of the machine."""

    inventory: Callable[[], tuple[BlockDevice, ...]]
    facts: FactsOf
    run: Runner
    own: Path = Path(ROOT)


def seed_partition(devices: Sequence[BlockDevice]) -> BlockDevice | None:
    """The stick's file system with one of the known labels; the first, if several are plugged in."""
    for device in devices:
        for part in device.all():
            if (part.label or "").upper() in SEED_LABELS:
                return part
    return None


def wait_for_stick(machine: Machine, log: Log, pause: Callable[[], None]) -> BlockDevice:
    """The stick's partition, as soon as there is one."""
    devices = machine.inventory()
    found = seed_partition(devices)
    if found is None:
        log(WANTED)
        for device in devices:
            if device.type == "disk":
                log(f"  {disk_words(device)}")
    while found is None:
        pause()
        found = seed_partition(machine.inventory())
    return found


def mount_stick(machine: Machine, part: BlockDevice, folder: Path = STICK) -> Path:
    """The stick's folder, writable. Raises CommandFailed."""
    if part.mount_points:
        return Path(part.mount_points[0])
    folder.mkdir(parents=True, exist_ok=True)
    machine.run(("mount", "-o", "rw,nosuid,nodev,noexec", part.path, str(folder)), 60.0, (0,))
    return folder


def install_from(stick: Path, machine: Machine, log: Log) -> Answers | None:
    """Install as the stick says, or go on. Returns the answers when something was installed, None when the stick says
    that it was done. Raises DriverError."""
    answers = read_answers(stick / ANSWERS)
    with contextlib.suppress(InstallFailed):
        # What a run that was cut off in this very session may have left.
        SystemExecutor({}, machine.inventory, machine.own).execute(Unmount(str(machine.own)))
    devices = machine.inventory()
    facts = machine.facts(answers, devices, stick)
    journal_file = stick / JOURNAL_NAME
    there = read_or_none(journal_file)
    if there is not None and not there.finished and there.done:
        log("Going on with the installation that was cut off.")
        journal = open_journal(journal_file, installation_id(facts, answers))
        disk = find_disk(devices, journal.identity, journal.size_bytes)
    else:
        plan = make_plan(facts, answers)
        if not plan.steps:
            log(f"{disk_words(plan.target.disk)} has this installation already. Take the medium out and start again.")
            return None
        disk = plan.target.disk
        check_consent(disk, [answers.disk.wipe, facts.argument(WIPE)])
        log(f"Installing on {disk_words(disk)}.")
        journal = start_journal(journal_file, plan)
    _carry_out(journal, disk, machine, log)
    return answers


def _carry_out(journal: Journal, disk: BlockDevice, machine: Machine, log: Log) -> None:
    executor = SystemExecutor(device_paths(disk), machine.inventory, machine.own, machine.run)
    try:
        carry_out(journal, executor, log)
    except InstallFailed:
        with contextlib.suppress(InstallFailed):
            executor.execute(Unmount(str(machine.own)))
        raise
    log("R1 Box is installed.")


def report(stick: Path, log: Log, devices: Sequence[BlockDevice]) -> None:
    """The log and what disks there were, on the stick; tells when it cannot."""
    try:
        (stick / LOG).write_text("\n".join(log.lines) + "\n", "utf-8")
        (stick / INVENTORY).write_text(json.dumps([asdict(device) for device in devices], indent=2) + "\n", "utf-8")
        os.sync()
    except OSError as error:
        log(f"The log could not be written to the stick: {error.strerror}.")


def run_unattended(machine: Machine, log: Log, pause: Callable[[], None]) -> str:
    """The whole way, once; what the machine is to do then: ``reboot``, ``poweroff``, ``stay``, or ``failed`` for stay
    after an error."""
    part = wait_for_stick(machine, log, pause)
    after, on_error = "stay", "stay"
    try:
        stick = mount_stick(machine, part)
    except DriverError as error:
        _tell(log, error)
        return "failed"
    try:
        with contextlib.suppress(DriverError):
            on_error = read_answers(stick / ANSWERS).finish.on_error
        answers = install_from(stick, machine, log)
        after = "stay" if answers is None else answers.finish.on_success
    except DriverError as error:
        _tell(log, error)
        after = "failed" if on_error == "stay" else on_error
    report(stick, log, machine.inventory())
    with contextlib.suppress(DriverError):
        machine.run(("umount", str(stick)), 600.0, (0,))
    return after


def _tell(log: Log, error: DriverError) -> None:
    log(f"R1 Box was not installed: {error.message}")
    if error.hint:
        log(f"  {error.hint}")
