"""The way from the slot to the program on machines with NVIDIA cards: each missing link is told apart, with a fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.command import minimal_environment
from drivers.nodes import DeviceNode, DeviceNodes
from drivers.nvidia import NvidiaProbe, interpret
from drivers.nvidia_ground import NvidiaGround, read_ground, read_jetson
from drivers.nvidia_reading import NvmlEnd, NvmlReading, NvmlStart, parse_reading
from drivers.pci import PciFunction
from drivers.types import Health, Layer, LayerState, ProbeResult, Severity, Software
from tests.drivers.conftest import HOST_MEMORY
from tests.drivers.nvidia_box import (
    codes,
    details,
    finding,
    load_module,
    make_jetson,
    make_nodes,
    number_cards,
    reasons,
    states,
    write,
)
from tests.fakes.nvml import scenarios
from tests.fakes.nvml.build import LIBRARY_NAME, build_fake_nvml

Add = Callable[..., Path]
Probe = Callable[..., ProbeResult]
L20 = ("0000:01:00.0", "0x10de", "0x26ba", "0x030200")
OK, BROKEN, NOT_REACHED, UNKNOWN = LayerState.OK, LayerState.BROKEN, LayerState.NOT_REACHED, LayerState.UNKNOWN


def without_library(root: Path) -> ProbeResult:
    """An empty file in the way: the loader refuses it and looks no further, even on a machine with a driver."""
    write(root, f"no-library/{LIBRARY_NAME}")
    environment = minimal_environment(LD_LIBRARY_PATH=str(root / "no-library"))
    return NvidiaProbe(root, timeout_s=20.0, environment=environment, host_memory=lambda: HOST_MEMORY).probe()


def chain(result: ProbeResult) -> list[LayerState]:
    """States from PCI to RUNTIME."""
    return list(states(result).values())


def test_a_machine_without_any_sign_has_no_layers(tmp_path: Path, probe_nvidia: Probe, empty_pci: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "sys/module").mkdir(parents=True)
    assert without_library(tmp_path) == ProbeResult("nvidia")
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert (result.layers, result.software, result.devices) == ((), (), ())
    assert [one.severity for one in result.findings] == [Severity.INFO]


def test_library_without_the_module(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20)
    (tmp_path / "sys/module").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert codes(result) == ["driver_not_loaded"]
    assert chain(result) == [OK, BROKEN, NOT_REACHED, NOT_REACHED, NOT_REACHED, NOT_REACHED]
    assert reasons(result, Layer.MODULE) == ("driver_not_loaded",)
    assert details(result)[Layer.MODULE] == "not loaded"


def test_nothing_installed(tmp_path: Path, add_pci: Add) -> None:
    add_pci(*L20)
    result = without_library(tmp_path)
    assert chain(result) == [OK, BROKEN, UNKNOWN, NOT_REACHED, BROKEN, NOT_REACHED]
    assert reasons(result, Layer.MODULE) == ("driver_missing",)
    assert result.software == ()
    assert [device.key for device in result.devices] == ["nvidia:0000:01:00.0"]


def test_module_without_its_library(tmp_path: Path, add_pci: Add) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    make_nodes(tmp_path, 1)
    result = without_library(tmp_path)
    assert chain(result) == [OK, OK, OK, OK, BROKEN, NOT_REACHED]
    assert reasons(result, Layer.LIBRARY) == ("driver_missing",)
    assert result.software == (Software("nvidia-driver", "550.54.15", "/proc/driver/nvidia/version"),)


def test_nouveau_and_a_virtual_machines_card(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20, driver="nouveau")
    add_pci("0000:02:00.0", *L20[1:], driver="vfio-pci")
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert codes(result) == ["nouveau_bound"]
    assert details(result)[Layer.MODULE] == "nouveau"
    assert reasons(result, Layer.MODULE) == ("nouveau_bound",)
    assert [device.pci_address for device in result.devices] == ["0000:01:00.0"]


def test_all_cards_belong_to_virtual_machines(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    for address in ("0000:01:00.0", "0000:02:00.0"):
        folder = add_pci(address, *L20[1:], driver="vfio-pci")
        # Powered down: lspci shows (rev ff), which here is no loss.
        (folder / "config").write_bytes(b"\xff" * 64)
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert codes(result) == ["card_passed_through"] * 2
    assert {one.severity for one in result.findings} == {Severity.WARNING}
    assert chain(result)[0] is BROKEN
    assert reasons(result, Layer.PCI) == ("card_passed_through",)
    assert result.devices == ()


def test_versions_of_library_and_module_are_both_said(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    make_nodes(tmp_path, 1)
    result = probe_nvidia(scenarios.version_mismatch())
    found = finding(result, "driver_version_mismatch")
    assert found.message == (
        "NVIDIA's library is version 550.120, the loaded kernel module 550.54.15: they must be the same."
    )
    assert "unattended-upgrades" in (found.hint or "")
    assert chain(result) == [OK, OK, OK, OK, BROKEN, NOT_REACHED]
    assert reasons(result, Layer.LIBRARY) == ("driver_version_mismatch",)


@pytest.mark.parametrize(
    ("path", "version", "expected"),
    [
        ("/usr/lib/libnvidia-ml.so.550.120", "12.550.120", "550.120"),
        ("/usr/lib/libnvidia-ml.so.1", "12.535.161", "535.161"),
        (None, "12.535", "12.535"),
        (None, None, None),
    ],
)
def test_the_librarys_version_is_in_its_files_name(path: str | None, version: str | None, expected: str | None) -> None:
    reading = NvmlReading(NvmlStart(error=18, library_version=version, library_path=path), complete=True)
    result = interpret(reading, NvidiaGround(module_version="1.2"), host_memory=lambda: HOST_MEMORY)
    said = f"version {expected}," if expected else "different versions"
    assert said in finding(result, "driver_version_mismatch").message


def test_a_container_without_the_nodes(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    (tmp_path / "dev").mkdir()
    write(tmp_path, "run/.containerenv")
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert codes(result) == ["node_missing"]
    assert "--gpus all" in (result.findings[0].hint or "")
    assert chain(result) == [OK, OK, BROKEN, NOT_REACHED, NOT_REACHED, NOT_REACHED]
    assert reasons(result, Layer.NODES) == ("node_missing",)


def test_nodes_may_come_late_after_a_start(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    (tmp_path / "dev").mkdir()
    write(tmp_path, "proc/uptime", "20.00 10.00\n")
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert states(result)[Layer.NODES] is LayerState.WAITING


def test_nodes_there_but_the_library_does_not_reach_the_module(
    tmp_path: Path, probe_nvidia: Probe, add_pci: Add
) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    make_nodes(tmp_path, 1)
    result = probe_nvidia(scenarios.driver_not_loaded())
    assert codes(result) == ["driver_not_loaded"]
    assert chain(result) == [OK, OK, OK, OK, BROKEN, NOT_REACHED]
    assert reasons(result, Layer.LIBRARY) == ("driver_not_loaded",)


@pytest.mark.parametrize(
    ("mode", "no_new_privileges", "severity", "state"),
    [
        (None, 0, Severity.ERROR, BROKEN),
        (0o755, 0, Severity.ERROR, BROKEN),
        (0o4755, 1, Severity.ERROR, BROKEN),
        (0o4755, 0, Severity.INFO, OK),
    ],
)
def test_without_uvm_nvml_works_and_cuda_does_not(
    tmp_path: Path,
    probe_nvidia: Probe,
    add_pci: Add,
    mode: int | None,
    no_new_privileges: int,
    severity: Severity,
    state: LayerState,
) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    make_nodes(tmp_path, 1, uvm=False)
    write(tmp_path, "proc/self/status", f"Name:\tr1box\nNoNewPrivs:\t{no_new_privileges}\n")
    if mode is not None:
        write(tmp_path, "usr/bin/nvidia-modprobe", mode=mode)
    result = probe_nvidia(scenarios.box(scenarios.l20()))
    assert [(one.code, one.severity) for one in result.findings] == [("uvm_missing", severity)]
    assert "nvidia-modprobe -u" in (result.findings[0].hint or "")
    assert states(result)[Layer.NODES] is state
    assert states(result)[Layer.ACCESS] is OK
    assert states(result)[Layer.LIBRARY] is OK
    assert states(result)[Layer.RUNTIME] is (OK if state is OK else NOT_REACHED)


CARD = PciFunction("0000:01:00.0", "nvidia", 0x10DE, 0x26BA, "L20", "nvidia", 0, maker="NVIDIA")


def closed(path: str, *, usable: bool = False, **settings: object) -> DeviceNode:
    node = DeviceNode(path, exists=True, is_device=True, usable=usable, owner="root", group="video", mode="0660")
    return DeviceNode(**{name: getattr(node, name) for name in DeviceNode.__dataclass_fields__} | settings)


def ground_with(*nodes: DeviceNode, **settings: object) -> NvidiaGround:
    found = DeviceNodes(nodes, uptime_s=9000.0, user="r1box", **settings)
    return NvidiaGround((CARD,), module_loaded=True, module_version="550.54.15", nodes=found)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"in_group": False}, "usermod -aG video r1box"),
        ({"in_group": False, "listed_in_group": True}, "restart the service"),
        ({"in_group": False, "mode": "0600"}, "owner and mode"),
        ({"in_group": False, "group": "root"}, "owner and mode"),
        ({"in_group": True}, "owner and mode"),
    ],
)
def test_a_closed_node_is_named_with_its_group(settings: dict[str, object], hint: str) -> None:
    paths = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0")
    ground = ground_with(*(closed(path, **settings) for path in paths))
    reading = NvmlReading(NvmlStart(error=4), complete=True)
    result = interpret(reading, ground, host_memory=lambda: HOST_MEMORY)
    found = finding(result, "no_permission")
    assert codes(result) == ["no_permission"]
    assert found.message.startswith("/dev/nvidiactl belongs to root:")
    assert "runs as r1box" in found.message
    assert hint in (found.hint or "")
    assert chain(result) == [OK, OK, OK, BROKEN, NOT_REACHED, NOT_REACHED]
    assert reasons(result, Layer.ACCESS) == ("no_permission",)


def test_not_loaded_is_what_a_closed_node_is_told_as_too() -> None:
    ground = ground_with(*(closed(path) for path in ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0")))
    result = interpret(NvmlReading(NvmlStart(error=9), complete=True), ground, host_memory=lambda: HOST_MEMORY)
    assert codes(result) == ["no_permission"]
    assert chain(result) == [OK, OK, OK, BROKEN, NOT_REACHED, NOT_REACHED]


def test_one_closed_card_of_two_does_not_close_the_way() -> None:
    nodes = [closed(path, usable=True) for path in ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0")]
    ground = ground_with(*nodes, closed("/dev/nvidia1"), in_container=True)
    text = '{"kind":"start","count":1,"cuda_version":12040}\n{"kind":"device","index":0,"memory_total_bytes":5}\n'
    reading = parse_reading(text + '{"kind":"end","cuda_library":true}')
    result = interpret(reading, ground, host_memory=lambda: HOST_MEMORY)
    assert codes(result) == ["no_permission"]
    assert "--gpus all" in (result.findings[0].hint or "")
    assert chain(result) == [OK] * 6


def test_the_group_of_a_container_blocks() -> None:
    result = interpret(NvmlReading(NvmlStart(error=17), complete=True), ground_with(), host_memory=lambda: HOST_MEMORY)
    assert codes(result) == ["blocked_by_system"]
    assert states(result)[Layer.ACCESS] is BROKEN


def test_the_only_card_fell_off_the_bus(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    folder = add_pci(*L20, driver="nvidia")
    (folder / "config").write_bytes(b"\xff" * 256)
    load_module(tmp_path)
    make_nodes(tmp_path, 1)
    result = probe_nvidia(scenarios.box())
    assert codes(result) == ["device_lost"]
    assert "rev ff" in result.findings[0].message
    assert result.findings[0].device == "nvidia:0000:01:00.0"
    (device,) = result.devices
    assert (device.health, device.layers.pci) == (Health.CRITICAL, BROKEN)
    assert states(result)[Layer.PCI] is BROKEN
    assert reasons(result, Layer.PCI) == ("device_lost",)


def test_a_silent_card_among_more_functions_is_the_lost_one(probe_nvidia: Probe, add_pci: Add) -> None:
    for number in (1, 2, 3):
        folder = add_pci(f"0000:0{number}:00.0", *L20[1:], driver="nvidia")
        (folder / "config").write_bytes(b"\xff" * 4 if number == 2 else b"\xde\x10\xba\x26")
    result = probe_nvidia(scenarios.box(scenarios.l20(0), {"handle": 15}))
    assert codes(result) == ["device_lost", "card_not_answering"]
    assert [(device.key, device.pci_address) for device in result.devices] == [
        ("nvidia:0", "0000:01:00.0"),
        ("nvidia:1", "0000:02:00.0"),
        ("nvidia:0000:03:00.0", "0000:03:00.0"),
    ]


def test_the_library_lists_none_of_the_cards(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20, driver="nvidia")
    number_cards(tmp_path, {"0000:01:00.0": 0})
    make_nodes(tmp_path, 1)
    result = probe_nvidia(scenarios.box())
    assert codes(result) == ["card_not_answering"]
    assert states(result)[Layer.LIBRARY] is BROKEN
    (device,) = result.devices
    assert (device.node, device.layers.node, device.layers.library) == ("/dev/nvidia0", OK, BROKEN)


def test_many_cards_are_counted_and_unknown_ones_named_by_their_ids(tmp_path: Path, add_pci: Add) -> None:
    for number in range(1, 7):
        add_pci(f"0000:0{number}:00.0", "0x10de", "0x9999", "0x030200")
    result = without_library(tmp_path)
    found = finding(result, "driver_missing")
    assert found.message.startswith("6 NVIDIA cards are on the PCI bus (NVIDIA card 10de:9999 at 0000:01:00.0, ")
    assert "0000:04:00.0, ...)" in found.message
    assert {device.name for device in result.devices} == {"NVIDIA card 10de:9999"}


def test_what_a_container_lacks_is_said_in_its_words(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci(*L20, driver="nvidia")
    load_module(tmp_path)
    make_nodes(tmp_path, 1, uvm=False)
    write(tmp_path, ".dockerenv")
    (tmp_path / "library").mkdir()
    library = build_fake_nvml(tmp_path / "library", cuda=False).parent
    (library / "libcuda.so.1").write_bytes(b"")
    result = probe_nvidia(scenarios.box(scenarios.l20()), library=library)
    assert codes(result) == ["uvm_missing", "cuda_library_missing"]
    assert all("NVIDIA_DRIVER_CAPABILITIES" in (one.hint or "") for one in result.findings)
    assert reasons(result, Layer.RUNTIME) == ("cuda_library_missing",)


def test_windows_has_another_way_to_the_card(tmp_path: Path, probe_nvidia: Probe, empty_pci: Path) -> None:
    write(tmp_path, "dev/dxg")
    result = probe_nvidia(scenarios.box(scenarios.l20()))
    assert result.findings == ()
    assert states(result)[Layer.PCI] is LayerState.NOT_NEEDED
    assert states(result)[Layer.NODES] is LayerState.NOT_NEEDED
    assert states(result)[Layer.RUNTIME] is OK


def test_a_module_without_a_card(tmp_path: Path, probe_nvidia: Probe, empty_pci: Path) -> None:
    write(tmp_path, "sys/module/nvidia/refcnt", "0\n")
    result = probe_nvidia(scenarios.box())
    assert states(result)[Layer.PCI] is BROKEN
    assert details(result)[Layer.PCI] == "no card"
    assert states(result)[Layer.MODULE] is OK


def test_jetson_before_nvml(tmp_path: Path, empty_pci: Path) -> None:
    make_jetson(tmp_path)
    result = without_library(tmp_path)
    assert [(one.code, one.severity) for one in result.findings] == [("no_management_library", Severity.INFO)]
    (device,) = result.devices
    assert (device.key, device.name, device.chip) == ("nvidia:0", "NVIDIA Jetson AGX Orin Kit", "Orin")
    assert (device.compute_capability, device.unified_memory) == ("8.7", True)
    assert device.memory_total_bytes == HOST_MEMORY.total_bytes
    assert (device.node, device.layers.node, device.health) == ("/dev/nvhost-gpu", OK, Health.UNKNOWN)
    assert states(result) == {
        Layer.PCI: LayerState.NOT_NEEDED,
        Layer.MODULE: OK,
        Layer.NODES: UNKNOWN,
        Layer.ACCESS: UNKNOWN,
        Layer.LIBRARY: LayerState.NOT_NEEDED,
        Layer.RUNTIME: UNKNOWN,
    }


@pytest.mark.parametrize(
    ("words", "chip"),
    [("nvidia,tegra194", "Xavier"), ("nvidia,tegra999", "Tegra"), ("brcm,bcm2712", None), ("\xff\0\0", None)],
)
def test_which_jetson(tmp_path: Path, words: str, chip: str | None) -> None:
    write(tmp_path, "proc/device-tree/compatible", words + "\0")
    found = read_jetson(tmp_path)
    assert (found.chip if found else None) == chip
    assert found is None or (found.model, found.driver) == (None, False)


def test_unreadable_facts_are_unknown(tmp_path: Path) -> None:
    write(tmp_path, "proc/driver/nvidia/version", "garbled\n")
    write(tmp_path, "proc/driver/nvidia/gpus/nonsense/information", "Device Minor: \t 0\n")
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information").mkdir(parents=True)
    ground = read_ground(tmp_path)
    assert (ground.functions, ground.module_loaded, ground.module_version, ground.minors) == (None, True, None, {})
    assert (ground.nodes, ground.lost, ground.jetson) == (DeviceNodes(), frozenset(), None)


def test_runtime_is_unknown_when_the_library_does_not_say() -> None:
    reading = NvmlReading(NvmlStart(count=0), (), complete=True, cuda_library=NvmlEnd().cuda_library)
    result = interpret(reading, NvidiaGround(module_loaded=True), host_memory=lambda: HOST_MEMORY)
    assert states(result)[Layer.RUNTIME] is UNKNOWN
