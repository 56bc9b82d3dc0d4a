"""The parsers of ``npu-smi info`` on unseen layouts and on broken text: nothing raises, nothing is guessed."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.npu_smi import NpuInfo, parse_chips, parse_info, parse_list, parse_map
from tests.drivers.test_npu_smi import EXPECTED, row, text_of

CAPTURES = st.sampled_from(sorted(EXPECTED)).map(text_of)
WORDS = (
    "NPU Name Health Bus-Id Chip Phy-ID HBM-Usage(MB) Memory-Usage(GB) OK NA - 0 1792 65536/ / 910B3 0000:C1:00.0 | ²"
)
TOKENS = st.sampled_from([*WORDS.split(), "+---+", "\n", " ", "0 / 0", "Process id", "99999999999999999"])


def check(info: NpuInfo, known: set[tuple[Any, ...]] | None = None) -> None:
    """What holds for every output: keys are unique, values are in range, and unknown is None."""
    keys = [device.key for device in info.devices]
    assert len(keys) == len(set(keys))
    for device in info.devices:
        assert device.card_id is not None
        assert (device.memory_free_bytes is None) == (device.memory_total_bytes is None)
        if device.memory_total_bytes is not None and device.memory_free_bytes is not None:
            assert 0 <= device.memory_free_bytes <= device.memory_total_bytes
        assert device.power_watts is None or device.power_watts > 0
        assert device.utilization_percent is None or 0 <= device.utilization_percent <= 100
        if known is not None:
            assert (device.key, device.memory_total_bytes, device.pci_address) in known


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str) -> None:
    check(parse_info(text))
    parse_map(text)
    parse_list(text)


@given(st.lists(TOKENS, max_size=120).map(" ".join))
@settings(max_examples=80)
def test_any_table_of_our_words_is_read_without_an_exception(text: str) -> None:
    check(parse_info(text))
    parse_map(text)


@given(CAPTURES, st.data())
@settings(max_examples=80)
def test_a_cut_output_never_invents_a_device(text: str, data: st.DataObject) -> None:
    whole = {(one.key, one.memory_total_bytes, one.pci_address) for one in parse_info(text).devices}
    check(parse_info(text[: data.draw(st.integers(0, len(text)))]), whole)


@given(CAPTURES, st.data())
@settings(max_examples=80)
def test_lost_lines_never_invent_a_device(text: str, data: st.DataObject) -> None:
    """Rows of two devices must not be joined into one: a separator stands between them."""
    whole = {(one.key, one.memory_total_bytes, one.pci_address) for one in parse_info(text).devices}
    lines = text.splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    lost = data.draw(st.sets(st.sampled_from(rows), max_size=3)) if rows else set()
    kept = "\n".join(line for number, line in enumerate(lines) if number not in lost)
    check(parse_info(kept), whole)


@given(CAPTURES, st.data())
@settings(max_examples=80)
def test_changed_characters_raise_nothing(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, max(0, len(text) - 1)))
        text = text[:place] + data.draw(st.sampled_from("|/ \n0x-+A")) + text[place + 1 :]
    check(parse_info(text))


@given(CAPTURES, st.integers(2, 9))
def test_widths_do_not_matter(text: str, width: int) -> None:
    """Every gap of two or more blanks takes another width."""
    lines = [re.sub(r" {2,}", " " * width, line) if line.startswith("|") else line for line in text.splitlines()]
    assert parse_info("\n".join(lines)).devices == parse_info(text).devices


def tables(text: str) -> list[list[str] | str]:
    """The lines, those of the device table as their cells; the process table and what is behind it stay text."""
    lines: list[list[str] | str] = []
    inside = False
    for line in text.splitlines():
        joined = line.lower()
        if "name" in joined and "health" in joined and line.startswith("|"):
            inside = True
        elif "process" in joined:
            inside = False
        cells = line.strip()[1:-1].split("|") if inside and line.strip().startswith("|") else line
        lines.append(cells)
    return lines


def same_or_unknown(changed: NpuInfo, text: str) -> None:
    """Nothing is guessed: every value is the right one or unknown, and what is missing has a finding."""
    whole = {device.key: device for device in parse_info(text).devices}
    for device in changed.devices:
        assert device.key in whole
        for told, right in zip(row(device), row(whole[device.key]), strict=True):
            assert told in (right, None) or (told == "unknown")
    if len(changed.devices) < len(whole):
        assert changed.findings


TABLES = st.sampled_from([name for name in sorted(EXPECTED) if EXPECTED[name]["devices"]]).map(text_of)


@given(TABLES, st.data())
def test_cells_in_another_order_give_the_same_or_nothing(text: str, data: st.DataObject) -> None:
    lines = tables(text)
    widths = {len(line) for line in lines if not isinstance(line, str)}
    orders = {width: data.draw(st.permutations(range(width))) for width in widths}
    moved = [
        line if isinstance(line, str) else "|" + "|".join(line[place] for place in orders[len(line)]) + "|"
        for line in lines
    ]
    same_or_unknown(parse_info("\n".join(moved) + "\n"), text)


@given(TABLES, st.integers(0, 4), st.sampled_from(["Fan Speed(%)", "Serial", "ECC", "Link  State"]), st.data())
def test_new_cells_change_no_value(text: str, place: int, word: str, data: st.DataObject) -> None:
    """A whole new cell between two bars, named in one header line or in both."""
    second = data.draw(st.sampled_from(["", "Slot", "Uptime(s)"]))
    value = data.draw(st.sampled_from(["7", "0000:01:00.0", "NA", "abc", "3 / 4"]))
    lines, number = [], 0
    for line in tables(text):
        if isinstance(line, str):
            lines.append(line)
            continue
        added = (word, second)[number] if number < 2 else value
        number += 1
        lines.append("|" + "|".join([*line[:place], f" {added} ", *line[place:]]) + "|")
    same_or_unknown(parse_info("\n".join(lines) + "\n"), text)


@given(TABLES, st.integers(0, 2), st.booleans(), st.sampled_from(["Fan(%)", "Clock(MHz)", "Mode"]))
def test_new_columns_in_a_cell_change_no_value(text: str, place: int, first: bool, word: str) -> None:
    """A new column at the end of a cell of the first or the second line."""
    lines, number = [], 0
    for line in tables(text):
        if isinstance(line, str):
            lines.append(line)
            continue
        cells = list(line)
        if (number % 2 == 0) == first and place < len(cells):
            cells[place] += f"  {word} " if number < 2 else "  55 "
        number += 1
        lines.append("|" + "|".join(cells) + "|")
    same_or_unknown(parse_info("\n".join(lines) + "\n"), text)


PIECE = re.compile(r"\d+\s*/\s*\d+|NPU (?:Util\(%\)|ID)|\S+")


@given(TABLES, st.data())
def test_columns_within_a_cell_in_another_order_keep_their_values(text: str, data: st.DataObject) -> None:
    """Every value moves with its word; both memory pairs too."""
    orders: dict[tuple[int, int, int], list[int]] = {}
    lines, number = [], 0
    for line in tables(text):
        if isinstance(line, str):
            lines.append(line)
            continue
        cells = []
        for place, cell in enumerate(line):
            pieces = PIECE.findall(cell)
            if place == 0 or len(pieces) < 2:
                cells.append(cell)
                continue
            order = orders.setdefault((number % 2, place, len(pieces)), data.draw(st.permutations(range(len(pieces)))))
            cells.append("  " + "   ".join(pieces[one] for one in order) + "  ")
        number += 1
        lines.append("|" + "|".join(cells) + "|")
    moved = parse_info("\n".join(lines) + "\n")
    assert [row(device) for device in moved.devices] == [row(device) for device in parse_info(text).devices]


@given(TABLES)
def test_a_second_table_of_other_things_changes_nothing(text: str) -> None:
    """Another table behind it, in the form of the process table or of a new one."""
    extra = "| NPU  Chip | Process id | Process name | Process memory(MB) |\n| 9  0 | 4711 | x | 12 |\n"
    extra += "| NPU  Chip | Link | State |\n| 9  0 | 1 | up |\n"
    assert parse_info(text + "\n" + extra).devices == parse_info(text).devices


MAPS = st.sampled_from(["910a-23.0.5-map.txt", "910b3-25.5.1-map.txt", "950-vendor-doc-map.txt"]).map(text_of)


@given(MAPS, st.data())
def test_a_cut_map_never_invents_a_number(text: str, data: st.DataObject) -> None:
    assert set(parse_chips(text[: data.draw(st.integers(0, len(text)))])) <= set(parse_chips(text))


@given(st.data())
def test_a_cut_list_is_none_or_whole(data: st.DataObject) -> None:
    text = text_of("910b-25.5.1-list.txt")
    assert set(parse_list(text[: data.draw(st.integers(0, len(text)))])) in (set(), set(range(8)))
