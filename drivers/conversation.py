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
    LEFTOVER_WAIT_S,
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
GONE_WAIT_S = 1.0
"""How long a child whose output ended may take to end itself, so that its exit code can be told."""

_KEPT_STDERR_BYTES = 4096


class Conversation:
    """A started child. Not safe for several threads at once.

    The child reads lines from standard input and ends when that is closed, so that it does not outlive its parent.
    Every failure ends the child and raises ``CommandFailed``: ``TIMED_OUT``, ``SIGNALLED`` or ``EXIT_CODE``; the last
    one also for a child that closes its output or prints without end, and then ``result.exit_code`` is ``None``: it
    was running and was stopped.
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
        if "\n" in question:
            raise ValueError("a question is one line")
        stdin = self._open_stdin()
        try:
            stdin.write(question.encode() + b"\n")
        except OSError:
            raise self._gone() from None
        return self.read_line(timeout_s=timeout_s)

    def read_line(self, *, timeout_s: float) -> str:
        """Wait for one line that the child prints by itself, without its end. Raises ``CommandFailed``."""
        self._open_stdin()
        deadline = time.monotonic() + timeout_s
        while (end := self._pending.find(b"\n")) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._late(timeout_s)
            if len(self._pending) > MAX_LINE_BYTES:
                raise self._flooded()
            if not self._read_once(left):
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

    def _open_stdin(self) -> IO[bytes]:
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            raise ValueError("the conversation is closed")
        return stdin

    def _read_once(self, timeout_s: float) -> bool:
        """Take what is there; ``False`` when the child has closed its output."""
        is_open = True
        for key, _ in self._selector.select(timeout_s):
            pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
            data = os.read(pipe.fileno(), 65536)
            if not data:
                self._selector.unregister(pipe)
                is_open = is_open and key.data != "stdout"
            elif key.data == "stdout":
                self._pending += data
            else:
                self._said = (self._said + data)[-_KEPT_STDERR_BYTES:]
        return is_open

    def _late(self, timeout_s: float) -> CommandFailed:
        self.close()
        message = f"{self._argv[0]} gave no answer within {timeout_s:g} s and was stopped."
        hint = f"Run it by hand to see where it hangs: {self._line}"
        return CommandFailed(FailureKind.TIMED_OUT, message, hint, self._line, self._result(self._process.returncode))

    def _flooded(self) -> CommandFailed:
        self.close()
        message = f"{self._argv[0]} printed {MAX_LINE_BYTES} bytes without the end of a line and was stopped."
        return self._failed(FailureKind.EXIT_CODE, message, None)

    def _gone(self) -> CommandFailed:
        """The child ended, or closed its output."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GONE_WAIT_S)
        code = self._process.returncode
        self._read_last_words()
        self.close()
        if code is not None and code < 0:
            return self._failed(
                FailureKind.SIGNALLED, f"{self._argv[0]} was ended by signal {signal_name(-code)}.", code
            )
        what = "closed its output and was stopped" if code is None else f"ended with exit code {code}"
        last = printable(self._said.decode("utf-8", "replace").strip().rpartition("\n")[2][:300])
        return self._failed(FailureKind.EXIT_CODE, f"{self._argv[0]} {what}" + (f": {last}" if last else "."), code)

    def _read_last_words(self) -> None:
        """What the child wrote to standard error before it ended. Waits a moment at most: another program that the
        child started may hold the pipe open."""
        if self._process.stdout is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._process.stdout)
        deadline = time.monotonic() + LEFTOVER_WAIT_S
        while self._selector.get_map() and (left := deadline - time.monotonic()) > 0:
            self._read_once(left)

    def _failed(self, kind: FailureKind, message: str, code: int | None) -> CommandFailed:
        hint = f"Run it by hand: {self._line}"
        return CommandFailed(kind, message, hint, self._line, self._result(code))

    def _result(self, exit_code: int | None) -> CommandResult:
        said = self._said.decode("utf-8", "replace")
        return CommandResult(self._argv, exit_code, "", said, time.monotonic() - self._started)
