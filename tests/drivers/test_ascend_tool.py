"""The Ascend probe and an ``npu-smi`` that hangs, crashes, fails, is cut off or lies in another place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.ascend_tool import NpuSmi, budget, find_tool
from drivers.types import LayerState
from tests.drivers.ascend_box import FIXTURES, Box, codes, news, only, prints
from tests.drivers.conftest import HANG_LIMITS_S


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_hanging_tool(box: Box) -> None:
    box.nodes(1)
    box.tool("sleep 300")
    assert only(box.probe(timeout_s=0.3)).code == "probe_timed_out"


def test_tool_that_hangs_after_its_table(box: Box) -> None:
    box.ready(1)
    box.tool(f"tail -n +2 '{FIXTURES / '310p3-single-25.2.3-info.txt'}'; sleep 300")
    for limit_s in HANG_LIMITS_S:
        result = box.probe(timeout_s=limit_s)
        if result.devices:
            break
    assert [finding.code for finding in news(result)] == ["probe_timed_out"]
    assert len(result.devices) == 1


def test_crashing_tool(box: Box) -> None:
    box.nodes(1)
    box.tool("kill -SEGV $$")
    assert only(box.probe()).code == "probe_crashed"


def test_library_that_the_tool_lacks_is_named(box: Box) -> None:
    box.nodes(1)
    text = "npu-smi: error while loading shared libraries: libc_sec.so: cannot open shared object file"
    box.tool(f"echo '{text}' >&2; exit 127")
    finding = only(box.probe())
    assert finding.code == "library_not_loadable"
    assert "libc_sec.so" in finding.message
    assert "driver/lib64/common" in (finding.hint or "")


def test_failing_tool_is_quoted(box: Box) -> None:
    box.nodes(1)
    box.tool("echo 'something else' >&2; exit 1")
    finding = only(box.probe())
    assert finding.code == "probe_failed"
    assert "something else" in finding.message


def test_cut_output_is_a_finding_beside_the_whole_rows(box: Box) -> None:
    box.ready(2)
    cut = "\n".join((FIXTURES / "910b2c-23.0.2.1-info.txt").read_text().splitlines()[:11]) + "\n"
    box.tool(prints(info=box.write("cut.txt", cut), m=FIXTURES / "910b3-25.5.1-map.txt"))
    result = box.probe()
    assert "row_cut" in codes(result)
    assert (result.devices[0].index, result.devices[0].layers.library) == (0, LayerState.OK)


def test_cut_answers_of_single_questions_are_told(box: Box) -> None:
    box.card("0000:5a:00.0")
    box.card("0000:19:00.0")
    box.ready(2)
    whole = (FIXTURES / "910b3-25.5.1-map.txt").read_text()
    cut = box.write("map.txt", whole[: whole.rindex("910B") - 40])
    box.tool(prints(info=FIXTURES / "910b2c-23.0.2.1-info.txt", m=cut))
    result = box.probe()
    assert [finding.code for finding in news(result)] == ["row_cut", "index_unknown"]
    assert "npu-smi info -m" in news(result)[0].message
    assert [device.index for device in result.devices] == [0, None]


def test_list_that_counts_more_than_the_table(box: Box) -> None:
    box.card("0000:c1:00.0")
    box.ready(1)
    box.tool(
        prints(
            info=FIXTURES / "910b4-26.0.rc1-info-wide.txt",
            l="# x\\nTotal Count : 2\\n\\nNPU ID : 0\\nChip Count : 1\\n\\nNPU ID : 1\\nChip Count : 1\\n",
        )
    )
    told = [finding.message for finding in box.probe().findings if finding.code == "card_not_answering"]
    assert any("counts 2 chips, but npu-smi info shows 1" in message for message in told)


def test_installation_that_did_not_end(box: Box) -> None:
    box.ready(1)
    box.write("etc/ascend_install.info", "Driver_Install_Status=failed\n")
    text = (FIXTURES / "310p3-single-25.2.3-info.txt").read_text()
    text += "[WARNING]The driver package may not be completely installed. Please check.\n"
    box.tool(prints(info=box.write("table.txt", text)))
    assert only(box.probe()).code == "driver_incomplete"


def test_tool_gets_the_drivers_libraries(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    box.write("etc/ascend_install.info", "UserName=HwHiAiUser\nDriver_Install_Path_Param=/opt/Ascend\n")
    box.tool(f'echo "$LD_LIBRARY_PATH" > "{box.root}/seen"; exit 1')
    box.probe()
    seen = (box.root / "seen").read_text().strip().split(":")
    assert f"{box.root}/opt/Ascend/driver/lib64/common" in seen
    assert f"{box.root}/usr/local/dcmi" in seen


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


def test_tool_that_hung_is_not_asked_again(box: Box) -> None:
    tool = box.tool(f"echo x >> '{box.root}/started'; sleep 300")
    for limit_s in HANG_LIMITS_S:
        asked = NpuSmi(tool, {"PATH": "/usr/bin:/bin"}, budget(limit_s, clock=lambda: 0.0))
        assert asked.ask("-t", "topo") is None
        if (box.root / "started").exists():
            break
    assert asked.ask("-t", "topo") is None
    assert (box.root / "started").read_text() == "x\n"
