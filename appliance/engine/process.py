"""A supervised child process: own process group, log ring, ending by TERM then KILL. For every engine that is one.

An engine may have children of its own (vLLM's engine core and its workers). They are in its process group and end with
it, also when it was killed itself: a worker that outlived its server would keep the cards' memory, and the log's pipe.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LOG_LINES = 400
LOG_LINE_BYTES = 4096

ORPHAN_GRACE_S = 2.0
"""How long the children of an engine that has ended may take to follow it."""

_POLL_S = 0.05

LogListener = Callable[[str], None]
"""Takes each line of the log as it comes."""

_PASSED_ON = ("HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("ASCEND_", "CUDA_", "GGML_", "GOMP_", "LC_", "LD_", "LLAMA_", "NVIDIA_", "OMP_", "XDG_")


def engine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of the daemon's environment that an engine may see: where libraries and cards are, nothing else."""
    return {
        name: value for name, value in environment.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }


def describe_exit(returncode: int) -> str:
    """An exit code as people say it: ``exit code 1``, ``killed by SIGKILL``."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


class SupervisedProcess:
    """One running child. Its stderr and stdout go to a ring of the last lines."""

    def __init__(
        self, process: asyncio.subprocess.Process, log: asyncio.StreamReader, on_line: LogListener | None = None
    ) -> None:
        self._process = process
        self._on_line = on_line
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reader = asyncio.create_task(self._read_log(log), name=f"log of {process.pid}")

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        folder: Path | None = None,
        on_line: LogListener | None = None,
    ) -> SupervisedProcess:
        """Start it in a process group of its own, with ``folder`` as working directory. Raises OSError when it cannot
        be started."""
        # A pipe of our own: asyncio's Process.wait() returns only when nobody holds its pipes any more (Python 3.11):
        # a child's child would keep the end of its parent from being known.
        log, end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=end,
                stderr=end,
                env=dict(environment),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                cwd=folder,
            )
        except BaseException:
            os.close(log)
            raise
        finally:
            os.close(end)
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(log, "rb"))
        return cls(process, stream, on_line)

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """The last lines it wrote, oldest first."""
        return tuple(self._log)[-lines:]

    async def wait(self) -> int:
        """Its exit code, when it and its children have ended and all they wrote is in the log."""
        returncode = await self._process.wait()
        self._signal(signal.SIGTERM)
        left_s = ORPHAN_GRACE_S
        while self._has_group() and left_s > 0:
            await asyncio.sleep(_POLL_S)
            left_s -= _POLL_S
        self._signal(signal.SIGKILL)
        # Not awaited itself: a caller that gives up waiting must not cancel the reading of the log.
        await asyncio.wait({self._reader})
        return returncode

    async def stop(self, timeout_s: float) -> int:
        """End the whole group: TERM, and KILL for what is left after ``timeout_s``. Idempotent."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(self._process.wait()), timeout_s)
            except TimeoutError:
                self._signal(signal.SIGKILL)
        return await self.wait()

    def _has_group(self) -> bool:
        """Whether anything of it runs. Its number is not given away while a child of it still has it as its group's."""
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        """Lines end in a line feed, or in the carriage return of a progress bar; a longer one than the ring takes comes
        in pieces rather than stall the child on a full pipe."""
        rest = b""
        while chunk := await stream.read(LOG_LINE_BYTES):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                self._take_line(line)
            while len(rest) >= LOG_LINE_BYTES:
                self._take_line(rest[:LOG_LINE_BYTES])
                rest = rest[LOG_LINE_BYTES:]
        self._take_line(rest)

    def _take_line(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip()
        if not line:
            return
        self._log.append(line)
        if self._on_line is not None:
            self._on_line(line)
