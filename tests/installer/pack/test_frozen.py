"""The frozen program's first file, run by an ordinary Python: names, children, environment."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from installer.pack import frozen
from tests.architecture.tree import ROOT, modules

ENTRY = Path(frozen.__file__)


def called(name: str, *arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the file under this name."""
    link = tmp_path / name
    code = f"import sys; sys.argv[0] = {str(link)!r}; from installer.pack import frozen; frozen.main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )


def test_every_child_of_ours_is_one_the_frozen_program_takes() -> None:
    """Whoever starts a Python of ours does it with -m; a module that is missing here would only fail when shipped."""
    started = set()
    for path in modules("appliance", "drivers", "models", "tui"):
        source = path.read_text(encoding="utf-8")
        if "sys.executable" in source:
            started |= set(re.findall(r'"-m", "([\w.]+)"', source))
        started |= set(re.findall(r'^CHILD = "([\w.]+)"', source, re.MULTILINE))
    assert started == set(frozen.CHILDREN)


def test_no_child_is_started_by_path() -> None:
    """A frozen program has no source files."""
    by_path = [
        str(path.relative_to(ROOT))
        for path in modules("appliance", "drivers", "models")
        if re.search(r"sys\.executable, [^\]]*__file__", path.read_text(encoding="utf-8"))
    ]
    assert by_path == []


@pytest.mark.parametrize("module", [*frozen.CHILDREN, *frozen.PROGRAMS.values()])
def test_its_modules_are_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize(
    ("arguments", "child"),
    [
        (["-I", "-m", "drivers.nvml", "--watch"], ("drivers.nvml", ["--watch"])),
        (["-m", "appliance.engine.llamacpp.worker", "7"], ("appliance.engine.llamacpp.worker", ["7"])),
        (["-I", "-m", "os"], None),
        (["-m", "http.server"], None),
        (["serve", "-m", "drivers.nvml"], None),
        (["-m"], None),
        ([], None),
    ],
)
def test_python_words(arguments: list[str], child: tuple[str, list[str]] | None) -> None:
    assert frozen.child_of(arguments) == child


def test_what_we_start_does_not_load_our_libraries() -> None:
    environ = {"LD_LIBRARY_PATH": "/opt/r1box/_internal", "PATH": "/bin"}
    frozen.restore_environment(environ)
    assert environ == {"PATH": "/bin"}
    environ = {"LD_LIBRARY_PATH": "/opt/r1box/_internal", "LD_LIBRARY_PATH_ORIG": "/usr/local/Ascend/lib"}
    frozen.restore_environment(environ)
    assert environ == {"LD_LIBRARY_PATH": "/usr/local/Ascend/lib"}


def test_the_name_says_which_program(tmp_path: Path) -> None:
    assert "r1box" in called("r1box", "--version", tmp_path=tmp_path).stdout
    assert "match-disks" in called("r1box-install", "--help", tmp_path=tmp_path).stdout
    assert "--page-url" in called("r1box-console", "--help", tmp_path=tmp_path).stdout
    other = called("python3", "-c", "print(1)", tmp_path=tmp_path)
    assert other.returncode == 2
    assert "r1box-console" in other.stderr


def test_a_child_runs_as_python_runs_it(tmp_path: Path) -> None:
    done = called("r1box", "-I", "-m", "drivers.dcmi", "--library", "/nowhere/libdcmi.so", tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"kind"' in done.stdout
