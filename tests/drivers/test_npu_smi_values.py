"""The parser of ``npu-smi info -t``: recorded answers, other layouts of the same words, and broken text."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.npu_smi_values import CardValues, ChipValues, chip_of, parse_values
from drivers.types import Health, MemoryErrors

FOLDER = Path(__file__).parents[1] / "fixtures/npu_smi"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "values.json").read_text())
MIB = 1 << 20


def text_of(name: str) -> str:
    return (FOLDER / name).read_text().partition("\n")[2]


def chip(values: dict[str, Any]) -> ChipValues:
    """The expected chip; what is not named is unknown."""
    values = dict(values)
    if "memory_total_mb" in values:
        values["memory_total_bytes"] = values.pop("memory_total_mb") * MIB
    if "health" in values:
        values["health"] = Health(values["health"])
    if "memory_errors" in values:
        *counts, pages = values["memory_errors"]
        values["memory_errors"] = MemoryErrors(*counts, retired_pages=pages)
    for name in ("fault_codes", "fault_texts"):
        if name in values:
            values[name] = tuple(values[name])
    return ChipValues(**values)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_answer(name: str) -> None:
    expected = EXPECTED[name]
    chips = tuple(chip(one) for one in expected["chips"])
    assert parse_values(text_of(name)) == CardValues(expected["card_id"], chips, expected["board_power_watts"])


TWO_BEFORE = """
	NPU ID                         : 2
	Chip Count                     : 2

	Chip ID                        : 0
	Aicore Usage Rate(%)           : 10
	Temperature(C)                 : 45

	Chip ID                        : 1
	Aicore Usage Rate(%)           : 20
	Temperature(C)                 : 55

	Chip Name                      : mcu
	Temperature(C)                 : 40
	NPU Real-time Power(W)         : 72.5
"""
TWO_AFTER = """
	NPU ID                         : 2
	Chip Count                     : 2

	Aicore Usage Rate(%)           : 10
	Temperature(C)                 : 45
	Chip ID                        : 0

	Aicore Usage Rate(%)           : 20
	Temperature(C)                 : 55
	Chip ID                        : 1

	Temperature(C)                 : 40
	NPU Real-time Power(W)         : 72.5
	Chip Name                      : MCU
