"""A child process that is asked again and again: one line in, one line out, with a time limit for each answer.

Starting an interpreter and a vendor's library for every sample would cost more than the sample; a child that hangs or
dies must still not reach the caller. It lives in its own process group and is killed as soon as it misses an answer.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO

from drivers.command import (
    CommandFailed,
    CommandResult,
    FailureKind,
    command_line,
    end_process,
    not_started,
    signal_name,
)
from drivers.errors import printable

MAX_LINE_BYTES = 1 << 20
_KEPT_STDERR_BYTES = 4096


class Conversation:
    """A started child. Not safe for several threads at once.

    The child reads lines from standard input and ends when that is closed, so that it does not outlive its parent.
    Every failure ends the child and raises ``CommandFailed``: ``TIMED_OUT``, ``SIGNALLED`` or ``EXIT_CODE``.
    """

    def __init__(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> None:
        """Start the child. Raises ``CommandFailed`` when it cannot be started."""
        self._argv = tuple(argv)
        self._line = command_line(argv)
        self._started = time.monotonic()
        self._pending = bytearray()
        self._said = bytearray()
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise not_started(error, self._argv, self._line) from error
        self._selector = selectors.DefaultSelector()
        for pipe, name in ((self._process.stdout, "stdout"), (self._process.stderr, "stderr")):
            if pipe is not None:
                self._selector.register(pipe, selectors.EVENT_READ, name)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ask(self, question: str, *, timeout_s: float) -> str:
        """Send one line and wait for one line. Raises ``CommandFailed``; the child is then gone."""
        if self._process.stdin is None or self._process.stdin.closed:
            raise ValueError("the conversation is closed")
        try:
            self._process.stdin.write(question.encode() + b"\n")
        except OSError:
            raise self._gone() from None
        return self.read_line(timeout_s=timeout_s)

    def read_line(self, *, timeout_s: float) -> str:
        """Wait for one line that the child prints by itself, without its end. Raises ``CommandFailed``."""
        deadline = time.monotonic() + timeout_s
        while (end := self._pending.find(b"\n")) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._late(timeout_s)
            if len(self._pending) > MAX_LINE_BYTES or not self._read_once(left):
                raise self._gone()
        line = self._pending[:end].decode("utf-8", "replace")
        del self._pending[: end + 1]
        return line

    def close(self) -> None:
        """End the child. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._selector.close()
        end_process(self._process)

    def _read_once(self, timeout_s: float) -> bool:
        """Take what is there; ``False`` when the child has closed its output."""
        for key, _ in self._selector.select(timeout_s):
            pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
            data = os.read(pipe.fileno(), 65536)
            if not data:
                self._selector.unregister(pipe)
                if key.data == "stdout":
                    return False
            elif key.data == "stdout":
                self._pending += data
            else:
                self._said = (self._said + data)[-_KEPT_STDERR_BYTES:]
        return True

    def _late(self, timeout_s: float) -> CommandFailed:
        self.close()
        message = f"{self._argv[0]} gave no answer within {timeout_s:g} s and was stopped."
        hint = f"Run it by hand to see where it hangs: {self._line}"
        return CommandFailed(FailureKind.TIMED_OUT, message, hint, self._line, self._result())

    def _gone(self) -> CommandFailed:
        """The child closed its output, broke off or flooded us."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.returncode
        self.close()
        hint = f"Run it by hand: {self._line}"
        if code is not None and code < 0:
            message = f"{self._argv[0]} was ended by signal {signal_name(-code)}."
            return CommandFailed(FailureKind.SIGNALLED, message, hint, self._line, self._result())
        last = printable(self._said.decode("utf-8", "replace").strip().rpartition("\n")[2][:300])
        message = f"{self._argv[0]} ended with exit code {code}" + (f": {last}" if last else ".")
        return CommandFailed(FailureKind.EXIT_CODE, message, hint, self._line, self._result())

    def _result(self) -> CommandResult:
        said = self._said.decode("utf-8", "replace")
        return CommandResult(self._argv, self._process.returncode, "", said, time.monotonic() - self._started)
