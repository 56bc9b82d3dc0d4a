"""The Ascend probe with a fake ``npu-smi``, a fake PCI bus and fake nodes. DCMI: ``test_ascend_library``."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.types import Health, Layer, LayerState, ProbeResult, Severity
from tests.drivers.ascend_box import A2_BUSES, ALL_OK, FIXTURES, Box, codes, news, only, prints, state, states


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_no_sign_of_ascend_is_silent(box: Box) -> None:
    assert box.probe() == ProbeResult("ascend")


def test_eight_cards_get_their_numbers_from_the_map(box: Box) -> None:
    for bus in A2_BUSES:
        box.card(f"0000:{bus}:00.0", numa_node=3)
    box.ready(8)
    box.tool(
        prints(
            info=FIXTURES / "910b3-24.1.rc1.b030-info.txt",
            m=FIXTURES / "910a-23.0.5-map.txt",
            t_topo=FIXTURES / "910b3-24.1.rc1.b030-topo.txt",
        )
    )
    result = box.probe()
    assert codes(result) == ["dcmi_missing"]
    assert [device.index for device in result.devices] == list(range(8))
    assert {(device.chip, device.numa_node, device.driver_version) for device in result.devices} == {
        ("910B3", 3, "24.1.rc1.b030")
    }
    assert {len(device.links) for device in result.devices} == {7}
    assert set(states(result).values()) == {"ok"}
    assert [(part.name, part.version) for part in result.software] == [
        ("ascend-driver", "25.2.0"),
        ("ascend-firmware", "7.7.0.6.236"),
        ("cann", "8.5.0"),
    ]


def test_numbers_stay_unknown_without_a_map(box: Box) -> None:
    box.card("0000:c1:00.0")
    box.ready(1)
    box.tool(prints(info=FIXTURES / "910b4-26.0.rc1-info-wide.txt"))
    result = box.probe()
    assert [finding.code for finding in news(result)] == ["index_unknown"]
    assert result.devices[0].index is None


def test_950_has_no_chip_column(box: Box) -> None:
    box.card("0000:61:00.0", "0xd806")
    box.nodes(1, "asdrv_svm", "hisi_hdc")
    box.cann()
    box.tool(
        prints(
            info=FIXTURES / "950pr-25.7.rc1.6-info-board-memory-common.txt",
            m=FIXTURES / "950-vendor-doc-map.txt",
        )
    )
    result = box.probe()
    assert news(result) == []
    assert [(device.key, device.index, device.node) for device in result.devices] == [("ascend:0", 0, "/dev/davinci0")]
    assert result.devices[0].layers == ALL_OK


def test_duo_card_is_one_function_with_two_devices(box: Box) -> None:
    box.card("0000:07:00.0", "0xd500", subsystem="0x0110")
    box.ready(2)
    box.tool(prints(info=FIXTURES / "310p3-duo-24.1.rc2-info.txt"))
    result = box.probe()
    assert news(result) == []
    assert [(device.key, device.index) for device in result.devices] == [("ascend:1792.0", 0), ("ascend:1792.1", 1)]
    assert result.layers[0].detail == "1 card, 2 chips"


def test_missing_chip_of_a_duo_card(box: Box) -> None:
    box.card("0000:04:00.0", "0xd500", subsystem="0x0110")
    box.ready(2)
    box.tool(prints(info=FIXTURES / "310p3-single-25.2.3-info.txt"))
    assert "carries 2 chips, but the driver lists 1" in only(box.probe()).message


def test_cards_on_the_bus_that_are_not_listed(box: Box) -> None:
    box.card("0000:04:00.0", "0xd500")
    box.card("0000:81:00.0", "0xd500")
    box.card("0000:82:00.0", "0xd500", driver="vfio-pci")
    box.ready(2)
    box.tool(prints(info=FIXTURES / "310p3-single-25.2.3-info.txt"))
    result = box.probe()
    assert sorted(finding.code for finding in news(result)) == ["card_not_answering", "card_passed_through"]
    silent = next(finding for finding in result.findings if finding.code == "card_not_answering")
    assert "0000:81:00.0" in silent.message
    assert [(device.key, device.layers.pci, device.layers.library) for device in result.devices] == [
        ("ascend:224.0", LayerState.OK, LayerState.OK),
        ("ascend:0000:81:00.0", LayerState.OK, LayerState.BROKEN),
    ]
    assert silent.device == "ascend:0000:81:00.0"


def test_a_chip_that_the_table_leaves_out(box: Box) -> None:
    """npu-smi skips a chip without a health; its list of numbers still has it."""
    box.nodes(2)
    box.card("0000:5a:00.0")
    box.card("0000:19:00.0")
    table = (FIXTURES / "910b2c-23.0.2.1-info.txt").read_text()
    start = table.index("| 1     910B2C")
    whole = table.index("+==", start)
    cut = box.write("table.txt", table[:start] + table[whole:])
    box.tool(prints(info=cut, m=FIXTURES / "910b3-25.5.1-map.txt"))
    result = box.probe()
    assert [(device.key, device.layers.library) for device in result.devices] == [
        ("ascend:0.0", LayerState.OK),
        ("ascend:1.0", LayerState.BROKEN),
    ]
    assert "-8008 device absent" in only(result).message


def test_alarm_is_told_with_the_next_step(box: Box) -> None:
    box.nodes(1)
    box.cann()
    box.tool(
        prints(
            info=FIXTURES / "310b4-23.0.0-info-alarm-8g.txt",
            t_health_i_0_c_0=FIXTURES / "310b4-23.0.0-health-alarm.txt",
        )
    )
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.severity, finding.device) == ("device_unhealthy", Severity.WARNING, "ascend:0.0")
    assert "npu-smi info -t health -i 0" in (finding.hint or "")
    assert "80E3A203" in finding.message
    assert result.devices[0].health is Health.ALARM
    assert [fault.code for fault in result.devices[0].faults] == ["80E3A203"]
    assert states(result) == {
        "pci": "not_needed",
        "module": "ok",
        "nodes": "ok",
        "access": "ok",
        "library": "ok",
        "runtime": "ok",
    }
    assert result.devices[0].layers.pci is LayerState.NOT_NEEDED


def test_card_without_tool_and_nodes_has_no_driver(box: Box) -> None:
    box.card("0000:c1:00.0", driver=None)
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.severity) == ("driver_missing", Severity.ERROR)
    assert "Ascend 910B at 0000:c1:00.0" in finding.message
    assert states(result) == {
        "pci": "ok",
        "module": "broken",
        "nodes": "not_reached",
        "access": "not_reached",
        "library": "not_reached",
        "runtime": "not_reached",
    }
    assert [(device.name, device.key) for device in result.devices] == [("Ascend 910B", "ascend:0000:c1:00.0")]


def test_rebadged_card_counts(box: Box) -> None:
    box.card("0000:c1:00.0", vendor="0x20e9", driver=None)
    assert only(box.probe()).code == "driver_missing"


def test_nodes_without_the_tool(box: Box) -> None:
    """A 310B in system-on-chip mode is on no PCI bus."""
    box.nodes(1)
    result = box.probe()
    assert only(result).code == "tool_missing"
    assert state(result, Layer.LIBRARY) is LayerState.BROKEN


def test_container_without_the_driver(box: Box) -> None:
    box.card("0000:c1:00.0", driver=None)
    box.write(".dockerenv")
    assert "container" in (only(box.probe()).hint or "")


def test_driver_without_a_card(box: Box) -> None:
    box.tool("echo 'There is no NPU card on this server.'")
    result = box.probe()
    finding = only(result)
    assert (finding.code, finding.severity) == ("no_card", Severity.INFO)
    assert state(result, Layer.PCI) is LayerState.BROKEN


def test_all_cards_belong_to_virtual_machines(box: Box) -> None:
    box.card("0000:c1:00.0", driver="vfio-pci")
    result = box.probe()
    assert (only(result).code, only(result).severity) == ("card_passed_through", Severity.INFO)
    assert result.devices == ()
    assert (result.layers[0].state, result.layers[0].findings) == (LayerState.BROKEN, ("card_passed_through",))


def test_tool_that_sees_no_card_although_one_is_there(box: Box) -> None:
    box.card("0000:c1:00.0")
    box.nodes(1)
    box.tool("echo 'There is no NPU card on this server.'")
    result = box.probe()
    assert only(result).code == "card_not_answering"
    assert state(result, Layer.LIBRARY) is LayerState.BROKEN


def test_8005_without_the_node(box: Box) -> None:
    box.card("0000:c1:00.0", driver=None)
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251")
    finding = only(box.probe())
    assert finding.code == "driver_not_loaded"
    assert "DCMI -8005" in finding.message


def test_8005_without_headers_of_the_kernel(box: Box) -> None:
    box.card("0000:c1:00.0", driver=None)
    box.write("proc/sys/kernel/osrelease", "5.10.0-182.aarch64\n")
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251")
    assert "headers of the running kernel 5.10.0-182.aarch64" in (only(box.probe()).hint or "")


def test_8005_without_the_drivers_group(box: Box) -> None:
    box.card("0000:c1:00.0", driver=None)
    box.write("etc/group", "root:x:0:\n")
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251")
    assert "groupadd HwHiAiUser" in (only(box.probe()).hint or "")


def test_8005_without_node_and_card(box: Box) -> None:
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-newer-wording.txt'}'; exit 251")
    assert only(box.probe()).code == "no_card"


def test_8005_in_a_container_without_the_node(box: Box) -> None:
    (box.root / "sys/bus/pci/devices").rmdir()
    box.write("run/.containerenv")
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251")
    assert only(box.probe()).code == "node_missing"


def test_8005_with_a_node_that_opens(box: Box) -> None:
    box.nodes(1)
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251")
    result = box.probe()
    assert only(result).code == "driver_not_ready"
    assert state(result, Layer.LIBRARY) is LayerState.BROKEN


def test_8020_is_a_card_in_use(box: Box) -> None:
    box.nodes(1)
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8020-in-container.txt'}'; exit 236")
    assert only(box.probe()).code == "device_in_use"


def test_8005_without_permission(box: Box) -> None:
    box.card("0000:c1:00.0")
    box.nodes(1)
    gid = (box.root / "dev/davinci_manager").stat().st_gid
    box.write("etc/group", f"HwHiAiUser:x:{gid}:\n")
    box.tool(f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251")
    result = box.probe(access=lambda path: path.name != "davinci_manager")
    finding = only(result)
    assert finding.code == "no_permission"
    assert "group HwHiAiUser, mode 0660" in finding.message
    assert "usermod -aG HwHiAiUser" in (finding.hint or "")
    assert "restart it" in (finding.hint or "")
    assert state(result, Layer.ACCESS) is LayerState.BROKEN
    assert state(result, Layer.LIBRARY) is LayerState.NOT_REACHED


def test_node_of_another_group_long_after_the_boot(box: Box) -> None:
    box.card("0000:c1:00.0")
    box.nodes(1)
    box.write("etc/group", f"video:x:{(box.root / 'dev/davinci0').stat().st_gid}:\nHwHiAiUser:x:77777:\n")
    finding = only(box.probe(access=lambda path: path.name != "davinci_manager"))
    assert "group video" in finding.message
    assert "four minutes" in (finding.hint or "")


def test_nodes_may_still_come_right_after_the_boot(box: Box) -> None:
    box.card("0000:c1:00.0")
    box.nodes(1)
    box.write("proc/uptime", "100.0 1.0\n")
    result = box.probe(access=lambda path: False)
    finding = only(result)
    assert (finding.code, finding.severity) == ("nodes_waiting", Severity.WARNING)
    assert state(result, Layer.ACCESS) is LayerState.WAITING


def test_a_node_that_programs_open_is_missing(box: Box) -> None:
    """npu-smi works without it, a model does not."""
    box.card("0000:07:00.0", "0xd500", subsystem="0x0110")
    box.nodes(2, "hisi_hdc")
    box.tool(prints(info=FIXTURES / "310p3-duo-24.1.rc2-info.txt"))
    result = box.probe()
    finding = only(result)
    assert finding.code == "node_missing"
    assert "/dev/devmm_svm" in finding.message
    assert (state(result, Layer.NODES), state(result, Layer.LIBRARY)) == (LayerState.BROKEN, LayerState.OK)


def test_cann_is_missing(box: Box) -> None:
    box.card("0000:07:00.0", "0xd500", subsystem="0x0110")
    box.nodes(2)
    box.tool(prints(info=FIXTURES / "310p3-duo-24.1.rc2-info.txt"))
    result = box.probe()
    assert sorted(codes(result)) == ["cann_missing", "dcmi_missing"]
    assert all(finding.hint for finding in result.findings)
    assert state(result, Layer.RUNTIME) is LayerState.BROKEN
