"""Real child processes: output, failures, time limits, and nothing left behind."""

from __future__ import annotations

import io
import os
import signal
import sys
import time

import pytest

from installer.bootstrap import child


def run(code: str, timeout_s: float = 60, on_line: object = None) -> tuple[list[str], bytes]:
    log = io.BytesIO()
    seen: list[str] = []
    watch = on_line if callable(on_line) else seen.append
    kept = child.run([sys.executable, "-c", code], dict(os.environ), log, watch, lambda: None, timeout_s)
    assert on_line is not None or seen == kept
    return kept, log.getvalue()


def gone(pid: int) -> bool:
    """Whether the process has ended within 20 s; a zombie that nobody has fetched yet has ended."""
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        os.sched_yield()
    return False


def test_both_streams_come_line_by_line_and_into_the_log() -> None:
    kept, log = run(
        "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); print('end', end='')"
    )
    assert kept == ["one", "two", "end"]
    assert log.startswith(b"\n$ ")
    assert log.endswith(b"one\ntwo\nend")


def test_output_that_is_no_text_is_shown_as_well_as_can_be() -> None:
    kept, log = run("import sys; sys.stdout.buffer.write(b'a\\xffb\\r\\n')")
    assert kept == ["a\ufffdb"]
    assert log.endswith(b"a\xffb\r\n")


def test_exit_code() -> None:
    with pytest.raises(child.Failed, match="exit code 3") as caught:
        run("print('why'); raise SystemExit(3)")
    assert caught.value.lines == ("why",)
    assert sys.executable in str(caught.value)


def test_signal() -> None:
    with pytest.raises(child.Failed, match="signal SIGKILL"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_not_found() -> None:
    with pytest.raises(child.Failed, match="cannot be started: No such file or directory"):
        child.run(["/nonexistent/uv"], {}, io.BytesIO(), print, lambda: None, 5)


SPAWNER = """
import subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(inner.pid, flush=True)
time.sleep(600)
"""


def test_time_limit_ends_the_whole_group() -> None:
    seen: list[str] = []
    with pytest.raises(child.Failed, match="over 2 s"):
        run(SPAWNER, timeout_s=2, on_line=seen.append)
    assert gone(int(seen[0]))


def test_an_interruption_ends_the_whole_group() -> None:
    seen: list[str] = []

    def interrupt(line: str) -> None:
        seen.append(line)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(SPAWNER, on_line=interrupt)
    assert gone(int(seen[0]))


def test_the_environment_is_the_one_given() -> None:
    log = io.BytesIO()
    code = "import os; print(sorted(os.environ.keys() - {'LC_CTYPE'}))"
    kept = child.run([sys.executable, "-c", code], {"ONLY": "1"}, log, lambda line: None, lambda: None, 60)
    assert kept == ["['ONLY']"]
