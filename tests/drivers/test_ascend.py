"""The Ascend probe with a fake ``npu-smi``, a fake PCI bus and fake nodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.ascend import AscendProbe, find_tool
from drivers.ascend_errors import Nodes, dcmi_failed, read_nodes, tool_missing
from drivers.types import Finding, Health, ProbeResult, Severity
from tests.drivers.conftest import HANG_LIMITS_S

Add = Callable[..., Path]
FIXTURES = Path(__file__).parents[1] / "fixtures/npu_smi"


def probe(root: Path, timeout_s: float = 20.0) -> ProbeResult:
    return AscendProbe(root, timeout_s=timeout_s, search_path="").probe()


def prints(name: str, map_name: str | None = None, exit_code: int = 0) -> str:
    """Body of a tool that prints recorded outputs, without their source lines."""
    map_line = f"tail -n +2 '{FIXTURES / map_name}'" if map_name else "exit 1"
    return (
        f'if [ "$*" = "info" ]; then tail -n +2 "{FIXTURES / name}"; exit {exit_code}; fi\n'
        f'if [ "$*" = "info -m" ]; then {map_line}; exit 0; fi\nexit 9\n'
    )


def codes(result: ProbeResult) -> list[str]:
    return [finding.code for finding in result.findings]


def only(result: ProbeResult) -> Finding:
    assert len(result.findings) == 1, result.findings
    assert result.findings[0].hint
    return result.findings[0]


def add_node(root: Path, name: str, mode: int = 0o660) -> None:
    node = root / "dev" / name
    node.parent.mkdir(exist_ok=True)
    node.write_text("")
    node.chmod(mode)


def test_no_sign_of_ascend_is_silent(tmp_path: Path, empty_pci: Path) -> None:
    assert probe(tmp_path) == ProbeResult("ascend")


def test_eight_cards_get_their_numbers_from_the_map(
    tmp_path: Path, fake_tool: Callable[[str], Path], add_pci: Add
) -> None:
    buses = ["c1", "c2", "81", "82", "01", "02", "41", "42"]
    for bus in buses:
        add_pci(f"0000:{bus}:00.0", "0x19e5", "0xd802", "0x120000", driver="devdrv_device_driver", numa_node=3)
    fake_tool(prints("910b3-24.1.rc1.b030-info.txt", "910a-23.0.5-map.txt"))
    result = probe(tmp_path)
    assert result.findings == ()
    assert [device.index for device in result.devices] == list(range(8))
    assert {(device.chip, device.numa_node, device.driver_version) for device in result.devices} == {
        ("910B3", 3, "24.1.rc1.b030")
    }


def test_numbers_stay_unknown_without_a_map(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool(prints("910b4-26.0.rc1-info-wide.txt"))
    result = probe(tmp_path)
    assert codes(result) == ["index_unknown"]
    assert [device.index for device in result.devices] == [None]


def test_950_has_no_chip_column(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool(prints("950pr-25.7.rc1.6-info-board-memory-common.txt", "950-vendor-doc-map.txt"))
    result = probe(tmp_path)
    assert result.findings == ()
    assert [(device.key, device.index) for device in result.devices] == [("ascend:0", 0)]


def test_duo_card_is_one_function_with_two_devices(
    tmp_path: Path, fake_tool: Callable[[str], Path], add_pci: Add
) -> None:
    add_pci("0000:07:00.0", "0x19e5", "0xd500", "0x120000", subsystem_device="0x0110")
    fake_tool(prints("310p3-duo-24.1.rc2-info.txt"))
    result = probe(tmp_path)
    assert result.findings == ()
    assert [(device.key, device.index) for device in result.devices] == [("ascend:1792.0", 0), ("ascend:1792.1", 1)]


def test_missing_chip_of_a_duo_card(tmp_path: Path, fake_tool: Callable[[str], Path], add_pci: Add) -> None:
    add_pci("0000:04:00.0", "0x19e5", "0xd500", "0x120000", subsystem_device="0x0110")
    fake_tool(prints("310p3-single-25.2.3-info.txt"))
    assert "carries 2 chips, but npu-smi lists 1" in only(probe(tmp_path)).message


def test_cards_on_the_bus_that_are_not_listed(tmp_path: Path, fake_tool: Callable[[str], Path], add_pci: Add) -> None:
    add_pci("0000:04:00.0", "0x19e5", "0xd500", "0x120000", driver="devdrv_device_driver")
    add_pci("0000:81:00.0", "0x19e5", "0xd500", "0x120000", driver="devdrv_device_driver")
    add_pci("0000:82:00.0", "0x19e5", "0xd500", "0x120000", driver="vfio-pci")
    fake_tool(prints("310p3-single-25.2.3-info.txt"))
    result = probe(tmp_path)
    assert codes(result) == ["card_not_answering", "card_passed_through"]
    assert "0000:81:00.0" in result.findings[0].message
    assert len(result.devices) == 1


def test_alarm_is_told_with_the_next_step(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool(prints("310b4-23.0.0-info-alarm-8g.txt"))
    result = probe(tmp_path)
    finding = only(result)
    assert (finding.code, finding.severity, finding.device) == ("device_unhealthy", Severity.WARNING, "ascend:0.0")
    assert "npu-smi info -t health -i 0" in (finding.hint or "")
    assert result.devices[0].health is Health.ALARM


def test_card_without_tool_and_nodes_has_no_driver(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:c1:00.0", "0x19e5", "0xd802", "0x120000")
    finding = only(probe(tmp_path))
    assert (finding.code, finding.severity) == ("driver_missing", Severity.ERROR)
    assert "Ascend 910B at 0000:c1:00.0" in finding.message


def test_rebadged_card_counts(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:c1:00.0", "0x20e9", "0xd802", "0x120000")
    assert only(probe(tmp_path)).code == "driver_missing"


def test_nodes_without_the_tool(tmp_path: Path) -> None:
    """A 310B in system-on-chip mode is on no PCI bus."""
    add_node(tmp_path, "davinci0")
    add_node(tmp_path, "davinci_manager")
    assert only(probe(tmp_path)).code == "tool_missing"


def test_container_without_the_driver(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:c1:00.0", "0x19e5", "0xd802", "0x120000")
    (tmp_path / ".dockerenv").write_text("")
    assert "container" in (only(probe(tmp_path)).hint or "")


def test_driver_without_a_card(tmp_path: Path, fake_tool: Callable[[str], Path], empty_pci: Path) -> None:
    fake_tool("echo 'There is no NPU card on this server.'")
    finding = only(probe(tmp_path))
    assert (finding.code, finding.severity) == ("no_card", Severity.INFO)


def test_tool_that_sees_no_card_although_one_is_there(
    tmp_path: Path, fake_tool: Callable[[str], Path], add_pci: Add
) -> None:
    add_pci("0000:c1:00.0", "0x19e5", "0xd802", "0x120000")
    fake_tool("echo 'There is no NPU card on this server.'")
    assert only(probe(tmp_path)).code == "card_not_answering"


def test_8005_without_the_node(tmp_path: Path, fake_tool: Callable[[str], Path], add_pci: Add) -> None:
    add_pci("0000:c1:00.0", "0x19e5", "0xd802", "0x120000")
    fake_tool(prints("error-8005-in-container.txt", exit_code=251))
    finding = only(probe(tmp_path))
    assert finding.code == "driver_not_loaded"
    assert "DCMI -8005" in finding.message


def test_8005_without_node_and_card(tmp_path: Path, fake_tool: Callable[[str], Path], empty_pci: Path) -> None:
    fake_tool(prints("error-8005-newer-wording.txt", exit_code=251))
    assert only(probe(tmp_path)).code == "no_card"


def test_8005_in_a_container_without_the_node(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").write_text("")
    fake_tool(prints("error-8005-in-container.txt", exit_code=251))
    assert only(probe(tmp_path)).code == "node_missing"


def test_8005_with_a_node_that_opens(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    add_node(tmp_path, "davinci_manager")
    fake_tool(prints("error-8005-in-container.txt", exit_code=251))
    assert only(probe(tmp_path)).code == "driver_not_ready"


def test_8020_is_a_card_in_use(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    add_node(tmp_path, "davinci_manager")
    fake_tool(prints("error-8020-in-container.txt", exit_code=236))
    assert only(probe(tmp_path)).code == "device_in_use"


@pytest.mark.parametrize(("group", "word"), [("HwHiAiUser", "restart it"), ("root", "four minutes")])
def test_8005_without_permission(group: str, word: str) -> None:
    nodes = Nodes(1, manager=True, manager_usable=False, manager_mode="0660", manager_group=group)
    finding = dcmi_failed(-8005, (), nodes)
    assert finding.code == "no_permission"
    assert f"group {group}, mode 0660" in finding.message
    assert word in (finding.hint or "")
    assert "usermod -aG HwHiAiUser" in (finding.hint or "")


def test_nodes_are_looked_at(tmp_path: Path) -> None:
    assert read_nodes(tmp_path) == Nodes(0, manager=False, manager_usable=False)
    for name in ("davinci0", "davinci1", "davinci_manager", "davinci_x"):
        add_node(tmp_path, name, 0o640)
    nodes = read_nodes(tmp_path)
    assert (nodes.chips, nodes.manager, nodes.manager_usable, nodes.manager_mode) == (2, True, True, "0640")
    assert nodes.manager_group
    assert tool_missing((), nodes).code == "tool_missing"


def test_hanging_tool(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool("sleep 300")
    assert only(probe(tmp_path, timeout_s=0.3)).code == "probe_timed_out"


def test_tool_that_hangs_after_its_table(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool(f"tail -n +2 '{FIXTURES / '310p3-single-25.2.3-info.txt'}'; sleep 300")
    for limit_s in HANG_LIMITS_S:
        result = probe(tmp_path, timeout_s=limit_s)
        if result.devices:
            break
    assert codes(result) == ["probe_timed_out"]
    assert len(result.devices) == 1


def test_crashing_tool(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool("kill -SEGV $$")
    assert only(probe(tmp_path)).code == "probe_crashed"


def test_failing_tool_is_quoted(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool("echo 'error while loading shared libraries: libc_sec.so' >&2; exit 127")
    finding = only(probe(tmp_path))
    assert finding.code == "probe_failed"
    assert "libc_sec.so" in finding.message


def test_cut_output_is_a_finding_beside_the_whole_rows(tmp_path: Path, fake_tool: Callable[[str], Path]) -> None:
    fake_tool(prints("910b2c-23.0.2.1-info.txt", "910b3-25.5.1-map.txt").replace('"; exit', '" | head -n 10; exit'))
    result = probe(tmp_path)
    assert codes(result) == ["row_cut"]
    assert [device.index for device in result.devices] == [0]


def test_tool_gets_the_drivers_libraries(
    tmp_path: Path, fake_tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ascend_install.info").write_text("UserName=HwHiAiUser\nDriver_Install_Path_Param=/opt/Ascend\n")
    fake_tool(f'echo "$LD_LIBRARY_PATH" > "{tmp_path}/seen"; exit 1')
    probe(tmp_path)
    seen = (tmp_path / "seen").read_text().strip().split(":")
    assert f"{tmp_path}/opt/Ascend/driver/lib64/common" in seen
    assert f"{tmp_path}/usr/local/dcmi" in seen


def test_tool_is_looked_up_in_path_but_not_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    tool = other / "npu-smi"
    tool.write_text("#!/bin/sh\n")
    root = tmp_path / "root"
    root.mkdir()
    assert find_tool(root, str(other)) is None  # not executable
    tool.chmod(0o755)
    assert find_tool(root, f"/nonexistent:{other}") == tool
    monkeypatch.chdir(other)
    assert find_tool(root, f".{os.pathsep}") is None
