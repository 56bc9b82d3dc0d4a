"""A program whose lines are wanted as they come, such as one that says how far it is: ``drivers.command``'s rules hold.

The caller's ``on_line`` is called in the same thread for each line of standard output and standard error.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from drivers.command import CommandFailed, CommandResult, FailureKind, command_line, end_process, not_started
from drivers.errors import printable

MOST_LINE_BYTES = 64 << 10
KEPT_LINES = 200
_POLL_S = 0.2


def run_lines(
    argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str], on_line: Callable[[str], None]
) -> CommandResult:
    """Run ``argv`` to its end; the result's ``stdout`` holds the last lines of both outputs, and its exit code is
    whatever it was. Raises ``CommandFailed`` (not started, or out of time)."""
    line = command_line(argv)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise not_started(error, tuple(argv), line) from error
    kept: deque[str] = deque(maxlen=KEPT_LINES)

    def take(raw: bytes) -> None:
        text = printable(raw.decode("utf-8", "replace").expandtabs())
        kept.append(text)
        on_line(text)

    in_time = False
    try:
        in_time = _read(process, started + timeout_s, take)
    finally:
        if not in_time:
            end_process(process)
    if in_time:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(started + timeout_s - time.monotonic(), 1.0))
        end_process(process)
    result = CommandResult(tuple(argv), process.returncode, "\n".join(kept), "", time.monotonic() - started)
    if not in_time:
        message = f"{argv[0]} did not end within {timeout_s:.0f} s and was stopped."
        raise CommandFailed(FailureKind.TIMED_OUT, message, f"Run it by hand: {line}", line, result)
    return result


def _read(process: subprocess.Popen[bytes], deadline: float, take: Callable[[bytes], None]) -> bool:
    """Whether the output ended in time."""
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if not selector.select(_POLL_S):
                if process.poll() is not None:
                    break
                continue
            block = os.read(process.stdout.fileno(), 8192)
            if not block:
                break
            pending += block
            *whole, pending = pending.split(b"\n")
            for raw in whole:
                take(raw)
            if len(pending) > MOST_LINE_BYTES:
                take(pending)
                pending = b""
        else:
            return False
    if pending:
        take(pending)
    return True
