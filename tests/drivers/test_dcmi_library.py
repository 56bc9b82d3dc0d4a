"""The DCMI child and the library itself: where it is, what it lacks, and how it hangs or crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.command import FailureKind
from drivers.dcmi_reading import DcmiReading, DcmiStart, child_argv
from tests.drivers.conftest import HANG_LIMITS_S
from tests.fakes.dcmi.build import LIBRARY_NAME, build_fake_dcmi, build_needed
from tests.fakes.dcmi.child import keys, read_child
from tests.fakes.dcmi.scenarios import (
    ascend_910b3_box,
    ascend_950_box,
    atlas_300i_duo_box,
    crashing,
    failing_init,
    hanging,
)

NEEDED = "libfake_needed.so"


@pytest.fixture(scope="module")
def fake_dcmi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake library with both sets of functions."""
    return build_fake_dcmi(tmp_path_factory.mktemp("dcmi"))


def good(reading: DcmiReading) -> DcmiStart:
    assert reading.complete
    assert reading.start is not None
    assert (reading.start.missing, reading.start.error) == (None, None)
    return reading.start


def missing(reading: DcmiReading) -> str:
    assert reading.complete
    assert reading.start is not None
    assert reading.start.missing is not None
    assert (reading.start.library, reading.start.api, reading.chips) == (None, None, ())
    return reading.start.missing


def test_a_library_with_the_first_api_only(tmp_path: Path) -> None:
    library = build_fake_dcmi(tmp_path, ["V1_ONLY"])
    assert good(read_child(tmp_path, ascend_910b3_box(1), library)[0]).api == 1
    start = read_child(tmp_path, ascend_950_box(), library)[0].start
    assert start is not None
    assert start.error == -8255


def test_a_library_with_the_second_api_only(tmp_path: Path) -> None:
    library = build_fake_dcmi(tmp_path, ["V2_ONLY"])
    assert good(read_child(tmp_path, ascend_950_box(), library)[0]).api == 2
    for scenario, code in ((ascend_910b3_box(1), -8255), (failing_init(-8005), -8005)):
        start = read_child(tmp_path, scenario, library)[0].start
        assert start is not None
        assert start.error == code


def test_a_library_with_neither_api(tmp_path: Path) -> None:
    library = build_needed(tmp_path, LIBRARY_NAME)
    start = read_child(tmp_path, {}, library)[0].start
    assert start == DcmiStart(error=-99998, library=str(library))


def test_an_old_library_without_the_second_chip_info(tmp_path: Path) -> None:
    library = build_fake_dcmi(tmp_path, ["NO_CHIP_INFO_V2"])
    reading, _ = read_child(tmp_path, atlas_300i_duo_box([7]), library)
    chip = reading.chips[1]
    assert (chip.chip_type, chip.chip_name, chip.npu_name) == ("Ascend", "310P3", None)
    assert "chip" not in chip.errors


FUNCTIONS = {
    "dcmi_get_device_logic_id": "logic_id",
    "dcmi_get_device_health": "health",
    "dcmi_get_device_pcie_info_v2": "pci",
    "dcmi_get_device_errorcode_v2": "error_codes",
    "dcmi_get_device_temperature": "temperature",
    "dcmi_get_device_power_info": "power",
    "dcmi_get_device_utilization_rate": "aicore",
    "dcmi_get_device_frequency": "aicore_mhz",
    "dcmi_get_device_hbm_info": "hbm",
    "dcmi_get_device_memory_info_v3": "ddr",
    "dcmi_get_device_ecc_info": "ecc_hbm",
    "dcmi_get_device_component_static_version": "firmware",
    "dcmi_get_affinity_cpu_info_by_device_id": "cpu_affinity",
    "dcmi_get_device_resource_info": "processes",
    "dcmi_get_device_type": "type",
    "dcmi_get_device_chip_info_v2": "chip",
    "dcmi_get_topo_info_by_device_id": "topology",
}


def test_functions_that_the_library_does_not_export(tmp_path: Path) -> None:
    hidden = [*FUNCTIONS, "dcmi_get_device_chip_info", "dcmi_get_driver_version", "dcmi_get_dcmi_version"]
    library = build_fake_dcmi(tmp_path, without=hidden)
    reading, failure = read_child(tmp_path, ascend_910b3_box(2), library)
    assert failure is None
    assert good(reading).driver_version is None
    assert keys(reading.chips) == ["0.0", "1.0"]
    assert reading.chips[1].error is None
    assert reading.chips[1].errors == dict.fromkeys((*FUNCTIONS.values(), "npu", "ecc_ddr"), -99998)


def test_a_library_without_its_list(tmp_path: Path) -> None:
    library = build_fake_dcmi(tmp_path, without=["dcmi_get_card_list"])
    start = read_child(tmp_path, ascend_910b3_box(2), library)[0].start
    assert start is not None
    assert start.error == -99998


def test_paths_are_tried_in_order(tmp_path: Path, fake_dcmi: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"")
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), tmp_path / "none.so", broken, fake_dcmi)
    assert good(reading).library == str(fake_dcmi)


def test_the_bare_name_is_found_by_the_loader(tmp_path: Path, fake_dcmi: Path) -> None:
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), tmp_path / "none.so", library_path=fake_dcmi.parent)
    assert good(reading).library == LIBRARY_NAME


