"""The server behind an engine: one that the box starts and ends, or one that somebody else runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from appliance.engine.external.launch import Endpoint, Launch
from appliance.engine.external.startlog import StartLog, without_secrets
from appliance.engine.left_over import end_left_over, forget, remember
from appliance.engine.process import LOG_LINES, SupervisedProcess, describe_exit, engine_environment
from appliance.errors import EngineStartFailed

_log = structlog.get_logger(__name__)

CLEANUP_TIMEOUT_S = 30.0


class Server(Protocol):
    """What an engine needs of its server. ``start`` once; ``stop`` at any time, any number of times."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def pid(self) -> int | None: ...

    async def start(self, on_progress: Callable[[float], None]) -> None:
        """Begin to start it. Raises EngineStartFailed."""
        ...

    async def wait_ended(self) -> str:
        """Return when it has ended by itself, with the cause in one line; never for a server that is not ours."""
        ...

    def has_ended(self) -> bool: ...

    def failure(self, cause: str) -> EngineStartFailed:
        """Why its start failed: its log's own reason where it gives one, else ``cause``."""
        ...

    def log_tail(self, lines: int = 20) -> tuple[str, ...]: ...

    async def stop(self, timeout_s: float) -> None: ...


class LaunchedServer:
    """A child process of the box."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._process: SupervisedProcess | None = None
        self._start_log = StartLog(launch.words)
        self._on_progress: Callable[[float], None] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return self._launch.endpoint

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self, on_progress: Callable[[float], None]) -> None:
        launch = self._launch
        self._on_progress = on_progress
        try:
            if launch.folder is not None:
                await asyncio.to_thread(end_left_over, launch.folder)
            await asyncio.to_thread(_lay_out, launch)
            self._process = await SupervisedProcess.start(
                launch.argv,
                environment={**_environment(), **launch.environment},
                folder=launch.folder,
                on_line=self._take_line,
            )
            if launch.folder is not None:
                await asyncio.to_thread(remember, launch.folder, self._process.pid)
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename or launch.argv[0]}"
            raise EngineStartFailed(
                cause=f"{launch.engine} cannot be started ({reason})", cause_code="engine_not_runnable"
            ) from error

    async def wait_ended(self) -> str:
        assert self._process is not None
        return describe_exit(await self._process.wait())

    def has_ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    def failure(self, cause: str) -> EngineStartFailed:
        lines = self.log_tail(LOG_LINES)
        found = self._start_log.cause(lines)
        return EngineStartFailed(
            cause=f"{self._launch.engine} says: {found}" if found else f"{self._launch.engine}: {cause}",
            log_tail=lines[-40:],
            cause_code="engine_said_why" if found else "engine_start_failed",
        )

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        if self._process is None:
            return ()
        return without_secrets(self._process.log_tail(lines), self._launch.secrets)

    async def stop(self, timeout_s: float) -> None:
        if self._process is None:
            return
        await self._process.stop(timeout_s)
        if self._launch.cleanup:
            await self._clean_up()
        await asyncio.to_thread(_remove, self._launch)
        if self._launch.folder is not None:
            await asyncio.to_thread(forget, self._launch.folder)

    async def _clean_up(self) -> None:
        try:
            process = await SupervisedProcess.start(self._launch.cleanup, environment=_environment())
            await asyncio.wait_for(process.wait(), CLEANUP_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            _log.warning("engine_not_cleaned_up", engine=self._launch.engine, cause=str(error) or "it took too long")

    def _take_line(self, line: str) -> None:
        before = self._start_log.fraction
        self._start_log.take(line)
        if self._start_log.fraction > before and self._on_progress is not None:
            self._on_progress(self._start_log.fraction)


class AttachedServer:
    """A server that somebody else runs: never started, never ended."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def pid(self) -> int | None:
        return None

    async def start(self, on_progress: Callable[[float], None]) -> None:
        return

    async def wait_ended(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    def has_ended(self) -> bool:
        return False

    def failure(self, cause: str) -> EngineStartFailed:
        return EngineStartFailed(cause=f"the server at {self._endpoint.url}: {cause}", cause_code="attached_server")

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        return ()

    async def stop(self, timeout_s: float) -> None:
        return


def _environment() -> dict[str, str]:
    """What a server may see of the daemon's environment; where the daemon's own packages are is not part of it."""
    return {
        name: value
        for name, value in engine_environment(os.environ).items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }


def _lay_out(launch: Launch) -> None:
    """The files that the server reads, and an empty place for its socket."""
    for file in launch.files:
        file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.path.with_name(f".{file.path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(file.text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file.path)
    unix_socket = launch.endpoint.unix_socket
    if unix_socket is not None:
        unix_socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unix_socket.unlink(missing_ok=True)


def _remove(launch: Launch) -> None:
    """What a server leaves: its socket, and files with its secrets."""
    left = [file.path for file in launch.files if any(secret in file.text for secret in launch.secrets)]
    for path in (*left, *((launch.endpoint.unix_socket,) if launch.endpoint.unix_socket is not None else ())):
        with suppress(OSError):
            path.unlink()
