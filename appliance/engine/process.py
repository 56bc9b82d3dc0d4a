"""A supervised child process: own process group, log ring, ending by TERM then KILL. For every engine that is one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

LOG_LINES = 400
LOG_LINE_BYTES = 4096

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

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reader = asyncio.create_task(self._read_log(), name=f"log of {process.pid}")

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> SupervisedProcess:
        """Start it in a process group of its own. Raises OSError when it cannot be started."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            limit=LOG_LINE_BYTES,
        )
        return cls(process)

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
        """Its exit code, when it has ended and all it wrote is in the log."""
        returncode = await self._process.wait()
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

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    async def _read_log(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = end.partial
                if not line:
                    return
            except asyncio.LimitOverrunError as long:
                # A line longer than the ring takes: keep it in pieces rather than stall the child on a full pipe.
                line = await stream.readexactly(long.consumed)
            self._log.append(line.decode(errors="replace").rstrip())
