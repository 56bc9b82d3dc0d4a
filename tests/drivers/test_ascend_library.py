"""The Ascend probe end to end: the real DCMI child with the compiled fake library, real boxes.

What goes wrong with the library itself: ``test_ascend_library_fails``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.types import DeviceProcess, Health, Layer, LayerState, LinkKind, Severity
from tests.drivers.ascend_box import ALL_OK, FIXTURES, Box, codes, only, prints, state, states
from tests.fakes.dcmi.scenarios import (
    ascend_310b_box,
    ascend_910b3_box,
    ascend_950_box,
    ascend_a3_box,
    atlas_300i_duo_box,
    lost_chip,
)

MIB = 1 << 20
A3_BUSES = ("9c", "9e", "37", "39", "9a", "9b", "33", "35", "d9", "db", "72", "74", "d5", "d7", "6c", "6e")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_eight_910b3(box: Box, fake_dcmi: Path) -> None:
    box.a2()
    box.tool(f"touch '{box.root}/asked'; exit 9")
    box.library(fake_dcmi, ascend_910b3_box() | {"0.0.processes": "4711:1073741824"})
    result = box.probe()
    assert not (box.root / "asked").exists(), "DCMI told everything"
    assert codes(result) == []
    assert set(states(result).values()) == {"ok"}
    assert [report.layer for report in result.layers] == [
        Layer.PCI,
        Layer.MODULE,
        Layer.NODES,
        Layer.ACCESS,
        Layer.LIBRARY,
        Layer.RUNTIME,
    ]
    assert [report.detail for report in result.layers if report.layer is Layer.LIBRARY] == ["DCMI 24.1.rc1.b030"]
    first = result.devices[0]
    assert (first.key, first.index, first.chip, first.pci_address) == ("ascend:0.0", 0, "910B3", "0000:c1:00.0")
    assert (first.memory_kind, first.memory_total_bytes, first.memory_free_bytes) == (
        "hbm",
        65536 * MIB,
        (65536 - 3318) * MIB,
    )
    assert (first.power_watts, first.temperature_celsius, first.utilization_percent) == (101.8, 43, 0)
    assert (first.clock_mhz, first.memory_clock_mhz, first.firmware_version) == (1800, 1600, "7.8.0.6.201")
    assert (first.node, first.layers, first.health) == ("/dev/davinci0", ALL_OK, Health.OK)
    assert first.processes == (DeviceProcess(4711, memory_bytes=1 << 30),)
    assert first.memory_errors is not None
    assert first.memory_errors.uncorrected_total == 0
    assert [(link.peer, link.kind) for link in first.links] == [
        (f"ascend:{card}.0", LinkKind.HCCS) for card in range(1, 8)
    ]
    assert {len(device.links) for device in result.devices} == {7}


def test_two_300i_duo(box: Box, fake_dcmi: Path) -> None:
    """Power comes from the board's controller; two chips share one address."""
    for address in ("0000:01:00.0", "0000:81:00.0"):
        box.card(address, "0xd500", subsystem="0x0110")
    box.ready(4)
    board = (FIXTURES / "310p-common.txt").read_text()
    answers = {
        f"t_common_i_{card}": box.write(
            f"common{card}.txt", board.replace("NPU ID                         : 1", f"NPU ID : {card}")
        )
        for card in (0, 32768)
    }
    box.tool(prints(**answers))
    box.library(fake_dcmi, atlas_300i_duo_box())
    result = box.probe()
    assert codes(result) == []
    assert [(device.key, device.index, device.pci_address, device.power_watts) for device in result.devices] == [
        ("ascend:0.0", 0, "0000:01:00.0", 13.4),
        ("ascend:0.1", 1, "0000:01:00.0", None),
        ("ascend:32768.0", 2, "0000:81:00.0", 13.4),
        ("ascend:32768.1", 3, "0000:81:00.0", None),
    ]
    first = result.devices[0]
    assert (first.chip, first.memory_kind, first.memory_total_bytes, first.memory_free_bytes) == (
        "310P3",
        "ddr",
        44280 * MIB,
        42751 * MIB,
    )
    assert first.unsupported == ("memory_clock_mhz",)
    assert result.devices[1].unsupported == ("power_watts", "memory_clock_mhz", "links")
    assert result.layers[0].detail == "2 cards, 4 chips"


