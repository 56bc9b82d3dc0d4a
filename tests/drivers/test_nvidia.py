"""The NVIDIA probe: the unmodified nvidia-ml-py in its child process against a compiled fake of the library."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import minimal_environment
from drivers.nvidia import NvidiaProbe, interpret
from drivers.nvidia_ground import NvidiaGround
from drivers.nvidia_reading import child_argv, parse_reading
from drivers.types import (
    Device,
    DeviceLayers,
    DeviceLink,
    Finding,
    Health,
    LayerState,
    LinkKind,
    ProbeResult,
    Severity,
    Vendor,
)
from tests.drivers.conftest import HANG_LIMITS_S, HOST_MEMORY
from tests.fakes.nvml.build import LIBRARY_NAME
from tests.fakes.nvml.scenarios import box

Add = Callable[..., Path]
Probe = Callable[..., ProbeResult]
GIB = 1 << 30

L20: dict[str, object] = {
    "name": "NVIDIA L20",
    "uuid": "GPU-1b2c3d4e-0000-1111-2222-333344445555",
    "bus": "00000000:01:00.0",
    "pci": "26ba",
    "total": 48 * GIB,
    "reserved": GIB // 2,
    "used": 7 * GIB // 2,
    "free": 44 * GIB,
    "capability": "8.9",
    "temperature": 41,
    "power": 72500,
    "utilization": 12,
}


def codes(result: ProbeResult) -> list[str]:
    return [finding.code for finding in result.findings]


def only(result: ProbeResult) -> Finding:
    assert len(result.findings) == 1, result.findings
    assert result.findings[0].hint
    return result.findings[0]


def test_struct_sizes_of_both_sides_are_equal(fake_nvml: Path) -> None:
    library = ctypes.CDLL(str(fake_nvml / LIBRARY_NAME))
    sizes = {
        "nvmlPciInfo_t": pynvml.nvmlPciInfo_t,
        "nvmlMemory_t": pynvml.c_nvmlMemory_t,
        "nvmlMemory_v2_t": pynvml.c_nvmlMemory_v2_t,
        "nvmlUtilization_t": pynvml.c_nvmlUtilization_t,
        "nvmlProcessInfo_v2_t": pynvml.c_nvmlProcessInfo_v3_t,
        "nvmlValue_t": pynvml.c_nvmlValue_t,
        "nvmlFieldValue_t": pynvml.c_nvmlFieldValue_t,
        "nvmlDeviceAttributes_t": pynvml.c_nvmlDeviceAttributes,
    }
    for name, structure in sizes.items():
        assert library.fake_nvml_sizeof(name.encode()) == ctypes.sizeof(structure), name
    assert library.fake_nvml_memory_v2_version() == pynvml.nvmlMemory_v2


def test_two_cards(probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia", numa_node=0)
    add_pci("0000:c1:00.0", "0x10de", "0x2684", "0x030000", driver="nvidia", numa_node=1)
    card = L20 | {"name": "NVIDIA GeForce RTX 4090", "bus": "00000000:C1:00.0", "pci": "2684", "uuid": "GPU-2"}
    result = probe_nvidia(box(L20, card))
    assert result.findings == ()
    assert result.devices[0] == Device(
        vendor=Vendor.NVIDIA,
        index=0,
        name="NVIDIA L20",
        chip="L20",
        uuid="GPU-1b2c3d4e-0000-1111-2222-333344445555",
        pci_address="0000:01:00.0",
        numa_node=0,
        memory_total_bytes=48 * GIB,
        memory_free_bytes=44 * GIB,
        memory_reserved_bytes=GIB // 2,
        compute_capability="8.9",
        health=Health.OK,
        utilization_percent=12,
        temperature_celsius=41,
        power_watts=72.5,
        driver_version="550.54.15",
        layers=DeviceLayers(LayerState.OK, LayerState.UNKNOWN, LayerState.OK),
        links=(DeviceLink("nvidia:1", LinkKind.SYS),),
        unsupported=(
            "firmware_version",
            "power_limit_watts",
            "clock_mhz",
            "memory_clock_mhz",
            "throttle_reasons",
            "recovery_action",
            "memory_errors",
        ),
    )
    second = result.devices[1]
    assert (second.key, second.chip, second.pci_address, second.numa_node) == (
        "nvidia:1",
        "GeForce RTX 4090",
        "0000:c1:00.0",
        1,
    )


def test_driver_without_the_second_memory_call(probe_nvidia: Probe, old_fake_nvml: Path) -> None:
    result = probe_nvidia(box(L20), library=old_fake_nvml)
    assert result.findings == ()
    assert result.devices[0].memory_free_bytes == 44 * GIB


@pytest.mark.parametrize("memory", [{"memory": 3}, {"total": 0, "free": 0}, {"total": 5, "free": 5}])
def test_gb10_has_the_hosts_memory(probe_nvidia: Probe, memory: dict[str, object]) -> None:
    card = L20 | {"name": "NVIDIA GB10", "bus": "0000000F:01:00.0", "pci": "2e12", "capability": "12.1"} | memory
    result = probe_nvidia(box(card))
    assert result.findings == ()
    device = result.devices[0]
    assert device.unified_memory
    assert (device.memory_total_bytes, device.memory_free_bytes) == (
        HOST_MEMORY.total_bytes,
        HOST_MEMORY.available_bytes,
    )
    assert (device.pci_address, device.chip, device.compute_capability) == ("000f:01:00.0", "GB10", "12.1")


def test_jetson_is_known_by_its_name(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box({"name": "Orin (nvgpu)", "memory": 3}))
    assert result.devices[0].unified_memory
    assert result.devices[0].chip == "Orin"
    assert result.devices[0].memory_total_bytes == HOST_MEMORY.total_bytes


def test_no_memory_on_another_card_stays_unknown(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box(L20 | {"memory": 3}))
    assert only(result).code == "memory_unknown"
    assert only(result).device == "nvidia:0"
    device = result.devices[0]
    assert (device.memory_total_bytes, device.memory_free_bytes, device.unified_memory) == (None, None, False)


def test_calls_the_card_does_not_have_are_no_finding(probe_nvidia: Probe) -> None:
    codes_of_calls = {
        f"{name}.code": 3 for name in ("temperature", "power", "utilization", "capability", "uuid", "pci")
    }
    result = probe_nvidia(box(L20 | codes_of_calls))
    assert result.findings == ()
    device = result.devices[0]
    assert device.temperature_celsius is device.power_watts is device.utilization_percent is None
    assert device.compute_capability is device.uuid is device.pci_address is None
    assert device.memory_total_bytes == 48 * GIB


def test_failing_calls_are_named(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box(L20 | {"temperature.code": 999, "power.code": 14}))
    assert only(result).code == "query_failed"
    assert "power: 14 (corrupted infoROM), temperature: 999 (unknown error)" in only(result).message


def test_lost_card_beside_a_good_one(probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    add_pci("0000:02:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    result = probe_nvidia(box({"handle": 15}, L20 | {"bus": "00000000:02:00.0"}))
    finding = only(result)
    assert (finding.code, finding.severity, finding.device) == ("device_lost", Severity.ERROR, "nvidia:0")
    lost, good = result.devices
    assert (lost.health, lost.pci_address, lost.name) == (Health.CRITICAL, "0000:01:00.0", "NVIDIA L20")
    assert lost.memory_total_bytes is None
    assert (good.health, good.index) == (Health.OK, 1)


def test_card_lost_while_it_is_asked(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box(L20 | {"memory": 15, "power.code": 15}))
    assert codes(result) == ["device_lost"]
    assert result.devices[0].health is Health.CRITICAL


@pytest.mark.parametrize(
    ("code", "finding"), [(16, "reset_required"), (4, "no_permission"), (999, "device_failed"), (77, "device_failed")]
)
def test_card_without_a_handle(probe_nvidia: Probe, code: int, finding: str) -> None:
    result = probe_nvidia(box({"handle": code}, L20))
    assert codes(result) == [finding]
    assert [device.index for device in result.devices] == [0, 1]


INIT = {
    9: "driver_not_loaded",
    18: "driver_version_mismatch",
    4: "no_permission",
    11: "interrupt_problem",
    15: "device_lost",
    16: "reset_required",
    17: "blocked_by_system",
    999: "driver_unknown_error",
    3: "library_init_failed",
}


@pytest.mark.parametrize(("code", "finding"), sorted(INIT.items()))
def test_init_failures(probe_nvidia: Probe, add_pci: Add, code: int, finding: str) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200")
    result = probe_nvidia({"init": code})
    assert only(result).code == finding
    assert only(result).severity is Severity.ERROR
    (device,) = result.devices
    assert (device.key, device.name, device.index) == ("nvidia:0000:01:00.0", "NVIDIA L20", None)
    assert (device.layers.pci, device.layers.library) == (LayerState.OK, LayerState.BROKEN)
    assert device.memory_total_bytes is None


def test_library_without_a_card_only_informs(probe_nvidia: Probe, empty_pci: Path) -> None:
    assert only(probe_nvidia({"init": 9})).severity is Severity.INFO


@pytest.mark.parametrize(
    ("driver", "code", "word", "severity"),
    [
        ("nouveau", "nouveau_bound", "blocks nouveau", Severity.ERROR),
        ("vfio-pci", "card_passed_through", "virtual machine", Severity.WARNING),
        (None, "driver_not_loaded", "dkms", Severity.ERROR),
    ],
)
def test_not_loaded_names_what_holds_the_card(
    probe_nvidia: Probe, add_pci: Add, driver: str | None, code: str, word: str, severity: Severity
) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver=driver)
    result = probe_nvidia({"init": 9})
    finding = only(result)
    assert (finding.code, finding.severity) == (code, severity)
    assert "NVIDIA L20 at 0000:01:00.0" in finding.message
    assert word in (finding.hint or "")
    # A card that belongs to a virtual machine is none of this system's.
    assert len(result.devices) == (driver != "vfio-pci")


def probe_without_library(root: Path, timeout_s: float = 20.0) -> ProbeResult:
    """An empty file in the way: the loader refuses it and looks no further, even on a machine with a driver."""
    folder = root / "no-library"
    folder.mkdir()
    (folder / LIBRARY_NAME).write_bytes(b"")
    environment = minimal_environment(LD_LIBRARY_PATH=str(folder))
    return NvidiaProbe(root, timeout_s=timeout_s, environment=environment, host_memory=lambda: HOST_MEMORY).probe()


def test_no_library_and_no_card_is_silent(tmp_path: Path, empty_pci: Path) -> None:
    assert probe_without_library(tmp_path) == ProbeResult("nvidia")


def test_no_library_and_no_bus_is_silent(tmp_path: Path) -> None:
    assert probe_without_library(tmp_path) == ProbeResult("nvidia")


@pytest.mark.parametrize(
    ("driver", "code", "word"),
    [
        ("nvidia", "driver_missing", "libnvidia-ml.so.1"),
        ("nouveau", "nouveau_bound", "nouveau"),
        ("vfio-pci", "card_passed_through", "bind it to nvidia"),
        (None, "driver_missing", "Install NVIDIA's driver"),
    ],
)
def test_no_library_with_a_card(tmp_path: Path, add_pci: Add, driver: str | None, code: str, word: str) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver=driver)
    finding = only(probe_without_library(tmp_path))
    assert finding.code == code
    assert word in (finding.hint or "")


@pytest.mark.parametrize(
    ("driver", "code"),
    [("vfio-pci", "card_passed_through"), ("nouveau", "nouveau_bound"), (None, "card_not_answering")],
)
def test_card_that_the_library_does_not_list(probe_nvidia: Probe, add_pci: Add, driver: str | None, code: str) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    add_pci("0000:02:00.0", "0x10de", "0x26ba", "0x030200", driver=driver)
    result = probe_nvidia(box(L20))
    assert codes(result) == [code]
    assert "0000:02:00.0" in only(result).message
    rows = [(device.name, device.layers.pci, device.layers.library) for device in result.devices[1:]]
    expected = ("NVIDIA L20", LayerState.OK, LayerState.BROKEN)
    assert rows == ([] if driver == "vfio-pci" else [expected])


def test_hanging_card_loses_only_itself(probe_nvidia: Probe) -> None:
    for limit_s in HANG_LIMITS_S:
        result = probe_nvidia(box(L20, L20, hang="nvmlDeviceGetName:1"), timeout_s=limit_s)
        if result.devices:
            break
    assert only(result).code == "probe_timed_out"
    assert "at card 1 of 2" in only(result).message
    assert [device.index for device in result.devices] == [0]


def test_hanging_start(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box(L20, hang="nvmlInitWithFlags"), timeout_s=0.5)
    assert codes(result) == ["probe_timed_out"]
    assert result.devices == ()


def test_crash_loses_only_the_child(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box(L20, L20, crash="nvmlDeviceGetMemoryInfo_v2:1"))
    assert only(result).code == "probe_crashed"
    assert "SIGSEGV" in only(result).message
    assert [device.index for device in result.devices] == [0]


def test_what_the_library_prints_does_not_disturb(probe_nvidia: Probe) -> None:
    result = probe_nvidia(box(L20, chatter=1))
    assert result.findings == ()
    assert len(result.devices) == 1


def test_child_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    result = NvidiaProbe(tmp_path, environment={}).probe()
    assert codes(result) == ["probe_failed"]
    assert "/nonexistent/python was not found" in only(result).message


def test_child_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe_nvidia: Probe
) -> None:
    (tmp_path / "pynvml.py").write_text("raise SystemExit('taken from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    assert child_argv()[1] == "-I"
    assert probe_nvidia(box(L20)).findings == ()


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from(['{"kind":"start","count":2}', '{"kind":"end"}', "{}", "x"])).map("\n".join)
    )
)
def test_any_output_of_the_child_is_read_without_an_exception(text: str) -> None:
    result = interpret(parse_reading(text), NvidiaGround(), host_memory=lambda: HOST_MEMORY)
    assert result.devices == ()
