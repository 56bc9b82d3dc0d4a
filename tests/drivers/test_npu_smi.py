"""The parser of ``npu-smi info`` on recorded outputs, on layouts it has not seen, and on broken text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivers.npu_smi import MappedChip, NpuInfo, chip_name, parse_chips, parse_info, parse_list, parse_map
from drivers.types import Device, Health

FOLDER = Path(__file__).parents[1] / "fixtures/npu_smi"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
MAPS: dict[str, Any] = json.loads((FOLDER / "maps.json").read_text())
LISTS: dict[str, Any] = json.loads((FOLDER / "lists.json").read_text())
OTHERS = ("values.json", "topologies.json")
"""Expectations of the other parsers: test_npu_smi_values, test_npu_smi_topo."""
MIB = 1 << 20


def text_of(name: str) -> str:
    return (FOLDER / name).read_text()


def row(device: Device) -> list[Any]:
    total, free = device.memory_total_bytes, device.memory_free_bytes
    return [
        device.card_id,
        device.chip_id,
        device.index,
        device.chip,
        device.pci_address,
        device.memory_kind,
        None if total is None else total / MIB,
        None if total is None or free is None else (total - free) / MIB,
        device.health.value,
        device.utilization_percent,
        device.temperature_celsius,
        device.power_watts,
    ]


def codes(info: NpuInfo) -> list[str]:
    return [finding.code for finding in info.findings]


def test_every_recorded_output_has_an_expectation() -> None:
    names = {path.name for path in FOLDER.glob("*.txt")}
    elsewhere = {name for file in OTHERS for name in json.loads((FOLDER / file).read_text())}
    assert names == set(EXPECTED) | set(MAPS) | set(LISTS) | elsewhere
    assert all(text_of(name).startswith("# source: ") for name in names)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_output(name: str) -> None:
    expected = EXPECTED[name]
    info = parse_info(text_of(name))
    assert info.driver_version == expected["driver_version"]
    assert info.error_code == expected["error_code"]
    assert codes(info) == expected["findings"]
    assert [row(device) for device in info.devices] == expected["devices"]
    assert all(device.driver_version == info.driver_version for device in info.devices)


@pytest.mark.parametrize("name", sorted(MAPS))
def test_recorded_map(name: str) -> None:
    numbers = {f"{card}.{chip}": number for (card, chip), number in parse_map(text_of(name)).items()}
    assert numbers == MAPS[name]


@pytest.mark.parametrize("name", sorted(LISTS))
def test_recorded_list(name: str) -> None:
    assert {str(card): chips for card, chips in parse_list(text_of(name)).items()} == LISTS[name]


def test_list_that_is_cut_is_none() -> None:
    text = text_of("910b-25.5.1-list.txt")
    assert parse_list(text[: text.index("NPU ID                         : 6")]) == {}
    assert parse_list("There is no NPU card on this server.\n") == {}
    assert parse_list("Card Count : 1\n\nNPU ID : 24\nProduct Name : x\nChip Count : 2\n") == {24: 2}


def test_map_of_an_a3_has_the_number_of_the_node_too() -> None:
    """Words of the tool's source; no such output has been published."""
    text = (
        "\tNPU ID      Chip ID     Chip Logic ID    Chip Phy-ID   Chip Name\n"
        "\t0           0           0                8             Ascend910\n"
        "\t0           1           1                9             Ascend910\n"
        "\t0           2           -                -             Mcu\n"
    )
    assert parse_chips(text) == (MappedChip(0, 0, 0, 8), MappedChip(0, 1, 1, 9))
    assert parse_map(text) == {(0, 0): 0, (0, 1): 1}
    assert parse_chips(text[: text.index("\t0           2") - 2]) == (MappedChip(0, 0, 0, 8),)
    assert parse_chips(text.replace("0           1           1", "0           0           1")) == ()


@pytest.mark.parametrize("text", ["", "NPU ID\n", "NPU ID   Chip ID   Chip Logic ID\n0   0\n", "x  y  z\n0  0  0\n"])
def test_map_of_other_text_is_empty(text: str) -> None:
    assert parse_map(text) == {}


@pytest.mark.parametrize(
    ("name", "phy_id", "chip"),
    [
        ("910B3", False, "910B3"),
        ("Ascend910B3", False, "910B3"),
        ("Ascend 910B3", False, "910B3"),
        ("310P3", False, "310P3"),
        ("Ascend910", True, "910C"),
        ("Ascend910", False, "910"),
        ("Ascend910_9392", False, "910C"),
        ("Ascend950PR", False, "950PR"),
        ("910B4-1", False, "910B4-1"),
        ("910A", False, "910A"),
        ("910ProB", False, "910A"),
        ("Ascend910PremiumA", False, "910A"),
        ("MiniD", False, None),
        ("xxx", False, None),
    ],
)
def test_chip_names(name: str, phy_id: bool, chip: str | None) -> None:
    assert chip_name(name, has_phy_id=phy_id) == chip


DUO = text_of("310p3-duo-24.1.rc2-info.txt")
A2 = text_of("910b2c-23.0.2.1-info.txt")


