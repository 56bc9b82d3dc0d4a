"""The Ascend probe end to end where the library fails: the real DCMI child with the compiled fake library."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.types import Layer, LayerState, ProbeResult, Severity
from tests.drivers.ascend_box import FIXTURES, Box, codes, only, prints, state
from tests.drivers.conftest import HANG_LIMITS_S
from tests.fakes.dcmi.build import build_fake_dcmi, build_needed
from tests.fakes.dcmi.scenarios import (
    ascend_910b3_box,
    crashing,
    failing_init,
    hanging,
    lost_chip,
)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_cards_of_somebody_else(box: Box, fake_dcmi: Path) -> None:
    box.a2(2)
    box.library(fake_dcmi, ascend_910b3_box(2))
    result = box.probe(access=lambda path: path.name != "davinci1")
    assert (only(result).code, only(result).severity) == ("no_permission", Severity.WARNING)
    assert state(result, Layer.ACCESS) is LayerState.OK
    assert [device.layers.node for device in result.devices] == [LayerState.OK, LayerState.BROKEN]


def test_chip_that_hangs_is_named_and_the_tool_tells_the_rest(box: Box, fake_dcmi: Path) -> None:
    box.a2(2)
    box.tool(prints(info=FIXTURES / "910b2c-23.0.2.1-info.txt"))
    box.library(fake_dcmi, hanging(ascend_910b3_box(3), "dcmi_get_device_temperature", "2.0"))
    for limit_s in HANG_LIMITS_S:
        result = box.probe(timeout_s=limit_s * 2)
        if len(result.devices) == 3:
            break
    assert "probe_timed_out" in codes(result)
    silent = [finding for finding in result.findings if finding.code == "card_not_answering"]
    assert [finding.device for finding in silent] == ["ascend:2.0"]
    assert "timed out" in silent[0].message
    assert [device.layers.library for device in result.devices] == [LayerState.OK, LayerState.OK, LayerState.BROKEN]


def test_crashing_library_leaves_npu_smi(box: Box, fake_dcmi: Path) -> None:
    box.card("0000:5a:00.0")
    box.card("0000:19:00.0")
    box.ready(2)
    box.tool(prints(info=FIXTURES / "910b2c-23.0.2.1-info.txt", m=FIXTURES / "910b3-25.5.1-map.txt"))
    box.library(fake_dcmi, crashing(ascend_910b3_box(2), "dcmi_init"))
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.severity) == ("probe_crashed", Severity.WARNING)
    assert [device.index for device in result.devices] == [0, 1]


@pytest.mark.parametrize(
    ("code", "word"), [(-8005, "driver_not_ready"), (-8020, "device_in_use"), (-8012, "driver_not_ready")]
)
def test_init_that_fails_although_everything_stands(box: Box, fake_dcmi: Path, code: int, word: str) -> None:
    box.a2(1)
    box.library(fake_dcmi, failing_init(code))
    result = box.probe()
    finding = only(result)
    assert finding.code == word
    assert str(code) in finding.message
    assert (state(result, Layer.ACCESS), state(result, Layer.LIBRARY)) == (LayerState.OK, LayerState.BROKEN)
    assert [device.key for device in result.devices] == ["ascend:0000:c1:00.0"]


def test_init_that_fails_for_a_missing_permission(box: Box, fake_dcmi: Path) -> None:
    box.a2(1)
    box.library(fake_dcmi, failing_init())
    result = box.probe(access=lambda path: False)
    finding = only(result)
    assert finding.code == "no_permission"
    assert "DCMI -8005" in finding.message
    assert "and 3 more" in finding.message
    assert state(result, Layer.LIBRARY) is LayerState.NOT_REACHED


def test_library_that_another_one_is_missing_for(box: Box, tmp_path: Path) -> None:
    box.a2(1)
    folder = tmp_path / "built"
    folder.mkdir()
    library = build_fake_dcmi(folder, needs=build_needed(folder))
    box.library(library, ascend_910b3_box(1))
    (folder / "libc_sec.so").unlink()
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.severity) == ("library_not_loadable", Severity.ERROR)
    assert "libc_sec.so" in finding.message
    assert "driver/lib64/common" in (finding.hint or "")


def test_library_gets_what_it_needs_from_the_drivers_folder(box: Box, tmp_path: Path) -> None:
    box.a2(1)
    folder = box.root / "usr/local/Ascend/driver/lib64/common"
    folder.mkdir(parents=True)
    built = tmp_path / "built"
    built.mkdir()
    library = build_fake_dcmi(built, needs=build_needed(folder))
    box.library(library, ascend_910b3_box(1))
    assert codes(box.probe()) == []


def test_counts_that_contradict(box: Box, fake_dcmi: Path) -> None:
    """npu-smi is asked because a card on the bus has no device; the two disagree."""
    for address in ("0000:c1:00.0", "0000:5a:00.0", "0000:19:00.0"):
        box.card(address)
    box.ready(3)
    box.tool(prints(info=FIXTURES / "910b2c-23.0.2.1-info.txt", m=FIXTURES / "910b3-25.5.1-map.txt"))
    box.library(fake_dcmi, ascend_910b3_box(1))
    result = box.probe()
    differing = [finding for finding in result.findings if finding.code == "sources_disagree"]
    assert len(differing) == 1
    assert "only npu-smi lists ascend:1.0" in differing[0].message


def test_figures_that_fail_are_told_and_unsupported_ones_are_not(box: Box, fake_dcmi: Path) -> None:
    box.a2(1)
    scenario = ascend_910b3_box(1) | {"0.0.power.code": -8009, "0.0.ecc_hbm.code": -8255, "0.0.ecc_ddr.code": -8255}
    box.library(fake_dcmi, scenario)
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.device) == ("query_failed", "ascend:0.0")
    assert "power: -8009" in finding.message
    assert "ecc" not in finding.message
    assert result.devices[0].unsupported == ("memory_errors",)


def test_everything_lost(box: Box, fake_dcmi: Path) -> None:
    box.a2(1)
    box.library(fake_dcmi, lost_chip(ascend_910b3_box(1), "0.0"))
    result = box.probe()
    assert only(result).device == "ascend:0.0"
    assert result.devices[0].pci_address == "0000:c1:00.0"
    library = next(report for report in result.layers if report.layer is Layer.LIBRARY)
    assert (library.state, library.findings) == (LayerState.BROKEN, ("card_not_answering",))


def test_moved_installation(box: Box, fake_dcmi: Path) -> None:
    box.card("0000:c1:00.0")
    box.nodes(1)
    box.write("etc/ascend_install.info", "Driver_Install_Path_Param=/opt/Ascend\nDriver_Install_Status=complete\n")
    box.write("opt/Ascend/driver/version.info", "Version=24.1.0\n")
    box.library(fake_dcmi, ascend_910b3_box(1))
    target = box.root / "opt/Ascend/driver/lib64/driver"
    target.mkdir(parents=True)
    (box.root / "usr/local/dcmi").rename(box.root / "moved")
    for path in (box.root / "moved").iterdir():
        path.rename(target / path.name)
    result = box.probe()
    assert codes(result) == ["cann_missing"]
    assert [(part.name, part.version, part.path) for part in result.software] == [
        ("ascend-firmware", "7.8.0.6.201", None),
        ("ascend-driver", "24.1.0", "/opt/Ascend/driver/version.info"),
    ]


def test_a_library_without_cards_is_a_sign_of_ascend(box: Box, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, failing_init())
    result: ProbeResult = box.probe()
    assert codes(result) == ["no_card"]