def test_no_library(tmp_path: Path) -> None:
    """An empty file in the way: the loader looks no further, even on a machine with a driver."""
    (tmp_path / LIBRARY_NAME).write_bytes(b"")
    reading, failure = read_child(tmp_path, {}, tmp_path / "none.so", library_path=tmp_path)
    assert failure is None
    assert missing(reading) == f"{tmp_path / LIBRARY_NAME}: file too short"


def test_a_library_that_it_needs_is_not_there(tmp_path: Path) -> None:
    needed = build_needed(tmp_path, NEEDED)
    library = build_fake_dcmi(tmp_path, needs=needed)
    needed.unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / LIBRARY_NAME).write_bytes(b"")
    reading, _ = read_child(tmp_path, {}, tmp_path / "none.so", library, library_path=empty)
    words = f"{NEEDED}: cannot open shared object file: No such file or directory"
    assert missing(reading) == words
    reading, _ = read_child(tmp_path, {}, library, preload=[needed], library_path=empty)
    assert missing(reading) == words  # what cannot be loaded before it is no error of its own


def test_a_library_that_it_needs_is_loaded_before_it(tmp_path: Path) -> None:
    common = tmp_path / "common"
    common.mkdir()
    needed = build_needed(common, NEEDED)
    library = build_fake_dcmi(tmp_path, needs=needed)
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), library, library_path=tmp_path)
    assert NEEDED in missing(reading)
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), library, preload=[needed])
    assert good(reading).library == str(library)
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), library, library_path=common)
    assert good(reading).library == str(library)


def test_what_is_loaded_before_it_is_visible_to_it(tmp_path: Path) -> None:
    """A library that was not linked against what it uses."""
    library = build_fake_dcmi(tmp_path, ["USES_NEEDED"])
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), library, library_path=tmp_path)
    assert "undefined symbol: fake_needed" in missing(reading)
    needed = build_needed(tmp_path, NEEDED)
    reading, _ = read_child(tmp_path, ascend_910b3_box(1), library, preload=[needed])
    assert good(reading).library == str(library)


def test_a_hanging_init(tmp_path: Path, fake_dcmi: Path) -> None:
    scenario = hanging(ascend_910b3_box(2), "dcmi_init")
    reading, failure = read_child(tmp_path, scenario, fake_dcmi, timeout_s=0.5)
    assert failure is not None
    assert failure.kind is FailureKind.TIMED_OUT
    assert reading == DcmiReading()


@pytest.mark.parametrize("function", ["dcmi_get_device_type", "dcmi_get_device_health", "dcmi_get_device_hbm_info"])
def test_chips_before_a_hanging_one_are_kept(tmp_path: Path, fake_dcmi: Path, function: str) -> None:
    scenario = hanging(ascend_910b3_box(4), function, "2.0")
    for limit_s in HANG_LIMITS_S:
        reading, failure = read_child(tmp_path, scenario, fake_dcmi, timeout_s=limit_s)
        if len(reading.chips) == 2:
            break
    assert failure is not None
    assert failure.kind is FailureKind.TIMED_OUT
    assert not reading.complete
    assert reading.start is not None
    assert keys(reading.chips) == ["0.0", "1.0"]
    assert reading.start.listed[len(reading.chips)] == "2.0"


def test_a_hanging_950(tmp_path: Path, fake_dcmi: Path) -> None:
    scenario = hanging(ascend_950_box(2), "dcmiv2_get_device_temperature", "1")
    for limit_s in HANG_LIMITS_S:
        reading, failure = read_child(tmp_path, scenario, fake_dcmi, timeout_s=limit_s)
        if reading.chips:
            break
    assert failure is not None
    assert keys(reading.chips) == ["0"]


def test_a_crash_loses_only_the_child(tmp_path: Path, fake_dcmi: Path) -> None:
    scenario = crashing(ascend_910b3_box(4), "dcmi_get_device_power_info", "1.0")
    reading, failure = read_child(tmp_path, scenario, fake_dcmi)
    assert failure is not None
    assert failure.kind is FailureKind.SIGNALLED
    assert "SIGSEGV" in failure.message
    assert keys(reading.chips) == ["0.0"]
    assert not reading.complete


def test_a_crash_at_the_start(tmp_path: Path, fake_dcmi: Path) -> None:
    reading, failure = read_child(tmp_path, crashing(ascend_910b3_box(1), "dcmi_init"), fake_dcmi)
    assert failure is not None
    assert reading == DcmiReading()


def test_nothing_is_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_dcmi: Path
) -> None:
    (tmp_path / "drivers").mkdir()
    for name in ("drivers/__init__.py", "drivers/dcmi.py", "ctypes.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    reading, failure = read_child(tmp_path, ascend_910b3_box(1), fake_dcmi)
    assert failure is None
    assert len(reading.chips) == 1


def test_the_command_line() -> None:
    argv = child_argv(True, libraries=["/a/libdcmi.so", "/b/libdcmi.so"], preload=["/c/libc_sec.so"])
    assert argv[1:] == [
        *("-I", "-m", "drivers.dcmi"),
        *("--library", "/a/libdcmi.so", "--library", "/b/libdcmi.so"),
        *("--preload", "/c/libc_sec.so", "--watch"),
    ]
    assert child_argv()[1:] == ["-I", "-m", "drivers.dcmi"]
