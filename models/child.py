"""Runs a module of ours that loads llama.cpp as a child process; the one door of ``models`` to subprocesses.

llama.cpp ends the whole process when an assertion fails, and a driver below it may hang: neither must reach the caller.
The child gets its request as JSON on standard input, prints one JSON object a line, and is killed with all it started
when time runs out or the caller leaves. Nothing here knows what the lines mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

MOST_OUTPUT_BYTES = 32 * 1024 * 1024
"""A child that prints more than that is killed: the log of the largest model has 200 kB."""
STDERR_BYTES = 4096
"""Kept of its beginning: an assertion comes before the backtrace it leads to."""
MOST_REQUEST_BYTES = 32 * 1024
"""Fits into a pipe, so writing it never waits for the child."""

_KEPT = ("HOME", "PATH", "TMPDIR", "VIRTUAL_ENV")
_KEPT_PREFIXES = ("ASCEND_", "CUDA_", "GGML_", "GOMP_", "LC_", "LD_", "NVIDIA_", "OMP_")
_KILL_WAIT_S = 5.0
_POLL_S = 0.005

Record = dict[str, Any]
"""One line of a child."""


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended. ``exit_code`` is negative for a signal; ``timed_out`` says that it was killed for that.
    ``stderr`` is the first it printed there. ``garbled``: it printed what is no record, or too much."""

    exit_code: int
    timed_out: bool = False
    garbled: bool = False
    stderr: str = ""

    @property
    def how(self) -> str:
        """``exit code 1``, ``killed by SIGABRT``."""
        if self.exit_code >= 0:
            return f"exit code {self.exit_code}"
        try:
            return f"killed by {signal.Signals(-self.exit_code).name}"
        except ValueError:
            return f"killed by signal {-self.exit_code}"


RunChild = Callable[..., ChildEnd]
"""What ``run_child`` is: tests of what stands above give a scripted one."""


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child may see of ours: where libraries and cards are. ``environment`` is added (the devices to show)."""
    kept = {n: v for n, v in os.environ.items() if n in _KEPT or n.startswith(_KEPT_PREFIXES)}
    # An assertion of ggml would start a debugger for a backtrace.
    return {**kept, "GGML_NO_BACKTRACE": "1", **(environment or {})}


def run_child(
    module: str,
    request: Mapping[str, Any],
    on_record: Callable[[Record], None],
    *,
    timeout_s: float | None = None,
    silence_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> ChildEnd:
    """Runs ``python -m MODULE`` and hands over each record as it comes.

    ``timeout_s`` bounds the whole run, ``silence_s`` the time between two records. Whatever ``on_record`` raises ends
    the child and goes on to the caller. Raises ``OSError`` when the child cannot be started, ``ValueError`` for a
    request that is too long.
    """
    body = json.dumps(request).encode()
    if len(body) > MOST_REQUEST_BYTES:
        raise ValueError(f"a request has at most {MOST_REQUEST_BYTES} bytes, this one {len(body)}")
    # Isolated: no file of the current folder is imported. A frozen executable takes the same words.
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(environment),
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died at once; how, its exit code tells
            process.stdin.write(body)
            process.stdin.close()
        reader = _Reader(process, on_record)
        timed_out = not reader.read(timeout_s, silence_s)
    finally:
        _end(process)
    exit_code = -signal.SIGKILL if process.returncode is None else process.returncode
    return ChildEnd(exit_code, timed_out, reader.garbled, reader.stderr.decode("utf-8", "replace"))


class _Reader:
    """Reads both pipes of a child until they end."""

    def __init__(self, process: subprocess.Popen[bytes], on_record: Callable[[Record], None]) -> None:
        self._process = process
        self._on_record = on_record
        self._line = bytearray()
        self._bytes = 0
        self.stderr = bytearray()
        self.garbled = False

    def read(self, timeout_s: float | None, silence_s: float | None) -> bool:
        """False when time ran out."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        end = None if timeout_s is None else time.monotonic() + timeout_s
        quiet = None if silence_s is None else time.monotonic() + silence_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ, True)
            selector.register(self._process.stderr, selectors.EVENT_READ, False)
            while selector.get_map() and not self.garbled:
                deadlines = [d for d in (end, quiet) if d is not None]
                left = min(deadlines) - time.monotonic() if deadlines else None
                if left is not None and left <= 0:
                    return False
                for key, _ in selector.select(left):
                    pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
                    data = os.read(pipe.fileno(), 65_536)
                    if not data:
                        selector.unregister(pipe)
                    elif key.data:
                        quiet = None if silence_s is None else time.monotonic() + silence_s
                        self._take(data)
                    else:
                        self.stderr += data[: STDERR_BYTES - len(self.stderr)]
        while not _has_exited(self._process):
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        return True

    def _take(self, data: bytes) -> None:
        self._bytes += len(data)
        self._line += data
        *lines, rest = bytes(self._line).split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                self.garbled = True
                return
            self._on_record(record)
        self.garbled = self._bytes > MOST_OUTPUT_BYTES


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ended, without collecting it: until its group is killed the group's number must stay ours."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the child's group and collects it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    # One that hangs inside a driver (state D) does not die; it is left behind rather than waited for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_WAIT_S)
