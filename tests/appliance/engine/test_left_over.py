"""What a killed daemon leaves is ended by the next start, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from appliance.engine.left_over import FILE, end_left_over, forget, remember

SERVER = "import subprocess, sys, signal; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']); print(1, flush=True); signal.pause()"  # noqa: E501


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    """A session leader with a child."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    family = [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]
    yield process
    for one in family:
        if one.is_running():
            one.kill()
    process.wait()
    process.stdout.close()


def family_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    top = psutil.Process(process.pid)
    return [top, *top.children()]


def test_a_server_with_its_children_is_ended(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    family = family_of(server)
    remember(tmp_path, server.pid)
    assert end_left_over(tmp_path) == len(family) == 2
    server.wait(timeout=10)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / FILE).exists()


def test_children_are_ended_when_the_server_itself_is_gone(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    child = family_of(server)[1]
    remember(tmp_path, server.pid)
    server.kill()
    server.wait()
    assert end_left_over(tmp_path) == 1
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("change", ["start", "boot", "nonsense", "none"])
def test_another_process_of_that_number_is_left_alone(
    server: subprocess.Popen[bytes], tmp_path: Path, change: str
) -> None:
    remember(tmp_path, server.pid)
    boot, pid, start, *daemon = (tmp_path / FILE).read_text().split()
    said = {
        "start": " ".join([boot, pid, str(int(start) - 1), *daemon]),
        "boot": " ".join(["other", pid, start, *daemon]),
        "nonsense": "x",
        "none": "",
    }
    (tmp_path / FILE).write_text(said[change])
    assert end_left_over(tmp_path) == 0
    assert server.poll() is None


def test_what_a_daemon_that_runs_has_started_is_not_left_over(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Two daemons on one state folder must not end each other's servers in turns."""
    remember(tmp_path, server.pid)
    boot, pid, start, *_ = (tmp_path / FILE).read_text().split()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / "other").mkdir()
        remember(tmp_path / "other", other.pid)
        started = (tmp_path / "other" / FILE).read_text().split()[2]
        (tmp_path / FILE).write_text(f"{boot} {pid} {start} {other.pid} {started}")
        assert end_left_over(tmp_path) == 0
        assert server.poll() is None
        other.kill()
    assert end_left_over(tmp_path) == 2


def test_nothing_to_end(tmp_path: Path) -> None:
    assert end_left_over(tmp_path) == 0
    forget(tmp_path)
    remember(tmp_path, 2**30)
    assert not (tmp_path / FILE).exists()
