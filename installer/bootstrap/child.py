"""The one door to subprocesses here: an argument vector, an explicit environment, a time limit, a process group.

Output is read line by line into the log while the caller is told of each line and of passing time. When the run is
interrupted the whole group ends with it: a compiler left behind would eat the machine and hold uv's cache lock.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

_TICK_S = 0.2
_GRACE_S = 5.0
_KEPT_LINES = 4000
_CHUNK_BYTES = 65536


class Failed(Exception):
    """The command ended badly. `reason`: "exit code 2", "signal SIGKILL", "cannot be started: ..." or "over 3600 s";
    `lines`: the end of its output."""

    def __init__(self, argv: Sequence[str], reason: str, lines: Sequence[str]) -> None:
        super().__init__(f"{shlex.join(argv)}: {reason}")
        self.reason = reason
        self.lines = tuple(lines)


def run(
    argv: Sequence[str],
    environ: Mapping[str, str],
    log: BinaryIO,
    on_line: Callable[[str], None],
    on_tick: Callable[[], None],
    timeout_s: float,
) -> list[str]:
    """Run to the end; returns the last lines of the output (stdout and stderr together). Raises Failed."""
    log.write(f"\n$ {shlex.join(argv)}\n".encode())
    log.flush()
    try:
        process = subprocess.Popen(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(argv, f"cannot be started: {error.strerror}", ()) from error
    try:
        lines, in_time = _follow(process, log, on_line, on_tick, time.monotonic() + timeout_s)
    finally:
        _end_group(process)
        log.flush()
    if not in_time:
        raise Failed(argv, f"over {timeout_s:.0f} s", lines)
    if process.returncode != 0:
        raise Failed(argv, _reason(process.returncode), lines)
    return lines


def _follow(
    process: subprocess.Popen[bytes],
    log: BinaryIO,
    on_line: Callable[[str], None],
    on_tick: Callable[[], None],
    deadline_s: float,
) -> tuple[list[str], bool]:
    """Read until the command closes its output and ends, or the deadline passes (then False)."""
    assert process.stdout is not None
    kept: list[str] = []
    rest = b""
    with selectors.DefaultSelector() as selector, process.stdout as output:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if time.monotonic() > deadline_s:
                return kept, False
            if not selector.select(_TICK_S):
                on_tick()
                continue
            chunk = os.read(output.fileno(), _CHUNK_BYTES)
            log.write(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            if not chunk and rest:
                whole.append(rest)
            for raw in whole:
                line = raw.decode("utf-8", "replace").rstrip("\r")
                kept.append(line)
                on_line(line)
            del kept[:-_KEPT_LINES]
            if not chunk:
                break
    try:
        process.wait(max(0.0, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        return kept, False
    return kept, True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the command and everything it started: politely, then not. Nothing to do when it has ended by itself."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        break


def _reason(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
