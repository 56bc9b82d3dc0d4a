"""The one door to subprocesses: argv lists, an explicit environment, a time limit, never a shell.

Tools of card vendors hang in the kernel, leave children behind and print without end; none of that may reach the
caller. ``run`` starts the program in its own process group, keeps a bounded part of what it prints, and either
returns a ``CommandResult`` or raises ``CommandFailed`` with the reason. It works without any event loop.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from drivers.errors import DriverError, printable

DEFAULT_OUTPUT_LIMIT_BYTES = 1 << 20
KILL_WAIT_S = 1.0
"""How long a killed process may take to go: one that hangs inside a driver (state D) never does."""
LEFTOVER_WAIT_S = 0.1
"""How long to read on after the program ended while something it started still holds its output open."""
REDACTED = "***"

_POLL_S = 0.05
_HIDDEN_WORD = r"(?:token|secret|passw(?:or)?d|api[-_]?key|access[-_]?key|credential)"
_HIDDEN_FLAG = re.compile(rf"--?[\w-]*{_HIDDEN_WORD}[\w-]*", re.IGNORECASE)
_HIDDEN_ASSIGNMENT = re.compile(rf"(?P<name>[\w-]*{_HIDDEN_WORD}[\w-]*\s*[=:]\s*)(?P<value>\S+)", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^/\s:@]*):[^/\s@]+@", re.IGNORECASE)
_BEARER = re.compile(r"(?P<word>\bbearer\s+)\S+", re.IGNORECASE)


class FailureKind(StrEnum):
    """Why a command gave no good result."""

    NOT_FOUND = "not_found"
    NOT_EXECUTABLE = "not_executable"
    TIMED_OUT = "timed_out"
    SIGNALLED = "signalled"
    EXIT_CODE = "exit_code"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. ``exit_code`` is negative for a signal and ``None`` when it never started or had to be
    given up; ``truncated`` says that the output was longer than the limit and its rest is lost."""

    argv: tuple[str, ...]
    exit_code: int | None
    stdout: str
    stderr: str
    duration_s: float
    truncated: bool = False


class CommandFailed(DriverError):
    """A command could not be started, ran out of time, was killed by a signal or exited with a bad code.

    ``kind`` says which, ``result`` holds what it printed until then, ``command_line`` is the command as it can be
    pasted into a shell, without secrets.
    """

    def __init__(self, kind: FailureKind, message: str, hint: str | None, command_line: str, result: CommandResult):
        super().__init__(f"command_{kind.value}", message, hint, command=command_line, exit_code=result.exit_code)
        self.kind = kind
        self.command_line = command_line
        self.result = result


