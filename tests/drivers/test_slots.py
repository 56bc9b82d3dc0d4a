"""The slots as RAUC and the boot loader tell of them, from recorded output."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import CommandResult
from drivers.slots import NoSlots, booted_slot, given_up, next_slot, parse_environment, parse_status, read_slots

FIXTURES = Path(__file__).parents[1] / "fixtures/rauc"
STATUS = (FIXTURES / "status.json").read_text()
FRESH = (FIXTURES / "status-fresh.json").read_text()


def test_a_box_after_an_update() -> None:
    environment = parse_environment((FIXTURES / "grubenv").read_bytes())
    assert environment == {"ORDER": "B A", "A_OK": "1", "A_TRY": "0", "B_OK": "1", "B_TRY": "0"}
    slots = parse_status(STATUS, environment, ("quiet", "rauc.slot=B"))
    assert (slots.booted, slots.next, slots.fell_back, slots.rescue) == ("B", "B", None, False)
    assert [(one.name, one.version, one.booted, one.good, one.tried) for one in slots.slots] == [
        ("A", "0.1.0", False, True, False),
        ("B", "0.2.0", True, True, False),
    ]
    assert slots.slots[1].installed_at == "2026-11-22T12:29:17Z"
    assert slots.other == slots.slots[0]


def test_a_box_before_any_update() -> None:
    slots = parse_status(FRESH, {"ORDER": "A B", "A_OK": "1", "A_TRY": "1", "B_OK": "0", "B_TRY": "0"})
    assert [(one.good, one.tried, one.version) for one in slots.slots] == [(True, True, None), (False, False, None)]
    assert slots.next == "A"


def test_an_update_that_did_not_serve() -> None:
    notes = {"ORDER": "B A", "A_OK": "1", "A_TRY": "1", "B_OK": "1", "B_TRY": "1"}
    slots = parse_status(FRESH, notes, ("rauc.slot=A",))
    assert (slots.booted, slots.next, slots.fell_back) == ("A", "A", "B")


def test_without_the_boot_loaders_notes_rauc_is_believed() -> None:
    slots = parse_status(STATUS, None, ("rauc.slot=B", "r1box.rescue"))
    assert (slots.next, slots.slots[0].tried, slots.rescue) == ("B", None, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"slots": [{"x": {}}]}', '{"slots": 3}', "Error retrieving"])
def test_words_that_are_no_status(text: str) -> None:
    with pytest.raises(NoSlots, match="cannot be read"):
        parse_status(text, None)


@given(st.binary(max_size=1100))
def test_damaged_notes_are_said_to_be(content: bytes) -> None:
    with pytest.raises(NoSlots, match="damaged"):
        parse_environment(content)


@given(
    order=st.permutations(["A", "B"]),
    marks=st.fixed_dictionaries({f"{n}_{w}": st.sampled_from("01") for n in "AB" for w in ("OK", "TRY")}),
)
def test_what_is_next_was_not_tried_and_what_was_given_up_comes_before(order: list[str], marks: dict[str, str]) -> None:
    notes = {"ORDER": " ".join(order), **marks}
    chosen = next_slot(notes)
    if chosen is not None:
        assert (notes[f"{chosen}_OK"], notes[f"{chosen}_TRY"]) == ("1", "0")
    lost = given_up(notes, order[1])
    assert lost in (None, order[0])
    assert given_up(notes, order[0]) is None


def test_a_machine_without_slots_says_so(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("root=/dev/sda1 quiet\n")
    asked: list[object] = []

    def ask(argv: object) -> CommandResult:
        asked.append(argv)
        return CommandResult((), 0, STATUS, "", 0.0)

    with pytest.raises(NoSlots, match="one slot only") as told:
        read_slots(ask, tmp_path)
    assert (told.value.code, asked) == ("no_slots", [])
    assert "apt-get install" in (told.value.hint or "")
    assert booted_slot(("rauc.slot=B",)) == "B"