def test_a3_has_two_dies_a_card(box: Box, fake_dcmi: Path) -> None:
    for bus in A3_BUSES:
        box.card(f"0000:{bus}:00.0", "0xd803")
    box.ready(16)
    box.library(fake_dcmi, ascend_a3_box())
    result = box.probe()
    assert codes(result) == []
    assert {device.chip for device in result.devices} == {"910C"}
    assert [device.key for device in result.devices][:3] == ["ascend:0.0", "ascend:0.1", "ascend:1.0"]
    assert [device.power_watts for device in result.devices] == [162.8, None] * 8
    links = [(link.peer, link.kind) for link in result.devices[1].links]
    assert links[0] == ("ascend:0.0", LinkKind.SIO)
    assert {kind for _, kind in links[1:]} == {LinkKind.HCCS_SW}
    assert len(links) == 15


def test_310b_alarm_of_its_current_sensor_does_not_condemn_it(box: Box, fake_dcmi: Path) -> None:
    box.nodes(1, "upgrade")
    box.cann()
    box.library(fake_dcmi, ascend_310b_box())
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.severity) == ("device_unhealthy", Severity.WARNING)
    assert "may still work" in (finding.hint or "")
    device = result.devices[0]
    assert [fault.code for fault in device.faults] == ["80E3A203"]
    assert (device.health, device.power_watts, device.memory_kind) == (Health.ALARM, None, "ddr")
    assert states(result)["pci"] == "not_needed"
    assert device.layers.pci is LayerState.NOT_NEEDED


def test_310b_with_its_fault_and_good_health(box: Box, fake_dcmi: Path) -> None:
    box.nodes(1, "upgrade")
    box.cann()
    box.library(fake_dcmi, ascend_310b_box() | {"0.0.health": 0})
    finding = only(box.probe())
    assert (finding.code, finding.severity) == ("device_fault", Severity.WARNING)
    box.library(fake_dcmi, ascend_310b_box() | {"0.0.faults": "80E3A203 80E3A201"})
    assert (only(box.probe()).code, only(box.probe()).severity) == ("device_unhealthy", Severity.ERROR)


def test_container_with_two_of_eight_cards(box: Box, fake_dcmi: Path) -> None:
    box.a2(8)
    for number in range(2, 8):
        (box.root / f"dev/davinci{number}").unlink()
    box.write(".dockerenv")
    box.tool(f"touch '{box.root}/asked'; exit 9")
    box.library(fake_dcmi, ascend_910b3_box(2))
    result = box.probe()
    assert [(finding.code, finding.severity) for finding in result.findings] == [("card_not_passed", Severity.INFO)]
    assert len(result.devices) == 2
    assert set(states(result).values()) == {"ok"}
    assert not (box.root / "asked").exists()


def test_950_by_the_second_api(box: Box, fake_dcmi: Path) -> None:
    for bus in ("61", "62"):
        box.card(f"0000:{bus}:00.0", "0xd806")
    box.nodes(2, "asdrv_svm", "hisi_hdc")
    box.cann()
    box.library(fake_dcmi, ascend_950_box(2))
    result = box.probe()
    assert codes(result) == []
    assert [(device.key, device.index, device.chip, device.power_watts) for device in result.devices] == [
        ("ascend:0", 0, "950PR", 195.6),
        ("ascend:1", 1, "950PR", 195.6),
    ]
    assert result.devices[0].links[0].kind is LinkKind.UB


