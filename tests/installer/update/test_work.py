"""From a file on a stick to the other slot and back, through the real code and a RAUC that speaks as the real one."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path

import pytest

from drivers.command import CommandResult
from drivers.slots import NoSlots, kernel_arguments, read_environment
from installer.errors import InstallFailed
from installer.slot import State, prove_slot
from installer.update.cli import slots_text
from installer.update.errors import UpdateFailed, UpdateRefused
from tests.installer.update.boxes import SlotBox, make_box


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlotBox:
    return make_box(tmp_path, monkeypatch)


class Serves:
    """A daemon that is ready and answers, or has failed."""

    def __init__(self, *, well: bool) -> None:
        self._state = State(well, "ready" if well else "failed", "tiny-r1", None if well else "no memory")
        self._well = well

    def state(self) -> State:
        return self._state

    def answers(self, model: str) -> bool:
        return self._well

    def restarts(self) -> int:
        return 0


def prove(box: SlotBox, *, well: bool) -> list[str]:
    """The health check of the started system."""
    said: list[str] = []

    def run(argv: Sequence[str], timeout_s: float, ok_codes: Sequence[int]) -> CommandResult:
        rauc = box.updater.rauc
        {"mark-good": rauc.good, "mark-bad": rauc.bad_other}[argv[2]]()
        return CommandResult(tuple(argv), 0, "", "", 0.0)

    arguments = kernel_arguments(box.root)
    prove_slot(arguments, Serves(well=well), run, said.append, lambda: None, read_environment(box.root))
    return said


def test_an_update_and_one_command_back(box: SlotBox) -> None:
    seen: list[tuple[str, float | None]] = []
    done = box.updater.install(box.bundle(), lambda phase, fraction: seen.append((phase, fraction)))
    assert (done.version, done.slot) == ("0.2.0", "B")
    fractions = [fraction for _, fraction in seen if fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert ("Copying image to rootfs.1", 0.9) in seen
    slots = box.updater.rauc.slots()
    assert (slots.booted, slots.next) == ("A", "B")
    assert "is started next" in slots_text(slots).splitlines()[1]

    assert box.start() == "B"
    slots = box.updater.rauc.slots()
    assert slots.slots[1].tried
    assert "not proved yet" in slots_text(slots)
    assert prove(box, well=True)[-1].startswith("Slot B is good")
    assert box.notes["B_TRY"] == "0"

    back = box.updater.roll_back()
    assert (back.slot, back.version) == ("A", "0.1.0")
    assert box.start() == "A"
    assert prove(box, well=True) == ["Slot A is good: tiny-r1 answers."]
    # And forwards again: what was gone back from is still there.
    assert box.updater.roll_back().slot == "B"


def test_an_update_that_does_not_serve_goes_back_by_itself(box: SlotBox) -> None:
    box.updater.install(box.bundle(), lambda phase, fraction: None)
    assert box.start() == "B"
    with pytest.raises(InstallFailed, match="cannot be served: no memory"):
        prove(box, well=False)
    # The unit's FailureAction restarts the machine; so does the watchdog, and so does a power cut.
    assert box.start() == "A"
    slots = box.updater.rauc.slots()
    assert (slots.booted, slots.fell_back) == ("A", "B")
    assert "did not serve" in slots_text(slots)
    said = prove(box, well=True)
    assert said[0] == "Slot B was started before and did not serve; the system of slot A is back."
    assert (box.notes["A_TRY"], box.notes["B_OK"]) == ("0", "0")
    with pytest.raises(UpdateRefused) as told:
        box.updater.roll_back()
    assert told.value.code == "no_earlier_system"
    # The next, better update takes its place.
    assert box.updater.install(box.bundle(version="0.2.1"), lambda phase, fraction: None).slot == "B"
    assert box.start() == "B"


def test_the_only_good_system_is_not_overwritten(box: SlotBox) -> None:
    box.updater.install(box.bundle(), lambda phase, fraction: None)
    box.start()
    before = box.notes
    with pytest.raises(UpdateRefused) as told:
        box.updater.install(box.bundle(), lambda phase, fraction: None)
    assert (told.value.code, box.notes) == ("system_not_proved", before)
    # A rescue starts nothing that was proved; there a new update is the way out.
    box.boot("B", "r1box.rescue")
    box.updater.install(box.bundle(), lambda phase, fraction: None)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"signed_by": "a stranger"}, "update_not_trusted"),
        ({"compatible": "r1box-aarch64"}, "update_for_other_box"),
    ],
)
def test_what_is_refused_changes_nothing(box: SlotBox, told: dict[str, str], code: str) -> None:
    before = box.notes
    with pytest.raises(UpdateRefused) as refused:
        box.updater.install(box.bundle(**told), lambda phase, fraction: None)
    assert (refused.value.code, box.notes) == (code, before)
    assert not (box.root / "efi/grub/slot-B").exists()


def test_files_that_are_no_update(box: SlotBox) -> None:
    junk = box.root / "junk.raucb"
    junk.write_bytes(b"\0" * 100)
    for file in (junk, box.root / "none.raucb", box.root):
        with pytest.raises(UpdateRefused) as refused:
            box.updater.install(file, lambda phase, fraction: None)
        assert refused.value.code == "update_unreadable"


def test_damage_in_the_middle_leaves_the_running_system(box: SlotBox) -> None:
    damage = "Failed updating slot rootfs.1: Error reading from file: Input/output error"
    with pytest.raises(UpdateFailed, match="Input/output error"):
        box.updater.install(box.bundle(damage=damage), lambda phase, fraction: None)
    assert (box.notes["A_OK"], box.notes["B_OK"]) == ("1", "0")
    assert box.start() == "A"


def test_the_bundles_own_check_is_believed(box: SlotBox) -> None:
    folder = box.root / "content"
    folder.mkdir()
    hook = folder / "hook"
    hook.write_text('#!/bin/sh\n[ "$1" = install-check ] || exit 1\necho "CANN 9 needs driver 30." >&2\nexit 10\n')
    hook.chmod(0o755)
    with pytest.raises(UpdateRefused) as refused:
        box.updater.install(box.bundle(folder=str(folder)), lambda phase, fraction: None)
    assert (refused.value.code, refused.value.message) == ("update_would_break_cards", "CANN 9 needs driver 30.")
    assert box.notes["B_OK"] == "0"


def test_two_at_once(box: SlotBox) -> None:
    with (box.root / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UpdateRefused) as refused:
            box.updater.install(box.bundle(), lambda phase, fraction: None)
    assert refused.value.code == "update_busy"


def test_a_machine_without_slots(box: SlotBox) -> None:
    (box.root / "proc/cmdline").write_text("root=/dev/sda1\n")
    with pytest.raises(NoSlots, match="one slot only"):
        box.updater.install(box.bundle(), lambda phase, fraction: None)
    with pytest.raises(NoSlots):
        box.updater.roll_back()


def test_rauc_that_is_not_there(box: SlotBox) -> None:
    box.program.unlink()
    with pytest.raises(NoSlots, match="RAUC is not installed"):
        box.updater.rauc.slots()
    with pytest.raises(UpdateFailed, match="was not found"):
        box.updater.rauc.bundle(box.bundle())