def minimal_environment(keep: Sequence[str] = (), **extra: str) -> dict[str, str]:
    """Environment for a tool: a fixed PATH and language, the named variables of ours when set, and ``extra``.

    The language is fixed because vendor tools translate their words and the parsers read the English ones.
    """
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    environment.update({name: os.environ[name] for name in keep if name in os.environ})
    environment.update(extra)
    return environment


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """``text`` without the given secrets, values of secret-looking settings, passwords in URLs and bearer tokens."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    text = _HIDDEN_ASSIGNMENT.sub(rf"\g<name>{REDACTED}", text)
    text = _URL_PASSWORD.sub(rf"\g<scheme>:{REDACTED}@", text)
    return _BEARER.sub(rf"\g<word>{REDACTED}", text)


def command_line(argv: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """The command as one line for a shell, secrets left out."""
    words: list[str] = []
    hide_next = False
    for word in argv:
        words.append(REDACTED if hide_next else redact(word, secrets))
        hide_next = _HIDDEN_FLAG.fullmatch(word) is not None
    return shlex.join(words)


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    ok_codes: Sequence[int] = (0,),
    output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES,
    secrets: Sequence[str] = (),
) -> CommandResult:
    """Run ``argv`` to its end and return what it printed (decoded as UTF-8, unreadable bytes replaced).

    ``timeout_s`` bounds the whole run; ``output_limit_bytes`` bounds each of stdout and stderr; what comes after it
    is read and dropped, so that the program does not block. Raises ``CommandFailed``.
    """
    if not argv:
        raise ValueError("argv is empty")
    line = command_line(argv, secrets)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise not_started(error, tuple(argv), line) from error
    output = _Output(output_limit_bytes)
    try:
        in_time = output.read(process, deadline=started + timeout_s)
    finally:
        ended = end_process(process)
    result = CommandResult(
        argv=tuple(argv),
        exit_code=process.returncode if ended else None,
        stdout=output.text("stdout"),
        stderr=output.text("stderr"),
        duration_s=time.monotonic() - started,
        truncated=output.truncated,
    )
    if not in_time:
        message = f"{argv[0]} gave no answer within {timeout_s:g} s and was stopped."
        if not ended:
            message = f"{argv[0]} gave no answer within {timeout_s:g} s and cannot be stopped: it hangs in the kernel."
        raise CommandFailed(
            FailureKind.TIMED_OUT, message, f"Run it by hand to see where it hangs: {line}", line, result
        )
    _check(result, ok_codes, line, secrets)
    return result


def _check(result: CommandResult, ok_codes: Sequence[int], line: str, secrets: Sequence[str]) -> None:
    code = result.exit_code
    if code in ok_codes:
        return
    hint = f"Run it by hand: {line}"
    if code is not None and code < 0:
        name = signal_name(-code)
        message = f"{result.argv[0]} was ended by signal {name}."
        raise CommandFailed(FailureKind.SIGNALLED, message, hint, line, result)
    last = printable(redact((result.stderr.strip() or result.stdout.strip()).rpartition("\n")[2][:300], secrets))
    message = f"{result.argv[0]} ended with exit code {code}" + (f": {last}" if last else ".")
    raise CommandFailed(FailureKind.EXIT_CODE, message, hint, line, result)


def not_started(error: OSError, argv: tuple[str, ...], line: str) -> CommandFailed:
    """Why a program could not be started."""
    result = CommandResult(argv=argv, exit_code=None, stdout="", stderr="", duration_s=0.0)
    if isinstance(error, FileNotFoundError):
        message, hint = f"{argv[0]} was not found.", "Install it, or check the path."
        return CommandFailed(FailureKind.NOT_FOUND, message, hint, line, result)
    message = f"{argv[0]} cannot be run: {error.strerror or error}."
    return CommandFailed(FailureKind.NOT_EXECUTABLE, message, "Check its permissions and its format.", line, result)


def signal_name(number: int) -> str:
    """``9 (SIGKILL)``."""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process ended, without collecting it: its group must stay ours until it is killed."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def end_process(process: subprocess.Popen[bytes]) -> bool:
    """Kill what is left of the process group and collect the process; ``False`` if it does not die."""
    try:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        return False
    return True


class _Output:
    """Reads both pipes of a process up to a limit each."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.truncated = False

    def text(self, name: str) -> str:
        return self._kept[name].decode("utf-8", "replace")

    def read(self, process: subprocess.Popen[bytes], *, deadline: float) -> bool:
        """Read until the process has ended; ``False`` when the deadline came first."""
        with selectors.DefaultSelector() as selector:
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, name)
            while selector.get_map():
                if time.monotonic() >= deadline:
                    return False
                if _has_exited(process):
                    deadline_leftover = min(deadline, time.monotonic() + LEFTOVER_WAIT_S)
                    self._read_ready(selector, until=deadline_leftover)
                    return True
                self._read_once(selector, min(_POLL_S, deadline - time.monotonic()))
        while not _has_exited(process):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S / 5)
        return True

    def _read_ready(self, selector: selectors.BaseSelector, *, until: float) -> None:
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            self._read_once(selector, left)

    def _read_once(self, selector: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in selector.select(max(0.0, timeout_s)):
            pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
            data = os.read(pipe.fileno(), 65536)
            if not data:
                selector.unregister(pipe)
                continue
            kept = self._kept[key.data]
            room = self._limit_bytes - len(kept)
            kept += data[:room]
            self.truncated |= len(data) > room
