"""Whole machines with NVIDIA cards: the real binding against the compiled library, with the system around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.types import (
    Device,
    DeviceLink,
    DeviceProcess,
    Health,
    Layer,
    LayerState,
    LinkKind,
    MemoryErrors,
    ProbeResult,
    Severity,
    Software,
)
from tests.drivers.conftest import HANG_LIMITS_S, HOST_MEMORY
from tests.drivers.nvidia_box import codes, details, finding, load_module, make_jetson, make_nodes, number_cards, states
from tests.fakes.nvml import scenarios
from tests.fakes.nvml.build import OLD_DRIVER, build_fake_nvml

Add = Callable[..., Path]
Probe = Callable[..., ProbeResult]
GIB, MIB = 1 << 30, 1 << 20
ALL_OK = dict.fromkeys((layer for layer in Layer if layer is not Layer.ENGINE), LayerState.OK)


@pytest.fixture(scope="session")
def oldest_fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of a driver that lacks everything newer."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml-oldest"), defines=OLD_DRIVER).parent


def test_eight_h20_with_nvlink(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    scenario = scenarios.h20_box()
    for number in range(8):
        address = str(scenario[f"{number}.bus"])[4:].lower()
        add_pci(address, "0x10de", "0x2329", "0x030200", driver="nvidia", numa_node=number // 4)
    add_pci("0000:05:00.0", "0x10de", "0x22a3", "0x068000")
    load_module(tmp_path, "570.124.06")
    make_nodes(tmp_path, 8)
    result = probe_nvidia(scenario)
    assert result.findings == ()
    assert states(result) == ALL_OK
    assert details(result)[Layer.PCI] == "8 cards"
    assert details(result)[Layer.MODULE] == "570.124.06"
    assert details(result)[Layer.RUNTIME] == "CUDA 12.8"
    assert result.software == (
        Software("nvidia-driver", "570.124.06", "/proc/driver/nvidia/version"),
        Software("cuda-driver", "12.8"),
    )
    assert [device.key for device in result.devices] == [f"nvidia:{number}" for number in range(8)]
    fifth = result.devices[4]
    assert fifth.numa_node == 1
    assert fifth.node == "/dev/nvidia4"
    assert (fifth.layers.pci, fifth.layers.node, fifth.layers.library) == (LayerState.OK,) * 3
    assert fifth.links == tuple(DeviceLink(f"nvidia:{peer}", LinkKind.NVLINK, 18) for peer in range(8) if peer != 4)
    assert fifth.processes == (DeviceProcess(4004, "/usr/bin/vllm", 60 * GIB),)
    assert (fifth.clock_mhz, fifth.memory_clock_mhz) == (1980, 2619)
    assert (fifth.power_watts, fifth.power_limit_watts) == (117.3, 500)
    assert fifth.recovery_action == "none"
    assert fifth.memory_errors == MemoryErrors(0, 0, 2, 0, None, 0, False, False)
    assert fifth.firmware_version == "96.00.9E.00.01"
    assert fifth.compute_capability == "9.0"
    assert fifth.unsupported == ("memory_errors.retired_pages",)
    assert not any(device.partitioned or device.unified_memory for device in result.devices)


def test_a_card_with_fewer_nvlinks_than_the_others_is_told(probe_nvidia: Probe) -> None:
    scenario = scenarios.h20_box(2) | {"1.nvlink.3.state": 0, "1.nvlink.9.state": 0}
    result = probe_nvidia(scenario)
    assert codes(result) == ["nvlink_degraded"]
    assert (
        "Card 1 (NVIDIA H20) has 16 NVLinks up, another card of its kind 18"
        in finding(result, "nvlink_degraded").message
    )
    assert [device.links[0].lanes for device in result.devices] == [16, 16]


def test_nvlink_bridges_join_two_of_three(probe_nvidia: Probe) -> None:
    cards = [
        scenarios.l20(0) | {"nvlink.count": 4, "nvlink.peer": "00000000:02:00.0"},
        scenarios.l20(1) | {"nvlink.count": 4, "nvlink.peer": "00000000:01:00.0"},
        scenarios.l20(2, **{"nvlink.count": 4, "nvlink.state": 0, "name": "NVIDIA L20 (other)"}),
    ]
    result = probe_nvidia(scenarios.box(*cards, **{"topology.0.2": 20, "topology.1.2": 30}))
    assert result.findings == ()
    assert [device.links for device in result.devices] == [
        (DeviceLink("nvidia:1", LinkKind.NVLINK, 4), DeviceLink("nvidia:2", LinkKind.PXB)),
        (DeviceLink("nvidia:0", LinkKind.NVLINK, 4), DeviceLink("nvidia:2", LinkKind.PHB)),
        (DeviceLink("nvidia:0", LinkKind.PXB), DeviceLink("nvidia:1", LinkKind.PHB)),
    ]


def test_two_l20_below_one_switch(probe_nvidia: Probe) -> None:
    first, second = probe_nvidia(scenarios.l20_pair()).devices
    assert first.links == (DeviceLink("nvidia:1", LinkKind.PIX),)
    assert second.links == (DeviceLink("nvidia:0", LinkKind.PIX),)


def test_a_library_without_topology_leaves_links_out(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.l20_pair() | {"topology.0.1": "!3"})
    assert result.findings == ()
    assert [device.links for device in result.devices] == [(), ()]
    assert all(device.unsupported[-1] == "links" for device in result.devices)


def test_t4_has_retired_pages_instead_of_rows(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.t4(**{"retired.sbe": 3, "retired.dbe": 1}))
    assert result.findings == ()
    (device,) = result.devices
    assert (device.chip, device.memory_total_bytes, device.power_limit_watts) == ("T4", 15360 * MIB, 70)
    assert device.memory_errors == MemoryErrors(0, 0, 2, 0, 4, None, False, None)
    assert device.unsupported == ("recovery_action", "memory_errors.remapped_rows")
    assert device.health is Health.OK


def test_an_old_driver_lacks_functions_but_nothing_is_wrong(probe_nvidia: Probe, oldest_fake_nvml: Path) -> None:
    scenario = scenarios.l20_pair() | {"0.throttle": 0x40, "0.processes": "7:-1"}
    result = probe_nvidia(scenario, library=oldest_fake_nvml)
    assert codes(result) == ["throttled"]
    first = result.devices[0]
    assert first.memory_total_bytes == 46068 * MIB
    assert first.memory_reserved_bytes is None
    assert first.throttle_reasons == ("hw_thermal",)
    assert first.processes == (DeviceProcess(7),)
    assert first.memory_errors == MemoryErrors(0, 0, 2, 0)
    assert first.unsupported == (
        "recovery_action",
        "memory_reserved_bytes",
        "memory_errors.retired_pages",
        "memory_errors.remapped_rows",
    )


def test_an_old_driver_calls_the_recovery_action_an_invalid_argument(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.box(scenarios.l20(recovery="!2")))
    assert result.findings == ()
    assert "recovery_action" in result.devices[0].unsupported


def test_gb10_shares_the_hosts_memory(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci("000f:01:00.0", "0x10de", "0x2e12", "0x030000", driver="nvidia")
    load_module(tmp_path, "580.95.05", open_module=True)
    make_nodes(tmp_path, 1)
    result = probe_nvidia(scenarios.gb10())
    assert result.findings == ()
    assert states(result) == ALL_OK
    assert details(result)[Layer.MODULE] == "580.95.05"
    (device,) = result.devices
    assert device.unified_memory
    assert device.memory_total_bytes == HOST_MEMORY.total_bytes
    assert device.memory_free_bytes == HOST_MEMORY.available_bytes
    assert device.processes == (DeviceProcess(2217, "ollama", None),)
    assert "memory_total_bytes" not in device.unsupported
    assert {"power_limit_watts", "memory_clock_mhz", "memory_errors"} <= set(device.unsupported)


def test_gh200_has_memory_of_its_own(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.gh200())
    assert [(one.code, one.severity) for one in result.findings] == [("memory_is_numa_node", Severity.INFO)]
    (device,) = result.devices
    assert not device.unified_memory
    assert device.memory_total_bytes == 97871 * MIB


def test_mig_instances_are_devices(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    add_pci("0000:07:00.0", "0x10de", "0x20b2", "0x030200", driver="nvidia", numa_node=1)
    make_nodes(tmp_path, 1)
    result = probe_nvidia(scenarios.mig_a100())
    assert result.findings == ()
    card, *instances = result.devices
    assert card.partitioned
    assert "utilization_percent" in card.unsupported
    assert [device.key for device in instances] == ["nvidia:0.0", "nvidia:0.2", "nvidia:0.3"]
    assert len({device.key for device in result.devices}) == 4
    second = instances[1]
    assert (second.index, second.parent, second.partitioned) == (None, "nvidia:0", False)
    assert second.selector == second.uuid == "MIG-00000001-1111-5222-8333-444444444444"
    assert second.name == "NVIDIA A100-SXM4-80GB MIG 2g.20gb"
    assert (second.chip, second.compute_capability, second.numa_node) == (card.chip, "8.0", 1)
    assert (second.memory_total_bytes, second.memory_free_bytes) == (19968 * MIB, 19930 * MIB)
    assert (second.node, second.layers.library, second.health) == ("/dev/nvidia0", LayerState.OK, Health.OK)
    assert "utilization_percent" in second.unsupported
    assert instances[0].processes == (DeviceProcess(5150, "llama-server", 7000 * MIB),)


def test_instances_are_named_by_their_size_when_the_library_does_not(probe_nvidia: Probe) -> None:
    settings = {"0.mig.0.name": "NVIDIA A100-SXM4-80GB", "0.mig.2.name.code": 3, "0.mig.2.ci_slices": 1}
    settings |= {"0.mig.3.name.code": 3, "0.mig.3.attributes.code": 3}
    names = [device.name for device in probe_nvidia(scenarios.mig_a100() | settings).devices[1:]]
    assert names == [f"NVIDIA A100-SXM4-80GB MIG {word}" for word in ("2g.20gb", "1c.2g.20gb", "instance 3")]


def test_a_cut_up_card_keeps_things_to_itself(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.mig_a100() | {"0.memory": 4, "0.processes.code": 4})
    assert result.findings == ()
    assert result.devices[0].memory_total_bytes is None
    assert result.devices[1].memory_total_bytes == 19968 * MIB


@pytest.mark.parametrize(("code", "found"), [(4, "no_permission"), (999, "device_failed")])
def test_an_instance_without_a_handle(probe_nvidia: Probe, code: int, found: str) -> None:
    result = probe_nvidia(scenarios.mig_a100() | {"0.mig.2.handle": code})
    assert codes(result) == [found]
    assert result.findings[0].device == "nvidia:0.2"
    assert [device.layers.library for device in result.devices] == [
        LayerState.OK,
        LayerState.OK,
        LayerState.BROKEN,
        LayerState.OK,
    ]


def test_an_instance_without_memory_is_not_planned_on(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.mig_a100() | {"0.mig.0.memory": 3})
    assert codes(result) == ["memory_unknown"]
    assert result.findings[0].device == "nvidia:0.0"


def test_mig_without_instances_and_mig_that_changes(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.mig_a100(0) | {"0.mig.pending": 0})
    assert [(one.code, one.severity) for one in result.findings] == [
        ("mig_without_instances", Severity.WARNING),
        ("mig_change_pending", Severity.INFO),
    ]
    assert "turns MIG off" in result.findings[1].message
    assert "-i 0 -mig 0" in (result.findings[0].hint or "")
    assert result.devices[0].partitioned


def test_vgpu_guest(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.vgpu_guest())
    assert [(one.code, one.severity) for one in result.findings] == [("vgpu_guest", Severity.INFO)]
    (device,) = result.devices
    assert device.memory_total_bytes == 24576 * MIB
    assert {"power_watts", "temperature_celsius", "power_limit_watts"} <= set(device.unsupported)


def test_processes_are_bounded(probe_nvidia: Probe) -> None:
    many = ",".join(f"{pid}:{MIB}" for pid in range(1000, 1100))
    (device,) = probe_nvidia(scenarios.box(scenarios.l20(processes=many))).devices
    assert len(device.processes) == 64
    assert device.processes[0] == DeviceProcess(1000, None, MIB)


def test_jetson_with_nvml(tmp_path: Path, probe_nvidia: Probe) -> None:
    make_jetson(tmp_path)
    result = probe_nvidia(scenarios.jetson_orin())
    assert result.findings == ()
    (device,) = result.devices
    assert (device.chip, device.unified_memory, device.layers.pci) == ("Orin", True, LayerState.NOT_NEEDED)
    assert states(result) == ALL_OK | {Layer.PCI: LayerState.NOT_NEEDED, Layer.NODES: LayerState.UNKNOWN}


def test_without_libcuda_no_program_computes(tmp_path: Path, probe_nvidia: Probe) -> None:
    (tmp_path / "library").mkdir()
    library = build_fake_nvml(tmp_path / "library", cuda=False).parent
    # In the way of a real driver's library, should the machine have one.
    (library / "libcuda.so.1").write_bytes(b"")
    result = probe_nvidia(scenarios.box(scenarios.l20()), library=library)
    assert codes(result) == ["cuda_library_missing"]
    assert states(result)[Layer.RUNTIME] is LayerState.BROKEN
    assert states(result)[Layer.LIBRARY] is LayerState.OK


def test_lost_card_is_a_row_with_its_place(tmp_path: Path, probe_nvidia: Probe, add_pci: Add) -> None:
    lost = add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    (lost / "config").write_bytes(b"\xff" * 64)
    good = add_pci("0000:02:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    (good / "config").write_bytes(b"\xde\x10\xba\x26" + bytes(60))
    number_cards(tmp_path, {"0000:01:00.0": 5})
    make_nodes(tmp_path, 6)
    result = probe_nvidia(scenarios.lost_card())
    assert codes(result) == ["device_lost"]
    device = result.devices[0]
    assert (device.key, device.name, device.health) == ("nvidia:0", "NVIDIA L20", Health.CRITICAL)
    assert (device.layers.pci, device.layers.node, device.layers.library) == (
        LayerState.BROKEN,
        LayerState.OK,
        LayerState.BROKEN,
    )
    assert device.node == "/dev/nvidia5"
    assert states(result) == ALL_OK | {Layer.MODULE: LayerState.OK}
    assert details(result)[Layer.PCI] == "2 cards, 1 lost"


def test_hang_at_the_third_of_four_keeps_the_first_two(probe_nvidia: Probe, add_pci: Add) -> None:
    for number in range(4):
        add_pci(f"0000:0{number + 1}:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    cards = [scenarios.l20(number) for number in range(4)]
    devices: tuple[Device, ...] = ()
    for limit_s in HANG_LIMITS_S:
        result = probe_nvidia(scenarios.box(*cards, hang="nvmlDeviceGetTemperature:2"), timeout_s=limit_s)
        devices = result.devices
        if devices[1].layers.library is LayerState.OK:
            break
    assert codes(result) == ["probe_timed_out"]
    assert "at card 2 of 4" in result.findings[0].message
    assert [device.index for device in devices] == [0, 1, 2, 3]
    assert [device.layers.library for device in devices] == [
        LayerState.OK,
        LayerState.OK,
        LayerState.BROKEN,
        LayerState.NOT_REACHED,
    ]
    assert devices[2].pci_address == "0000:03:00.0"
    assert states(result)[Layer.LIBRARY] is LayerState.BROKEN
    assert states(result)[Layer.RUNTIME] is LayerState.NOT_REACHED


def test_a_hang_after_the_cards_loses_none_of_them(probe_nvidia: Probe) -> None:
    result = ProbeResult("nvidia")
    for limit_s in HANG_LIMITS_S:
        result = probe_nvidia(scenarios.l20_pair() | {"hang": "nvmlDeviceGetTopologyCommonAncestor"}, timeout_s=limit_s)
        if len(result.devices) == 2:
            break
    assert codes(result) == ["probe_timed_out"]
    assert "after the last card" in result.findings[0].message
    assert [device.health for device in result.devices] == [Health.OK, Health.OK]