@pytest.mark.parametrize("kind", ["910B", "910A"])
def test_first_generation_is_told_by_the_bus(box: Box, fake_dcmi: Path, kind: str) -> None:
    """The driver called cards of the first generation 910B too."""
    box.card("0000:c1:00.0", "0xd801")
    box.ready(1)
    box.library(fake_dcmi, ascend_910b3_box(1) | {"0.0.name": kind, "0.0.npu": kind})
    assert [(device.chip, device.name) for device in box.probe().devices] == [("910A", "Ascend 910A")]


def test_number_six_is_no_link_of_a_910b(box: Box, fake_dcmi: Path) -> None:
    """In the header of the 910B it means unknown, in that of the A3 the bus between two dies."""
    box.a2(2)
    box.library(fake_dcmi, ascend_910b3_box(2) | {"topology": 6})
    assert [device.links for device in box.probe().devices] == [(), ()]


def test_lost_chip_is_a_device_that_does_not_answer(box: Box, fake_dcmi: Path) -> None:
    for address in ("0000:01:00.0", "0000:81:00.0"):
        box.card(address, "0xd500", subsystem="0x0110")
    box.ready(4)
    box.library(fake_dcmi, lost_chip(atlas_300i_duo_box(), "32768.1", -8012))
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.device) == ("card_not_answering", "ascend:32768.1")
    assert "-8012 not ready" in finding.message
    row = result.devices[-1]
    assert (row.key, row.layers.library, row.memory_total_bytes) == ("ascend:32768.1", LayerState.BROKEN, None)
    assert len(result.devices) == 4
    assert state(result, Layer.LIBRARY) is LayerState.OK


def test_card_whose_chips_cannot_be_counted(box: Box, fake_dcmi: Path) -> None:
    box.a2(2)
    box.library(fake_dcmi, ascend_910b3_box(2) | {"1.chips.code": -8007})
    result = box.probe()
    assert "-8007 no such device" in only(result).message
    assert [(device.name, device.pci_address) for device in result.devices] == [
        ("Ascend 910B3", "0000:c1:00.0"),
        ("Ascend 910B", "0000:c2:00.0"),
    ]


def test_card_that_the_driver_does_not_list(box: Box, fake_dcmi: Path) -> None:
    box.a2(3)
    box.library(fake_dcmi, ascend_910b3_box(2))
    result = box.probe()
    assert only(result).device == "ascend:0000:81:00.0"
    row = result.devices[-1]
    assert (row.name, row.layers.pci, row.layers.library) == ("Ascend 910B", LayerState.OK, LayerState.BROKEN)


def test_fault_codes_have_a_meaning_and_an_action(box: Box, fake_dcmi: Path) -> None:
    box.a2(1)
    scenario = ascend_910b3_box(1) | {
        "0.0.health": 3,
        "0.0.faults": "4E00 80E18402",
        "fault.00004E00": "something that only the driver explains",
    }
    box.library(fake_dcmi, scenario)
    result = box.probe()
    faults = result.devices[0].faults
    assert [(fault.code, fault.severity) for fault in faults] == [
        ("80E18402", Severity.ERROR),
        ("00004E00", Severity.WARNING),
    ]
    assert faults[0].action is not None
    assert "replaced" in faults[0].action
    assert faults[1].meaning == "something that only the driver explains"
    finding = only(result)
    assert (finding.code, finding.severity) == ("device_unhealthy", Severity.ERROR)
    assert "80E18402" in finding.message


def test_absent_chip_by_its_health(box: Box, fake_dcmi: Path) -> None:
    box.a2(2)
    box.library(fake_dcmi, ascend_910b3_box(2) | {"1.0.health": 0xFFFFFFFF})
    result = box.probe()
    assert only(result).message == (
        "Chip 0 of card 1 is on the PCI bus (0000:c2:00.0, 19e5:d802) and /dev/davinci1 exists, but gives no answer"
        " (-8008 device absent)."
    )
    assert [device.layers.library for device in result.devices] == [LayerState.OK, LayerState.BROKEN]
