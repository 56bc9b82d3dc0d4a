"""What a machine must have: found missing all at once, with one apt line."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.bootstrap import checks


def on_path(*names: str):  # type: ignore[no-untyped-def]
    return lambda name: f"/usr/bin/{name}" if name in names else None


def test_a_complete_machine_has_no_problems() -> None:
    assert checks.missing_tools({}, on_path("gcc", "g++", "make"), lambda name: True) == []


def test_everything_missing_is_named_at_once_with_one_apt_line() -> None:
    problems = checks.missing_tools({}, on_path(), lambda name: False)
    assert [problem.package for problem in problems] == ["python3-venv", "gcc", "g++", "make"]
    assert checks.apt_line(problems) == "sudo apt-get install -y python3-venv gcc g++ make"


def test_debian_without_ensurepip_needs_python3_venv() -> None:
    problems = checks.missing_tools({}, on_path("gcc", "g++", "make"), lambda name: name != "ensurepip")
    assert [problem.package for problem in problems] == ["python3-venv"]


def test_another_compiler_may_be_named() -> None:
    environ = {"CC": "clang -m64", "CXX": "clang++"}
    assert checks.missing_tools(environ, on_path("clang", "clang++", "make"), lambda name: True) == []


def test_a_named_compiler_that_is_not_there_is_not_mended_by_apt() -> None:
    problems = checks.missing_tools({"CC": "icx"}, on_path("gcc", "g++", "make"), lambda name: True)
    assert len(problems) == 1
    assert "icx" in problems[0].message
    assert "$CC" in problems[0].message
    assert checks.apt_line(problems) is None


def test_disk_problem_gives_both_figures(tmp_path: Path) -> None:
    assert checks.disk_problem(tmp_path, needed_bytes=0) is None
    problem = checks.disk_problem(tmp_path, needed_bytes=1 << 62)
    assert problem is not None
    assert "GiB free" in problem.message


@pytest.mark.parametrize(
    ("cores", "available_bytes", "jobs"),
    [(8, 64 << 30, 8), (8, 3 << 30, 3), (2, 100 << 20, 1), (4, None, 4), (0, None, 1)],
)
def test_build_jobs_fit_cores_and_memory(cores: int, available_bytes: int | None, jobs: int) -> None:
    assert checks.build_jobs(cores, available_bytes) == jobs


def test_available_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24689764 kB\nMemAvailable:   22020096 kB\n")
    assert checks.available_memory_bytes(meminfo) == 21 << 30
    meminfo.write_text("MemTotal: lots\n")
    assert checks.available_memory_bytes(meminfo) is None
    assert checks.available_memory_bytes(tmp_path / "none") is None


def test_processor_features_leave_out_what_a_kernel_adds(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 sse4_2 ibpb fma avx512f ssse3 pti\n\nprocessor\t: 1\n")
    assert checks.processor_features(cpuinfo) == "avx2 avx512f fma sse4_2 ssse3"
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp sve i8mm cpuid\n")
    assert checks.processor_features(cpuinfo) == "asimd asimddp i8mm sve"
    assert checks.processor_features(tmp_path / "none") == ""
