"""The program as `make` starts it: ready at once, stopped early with a plain line, failing with a log, interrupted."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from installer.bootstrap import __main__ as program
from installer.bootstrap import checks, compilers, stamp, steps

ROOT = Path(__file__).resolve().parents[3]


def start(venv: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "installer.bootstrap", "run", "--venv", str(venv)],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(**changes: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "CMAKE", "CC", "CXX"))
    }
    return {**kept, "PIP_CONFIG_FILE": os.devnull, **changes}


def test_nothing_to_do_says_nothing_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "r1box"):
        (venv / "bin" / name).touch()
    tree = steps.Tree(ROOT, venv)
    features = checks.processor_features()
    made = stamp.Stamp(
        form=stamp.FORM,
        level="dev",
        requirements=stamp.fingerprint(tree.pinned_files()),
        build=steps.build_key(compilers.with_safe_flags(os.environ, features), features),
        python=platform.python_version(),
        root=str(ROOT),
    )
    stamp.write(venv, made)
    before = sorted(tmp_path.rglob("*"))
    assert program.main(["run", "--venv", str(venv)]) == 0
    assert program.main(["dev", "--venv", str(venv)]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_machine_without_compilers_is_told_so_before_anything_happens(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    venv = tmp_path / "venv"
    process = start(venv, environment(PATH=str(empty)))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert "g++ (C++ compiler) is missing" in err
    assert "sudo apt-get install -y gcc g++ make" in err
    assert not venv.exists()


def test_a_failed_step_shows_its_end_the_log_and_what_next(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    process = start(venv, environment(PIP_NO_INDEX="1"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "[2/5] uv, the package installer: failed" in out
    assert "No matching distribution found for uv" in err
    assert f"Log:  {venv / 'setup.log'}" in err
    assert "Next: check the way to the package index" in err
    assert "No matching distribution" in (venv / "setup.log").read_text()
    assert stamp.read(venv) is None


def test_an_interrupted_set_up_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    process = start(venv, environment(PIP_NO_INDEX="1"))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[1/5]"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    assert "The next run goes on from here" in err
    assert stamp.read(venv) is None


def test_an_environment_that_was_moved_is_not_reused(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    assert program._reusable(steps.Tree(ROOT, venv))
    moved = tmp_path / "moved"
    shutil.move(venv, moved)
    assert not program._reusable(steps.Tree(ROOT, moved))
    assert not program._reusable(steps.Tree(ROOT, venv))


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("error: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("error: Hash mismatch for `numpy==2.4.6`", "is not the one this repository names"),
        ("error: Failed to fetch: `https://mirror.example/simple/`", "HTTPS_PROXY"),
        ("OSError: [Errno 28] No space left on device", "make room on the disk"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "CMAKE_BUILD_PARALLEL_LEVEL=1"),
        ("something nobody foresaw", "read the log"),
    ],
)
def test_the_next_step_fits_the_failure(line: str, hint: str) -> None:
    failed = program.child.Failed(["uv", "pip", "sync"], "exit code 1", [line])
    text = program._failure(failed, Path("/src/.venv/setup.log"))
    assert "uv pip sync: exit code 1" in text
    assert line in text
    assert hint in text.partition("Next: ")[2]


def test_a_package_in_place_is_old_when_the_tree_has_changed(tmp_path: Path) -> None:
    root = tmp_path / "src"
    for name in ("requirements/bootstrap.txt", "requirements/build.txt", "requirements/demo.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("requirements/dev.txt", "requirements/run.txt", "pyproject.toml", "README.md", "LICENSE"):
        (root / name).touch()
    tree = steps.Tree(root, tmp_path / "venv")
    (tree.venv / "bin").mkdir(parents=True)
    for name in ("python", "r1box"):
        (tree.venv / "bin" / name).touch()
    wanted = program.wanted_stamp(tree, "run", as_wheel=True)
    assert not program.is_made(tree, wanted)
    stamp.write(tree.venv, wanted)
    assert program.is_made(tree, program.wanted_stamp(tree, "run", as_wheel=True))
    assert not program.is_made(tree, program.wanted_stamp(tree, "run", as_wheel=False))
    (root / "appliance").mkdir()
    (root / "appliance" / "new.py").touch()
    assert not program.is_made(tree, program.wanted_stamp(tree, "run", as_wheel=True))