def test_columns_are_found_by_their_words_not_their_place() -> None:
    """Made up: other order, other widths, new columns, gigabytes."""
    info = parse_info(
        "| NPU ID | Serial No | Name | Temp(C) Fan Speed(%) Power(W) | Health |\n"
        "| Chip Phy-ID | | | HBM-Usage(GB)  AICore(%) Memory-Usage(MB)  | Bus-Id |\n"
        "+-+\n"
        "| 7 | 12AB | Ascend 910B3 | 40 55 101.5 | Warning |\n"
        "| 1 9 | | | 4/ 64 3 0/0 | 0001:C1:00.0 |\n"
        "+-+\n"
    )
    assert codes(info) == []
    assert [row(device) for device in info.devices] == [
        [7, 1, 9, "910B3", "0001:c1:00.0", "hbm", 65536, 4096, "warning", 3, 40, 101.5]
    ]


def test_memory_without_a_unit_we_know_is_unknown() -> None:
    info = parse_info(A2.replace("HBM-Usage(MB)", "HBM-Usage(pg)"))
    assert [device.memory_total_bytes for device in info.devices] == [None, None]
    assert codes(info) == ["memory_unknown", "memory_unknown"]


def test_more_used_than_there_is_is_no_memory_at_all() -> None:
    info = parse_info(A2.replace("20701/ 65536", "70000/ 65536"))
    assert [device.memory_total_bytes for device in info.devices] == [None, 65536 * MIB]
    assert codes(info) == ["memory_unknown"]


def test_unreadable_part_leaves_the_rest() -> None:
    info = parse_info(A2.replace("88.6        51 ", "88.6 ?? 51  "))
    assert codes(info) == ["row_garbled"]
    assert row(info.devices[0])[6:] == [65536, 20701, "ok", 0, None, None]


def test_values_out_of_range_are_unknown() -> None:
    info = parse_info(
        DUO.replace("36                0 ", "999               0 ").replace(
            "| 0            1821", "| 300          1821"
        )
    )
    assert [device.temperature_celsius for device in info.devices] == [None, None]
    assert [device.utilization_percent for device in info.devices] == [None, 0]


@pytest.mark.parametrize(
    ("word", "health"), [("Critical", Health.CRITICAL), ("UNKNOWN", Health.UNKNOWN), ("Melting", Health.UNKNOWN)]
)
def test_health_words(word: str, health: Health) -> None:
    info = parse_info(A2.replace("| OK ", f"| {word} "))
    assert [device.health for device in info.devices] == [health, health]


def test_row_cut_inside_a_number_is_no_device() -> None:
    text = A2[: A2.index("20687/ 65536") + len("20687/ 655")]
    info = parse_info(text)
    assert [device.card_id for device in info.devices] == [0]
    assert codes(info) == ["row_cut", "row_cut"]


def test_row_without_its_second_line_is_a_finding() -> None:
    lines = DUO.splitlines()
    cut = next(number for number, line in enumerate(lines) if line.startswith("| 0       0  "))
    info = parse_info("\n".join(lines[:cut] + lines[cut + 1 :]))
    assert codes(info) == ["row_cut"]
    assert [device.key for device in info.devices] == ["ascend:1792.1"]


def test_row_without_its_first_line_is_a_finding() -> None:
    lines = DUO.splitlines()
    cut = next(number for number, line in enumerate(lines) if line.startswith("| 1792 "))
    info = parse_info("\n".join(lines[:cut] + lines[cut + 1 :]))
    assert codes(info) == ["row_cut"]
    assert [device.key for device in info.devices] == ["ascend:1792.1"]


def test_lost_separators_do_not_matter() -> None:
    text = "\n".join(line for line in DUO.splitlines() if not line.startswith("+"))
    assert [device.key for device in parse_info(text).devices] == ["ascend:1792.0", "ascend:1792.1"]


def test_device_listed_twice_is_kept_once() -> None:
    info = parse_info(A2.replace("| 1     910B2C", "| 0     910B2C"))
    assert codes(info) == ["row_repeated"]
    assert [device.pci_address for device in info.devices] == ["0000:5a:00.0"]


def test_line_that_does_not_fit_its_header() -> None:
    info = parse_info(A2.replace("| 0     910B2C              | OK", "| 0     910B2C |  1  | OK"))
    assert codes(info) == ["row_garbled"]
    assert [device.card_id for device in info.devices] == [1]


def test_process_rows_are_no_devices() -> None:
    info = parse_info(A2 + "| 3       0                 | 99 | npu health name | 12 |\n")
    assert [device.card_id for device in info.devices] == [0, 1]
    assert codes(info) == []


def test_no_card_is_no_finding_of_the_parser() -> None:
    assert parse_info("There is no NPU card on this server.\n") == NpuInfo()


def test_warning_about_the_installation() -> None:
    info = parse_info(A2 + "[WARNING]The driver package may not be completely installed. Please check.\n")
    assert codes(info) == ["driver_incomplete"]
    assert len(info.devices) == 2


def test_other_text_is_a_finding() -> None:
    assert codes(parse_info("bash: npu-smi: command not found\n")) == ["output_not_understood"]
    assert codes(parse_info("")) == []
    assert codes(parse_info("x\n" * 5000)) == ["output_too_long", "output_not_understood"]


def test_header_without_its_second_line() -> None:
    text = "\n".join(line for line in A2.splitlines() if "Bus-Id" not in line)
    info = parse_info(text)
    assert info.devices == ()
    assert codes(info) == ["header_not_understood"]