"""
PAIR = CardValues(
    2,
    (
        ChipValues(0, utilization_percent=10, temperature_celsius=45),
        ChipValues(1, utilization_percent=20, temperature_celsius=55),
    ),
    72.5,
)


@pytest.mark.parametrize("text", [TWO_BEFORE, TWO_AFTER])
def test_number_of_the_chip_before_or_after_its_block(text: str) -> None:
    """Made up: no answer of a card with two chips has been published."""
    assert parse_values(text) == PAIR


@pytest.mark.parametrize("text", [TWO_BEFORE, TWO_AFTER])
def test_lost_blank_lines_never_mix_two_chips(text: str) -> None:
    joined = re.sub(r"\n\n(?=\t(?:Chip ID|Aicore))", "\n", text)
    values = parse_values(joined)
    assert [one for one in values.chips if one not in PAIR.chips] == []


def test_a_lost_number_gives_no_value_to_another_chip() -> None:
    values = parse_values(TWO_AFTER.replace("Chip ID                        : 1\n", ""))
    assert values.chips in ((), PAIR.chips[:1])


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("NPU Temperature (C)", 61),
        ("Temperature (C)", 61),
        ("Temperature(C)", 61),
        ("temperature(c)", 61),
        ("Temperature(F)", None),
        ("Temperature", None),
        ("HBM Temperature(C)", None),
        ("Mainboard Temperature(C)", None),
    ],
)
def test_words_and_unit_decide(label: str, value: float | None) -> None:
    values = parse_values(f"NPU ID : 0\n{label} : 61\nFirmware Version : 1\n")
    assert values.chips[0].temperature_celsius == value


@pytest.mark.parametrize("word", ["NA", "-", "", "abc", "4 3", "1e3", "999", "-99", "٤٣"])
def test_what_is_no_number_in_range_is_unknown(word: str) -> None:
    values = parse_values(f"NPU ID : 0\nTemperature(C) : {word}\nFirmware Version : 1\n")
    assert values.chips[0].temperature_celsius is None


def test_two_values_of_one_label_are_none() -> None:
    values = parse_values("NPU ID : 0\nTemperature(C) : 40\nTemperature(C) : 41\nFirmware Version : 1\n")
    assert values.chips[0].temperature_celsius is None


def test_answers_of_two_cards_in_one_text_are_none() -> None:
    text = text_of("910b-common-npu1.txt") + "\n" + text_of("910b-common-npu7.txt")
    assert parse_values(text).chips == ()


def test_cut_line_is_left_out() -> None:
    text = text_of("910b-25.5.1-power.txt")
    cut = text[: text.index("103.5") + 2]
    assert parse_values(cut) == CardValues(0, (), cut=True)


def test_block_that_is_cut_before_its_number_tells_nothing() -> None:
    """A 910A has a little DDR beside its HBM, and the DDR is told first."""
    text = text_of("910a-23.0.5-usages.txt")
    assert parse_values(text[: text.index("\tDDR Usage Rate")]) == CardValues(0)


def test_power_is_not_the_boards_when_its_block_runs_into_the_chips() -> None:
    joined = re.sub(r"\n\s*\n(\s*Chip Name)", r"\n\1", text_of("910b-common-npu1.txt"))
    assert parse_values(joined) == CardValues(1)


def test_no_power_is_not_zero() -> None:
    assert parse_values("NPU ID : 0\nNPU Real-time Power(W) : 0.0\nFirmware Version : 1\n").chips[0].power_watts is None


@pytest.mark.parametrize(
    ("codes", "parsed"),
    [
        ("4E00", ("00004E00",)),
        ("0x80E18402 4E00", ("80E18402", "00004E00")),
        ("NA", ()),
        ("80E18402 what", None),
        ("123456789", None),
        ("", None),
    ],
)
def test_fault_codes_have_eight_digits(codes: str, parsed: tuple[str, ...] | None) -> None:
    values = parse_values(f"Health Status : Alarm\nError Code : {codes}\nError Information : NA\n")
    assert values.chips[0].fault_codes == parsed


def test_incompatible_firmware() -> None:
    text = text_of("910b-25.5.1-board.txt").replace("Compatibility                  : OK", "Compatibility : NOK")
    assert parse_values(text).chips[0].compatible is False
    assert parse_values(text.replace("NOK", "UNKNOWN")).chips[0].compatible is None


def test_values_are_given_to_the_chip_that_was_asked_for() -> None:
    numbered, unnumbered = parse_values(TWO_AFTER), parse_values("Health Status : OK\nError Code : NA\n")
    found = chip_of(numbered, 2, 1, alone=False)
    assert found is not None
    assert found.temperature_celsius == 55
    assert chip_of(numbered, 3, 1, alone=False) is None
    assert chip_of(unnumbered, 2, 1, alone=False) is None
    assert chip_of(unnumbered, 2, 1, alone=True) == unnumbered.chips[0]


CAPTURES = st.sampled_from(sorted(EXPECTED)).map(text_of)


def known(text: str) -> dict[str, set[Any]]:
    """Every value of the whole answer, by field."""
    found: dict[str, set[Any]] = {}
    for one in parse_values(text).chips:
        for field in dataclasses.fields(one):
            found.setdefault(field.name, set()).add(getattr(one, field.name))
    return found


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str) -> None:
    parse_values(text)


LABELS = ("NPU ID", "Chip ID", "Chip Name", "Temperature(C)", "Error Code", "Error Information", "Health")
OTHERS = (" : ", ":", "0", "1", "mcu", "NA", "\n", "\n\n", "\t", "80E18402", "NPU Real-time Power(W)", "12.5", "65536")
WORDS = st.sampled_from((*LABELS, *OTHERS, "HBM Capacity(MB)", "DDR Capacity(MB)"))


@given(st.lists(WORDS, max_size=80).map("".join))
def test_any_text_of_our_words_is_read_without_an_exception(text: str) -> None:
    for one in parse_values(text).chips:
        assert one.power_watts is None or one.power_watts > 0
        assert one.temperature_celsius is None or -60 <= one.temperature_celsius <= 200


@given(CAPTURES, st.data())
def test_a_cut_answer_never_invents_a_value(text: str, data: st.DataObject) -> None:
    whole = known(text)
    cut = parse_values(text[: data.draw(st.integers(0, len(text)))])
    for one in cut.chips:
        for field in ("temperature_celsius", "power_watts", "memory_total_bytes", "firmware_version", "clock_mhz"):
            assert getattr(one, field) in whole.get(field, set()) | {None}


@given(CAPTURES, st.integers(0, 12), st.randoms(use_true_random=False))
def test_widths_order_and_unknown_lines_do_not_matter(text: str, width: int, chance: random.Random) -> None:
    """Lines within a block change their places, except that Chip ID stays first or last, and new ones come in."""
    blocks = []
    for block in text.split("\n\n"):
        lines = [re.sub(r"\s+:", " " * width + " :", line) for line in block.splitlines()]
        fixed = "Error Code" in text or "Chip ID" in block or "Chip Name" in block or "Chip Count" in block
        if not fixed:
            lines.append("Something New(furlong) : 17")
            chance.shuffle(lines)
        blocks.append("\n".join(lines))
    assert parse_values("\n\n".join(blocks) + "\n") == parse_values(text)
