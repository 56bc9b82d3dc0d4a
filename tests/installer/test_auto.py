"""The medium by itself: stick, answers, what is said and what is left on the stick. Disks and programs are recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.command import CommandFailed, CommandResult, FailureKind
from installer import auto
from installer.auto import Log, Machine, run_unattended, seed_partition
from installer.facts import Facts
from installer.inventory import BlockDevice
from installer.journal import open_journal, start_journal
from installer.plan import make_plan
from tests.installer.boxes import LEAST, answers, facts, inventory


class Programs:
    """Records programs; the one whose first word is ``breaks`` fails."""

    def __init__(self, breaks: str | None = None) -> None:
        self.argv: list[list[str]] = []
        self.breaks = breaks

    def __call__(self, argv: Sequence[str], timeout_s: float, ok_codes: Sequence[int]) -> CommandResult:
        self.argv.append(list(argv))
        result = CommandResult(tuple(argv), 1 if argv[0] == self.breaks else 0, "", "no medium found", 0.0)
        if argv[0] == self.breaks:
            raise CommandFailed(FailureKind.EXIT_CODE, f"{argv[0]} failed", "Look at it.", " ".join(argv), result)
        return result


def disks() -> tuple[BlockDevice, ...]:
    """A recorded server's, without the stick that was in it."""
    return tuple(device for device in inventory() if seed_partition([device]) is None)


def stick_row(folder: Path, *, mounted: bool = True) -> BlockDevice:
    points = (str(folder),) if mounted else ()
    part = BlockDevice("sdz1", "/dev/sdz1", "part", 64 << 20, label="R1BOX-SEED", mount_points=points)
    return BlockDevice("sdz", "/dev/sdz", "disk", 64 << 20, transport="usb", children=(part,))


def machine(stick: Path, programs: Programs, **given: object) -> Machine:
    devices = (*disks(), stick_row(stick))

    def facts_of(read: object, seen: tuple[BlockDevice, ...], folder: Path) -> Facts:
        return facts(devices=seen, stick=folder, **given)

    return Machine(lambda: devices, facts_of, programs, stick / "target")


def never() -> None:
    raise AssertionError("nothing to wait for")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def run(stick: Path, programs: Programs | None = None, text: str | None = LEAST, **given: object) -> tuple[str, str]:
    if text is not None:
        (stick / "answers.toml").write_text(text)
    log = Log(lambda line: None)
    after = run_unattended(machine(stick, programs or Programs(), **given), log, never)
    return after, "\n".join(log.lines)


def test_the_stick_is_known_by_its_label(stick: Path) -> None:
    assert seed_partition(disks()) is None
    found = seed_partition((*disks(), stick_row(stick)))
    assert found is not None
    assert found.path == "/dev/sdz1"
    recorded = seed_partition(inventory())
    assert recorded is not None
    assert (recorded.label or "").upper() in {"R1BOX-SEED", "CIDATA"}


def test_without_a_stick_it_says_what_is_wanted_and_waits(stick: Path) -> None:
    seen: list[tuple[BlockDevice, ...]] = [(), (), (stick_row(stick),)]
    pauses = []
    log = Log(lambda line: None)
    waiting = replace(machine(stick, Programs()), inventory=lambda: seen.pop(0))
    part = auto.wait_for_stick(waiting, log, lambda: pauses.append(1))
    assert part.path == "/dev/sdz1"
    assert len(pauses) == 2
    assert len([line for line in log.lines if "R1BOX-SEED" in line]) == 1


def test_a_stick_without_answers_is_told_and_nothing_is_touched(stick: Path) -> None:
    programs = Programs()
    after, said = run(stick, programs, text=None)
    assert after == "failed"
    assert "answers.toml" in said
    assert {argv[0] for argv in programs.argv} == {"umount"}


def test_a_refusal_is_said_and_written_to_the_stick(stick: Path) -> None:
    after, said = run(stick, text=LEAST.replace("serial =", "serail ="))
    assert after == "failed"
    assert "did you mean" in said
    assert (stick / "r1box-install.log").read_text().rstrip("\n") == said
    assert any(row["path"] == "/dev/sdz" for row in json.loads((stick / "r1box-inventory.json").read_text()))
    assert not (stick / "r1box-install.journal").exists()


def test_no_consent_no_writing(stick: Path) -> None:
    programs = Programs()
    text = "\n".join(line for line in LEAST.splitlines() if not line.startswith("wipe"))
    after, said = run(stick, programs, text)
    assert after == "failed"
    assert "serial" in said
    assert {argv[0] for argv in programs.argv} == {"umount"}


def test_what_finish_says_on_error_is_done(stick: Path) -> None:
    after, said = run(stick, text=LEAST + '\n[finish]\non_error = "poweroff"\n', image=None)
    assert after == "poweroff"
    assert "not installed" in said


def test_a_step_that_fails_ends_with_a_journal_to_go_on_from(stick: Path) -> None:
    programs = Programs(breaks="wipefs")
    after, said = run(stick, programs)
    assert after == "failed"
    assert "wipefs failed" in said
    assert open_journal(stick / "r1box-install.journal").begun is not None
    assert "mkfs.vfat" not in {argv[0] for argv in programs.argv}


def test_an_unfinished_installation_is_gone_on_with(stick: Path) -> None:
    programs = Programs(breaks="mkfs.vfat")
    run(stick, programs)
    done_before = [argv[0] for argv in programs.argv]
    again = Programs(breaks="mkfs.vfat")
    after, said = run(stick, again)
    assert after == "failed"
    assert "Going on" in said
    assert "wipefs" in done_before
    assert "wipefs" not in [argv[0] for argv in again.argv]


def test_another_answer_file_does_not_go_on_with_it(stick: Path) -> None:
    run(stick, Programs(breaks="mkfs.vfat"))
    programs = Programs()
    after, said = run(stick, programs, LEAST.replace("[disk]", "[disk]\nslot_gib = 9", 1))
    assert after == "failed"
    assert "other answers" in said
    assert {argv[0] for argv in programs.argv} == {"umount"}


def test_a_finished_installation_is_not_done_again(stick: Path) -> None:
    devices = (*disks(), stick_row(stick))
    given = facts(devices=devices, stick=stick)
    plan = make_plan(given, answers())
    journal = start_journal(stick / "r1box-install.journal", plan)
    journal.finish()
    programs = Programs()
    after, said = run(stick, programs, installed=plan.installation)
    assert after == "stay"
    assert "already" in said
    assert {argv[0] for argv in programs.argv} == {"umount"}


def test_a_stick_that_cannot_be_mounted(stick: Path) -> None:
    programs = Programs(breaks="mount")
    base = machine(stick, programs)
    seen = (stick_row(stick, mounted=False),)
    log = Log(lambda line: None)
    assert run_unattended(replace(base, inventory=lambda: seen), log, never) == "failed"
    assert "mount failed" in "\n".join(log.lines)
