"""Consoles in browsers: each a child process that runs ``tui`` for one person who has logged in.

A child has no terminal. It speaks the protocol of Textual's web driver on its standard input and output, the one that
textual-serve speaks: a packet is one letter (``D`` text, ``M`` JSON about it), four bytes of length (big-endian), and
that many bytes. textual-serve's own server is not used: it has no login, no bound, starts a shell, and talks by
WebSocket, past every check that requests of this box go through (session, CSRF token, origin, connection limits).

The child asks the daemon by the admin socket, and sends the person's session with every question: what it may is what
the person may at that moment, and the audit log has the person's name. The session comes to it through a pipe, not by
its arguments or its environment, which others of the machine could read.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from appliance.errors import AppError

MOST_TERMINALS = 4
"""At the same time, of all people together: each takes about 70 MB."""
HEAD = b"__GANGLION__\n"
"""What the web driver writes first."""
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 3.0
_WATCH_EVERY_S = 5.0
_LONGEST_PACKET_BYTES = 16 * 1024 * 1024
_QUEUED_PACKETS = 32
_PASSED_ON = ("PATH", "TZ", "TMPDIR")

_log = structlog.get_logger(__name__)


class ConsoleOff(AppError):
    """The console is not served to browsers."""

    code = "browser_console_off"
    http_status = 404
    template = "The console is not served to browsers by this box."
    hint_template = "An administrator switches it on with the setting browser_console; until then: r1box-console."


class ConsoleUnavailable(AppError):
    """The child could not be started or ended at once."""

    code = "console_unavailable"
    http_status = 503
    template = "The console could not be started: {reason}."
    hint_template = "The daemon's log says more; r1box-console on the box works without it."


class TooManyConsoles(AppError):
    """All places are taken."""

    code = "too_many_consoles"
    http_status = 429
    template = "{most} consoles are open in browsers, the most that this box runs at the same time."
    hint_template = "Close one of them, or use r1box-console over ssh."
    retry_after_s = 30


class NoSuchConsole(AppError):
    """It has ended, or is another person's."""

    code = "no_such_console"
    http_status = 404
    template = "This console has ended."
    hint_template = "Open it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose console it is: the session's id, and the headers that make a request the session's own."""

    session_id: int
    name: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the console is drawn for, in cells."""

    columns: int
    rows: int
    language: str = "en"
    light: bool = False


class Terminal:
    """One console. ``output`` ends when the child does, for whatever reason; ``reason`` is then ``left`` (the person
    left it), ``logged_out``, ``stopped`` (by the box) or ``failed``. One writer of ``reason``: ``end``."""

    def __init__(self, process: asyncio.subprocess.Process, holder: Holder) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.id = secrets.token_urlsafe(18)
        self.holder = holder
        self.reason: str | None = None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._packets: asyncio.Queue[str | None] = asyncio.Queue(_QUEUED_PACKETS)
        self._tasks = [asyncio.create_task(self._read(), name=f"console {process.pid}")]

    async def output(self) -> AsyncGenerator[str, None]:
        """What the terminal is to show, as it comes. A reader that is slow makes the child wait."""
        while (text := await self._packets.get()) is not None:
            yield text

    async def type(self, keys: str) -> None:
        """What the person typed. Raises NoSuchConsole."""
        await self._send(b"D", keys.encode())

    async def resize(self, columns: int, rows: int) -> None:
        """The window has another size. Raises NoSuchConsole."""
        await self._tell({"type": "resize", "width": columns, "height": rows})

    async def focus(self, focused: bool) -> None:
        """The window got or lost the focus. Raises NoSuchConsole."""
        await self._tell({"type": "focus" if focused else "blur"})

    def watch(self, lasts: Callable[[], Awaitable[bool]], every_s: float) -> None:
        """End it when the session does."""

        async def look() -> None:
            while await lasts():  # noqa: ASYNC110  nobody tells of a session's end
                await asyncio.sleep(every_s)
            self.end("logged_out")

        self._tasks.append(asyncio.create_task(look(), name=f"session of console {self._process.pid}"))

    def end(self, reason: str) -> None:
        """Have it end; ``aclose`` waits for that."""
        if self.reason is None:
            self.reason = reason
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    async def aclose(self) -> None:
        """End it, by force where it does not follow. Idempotent."""
        self.end("left")
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._stdin.close()
        # Read to its end, by nobody: a child that waits to write cannot end, and its pipe would stay open.
        rest = asyncio.create_task(self._forget(), name=f"rest of console {self._process.pid}")
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        await asyncio.wait({rest})

    async def _forget(self) -> None:
        with suppress(OSError):
            while await self._stdout.read(65_536):
                pass

    async def _read(self) -> None:
        said_so = False
        with suppress(asyncio.IncompleteReadError, ValueError, OSError):
            while (packet := await self._packet()) is not None:
                await self._packets.put(packet)
            said_so = True
        self.end("left" if said_so and await self._exit_code() == 0 else "failed")
        await self._packets.put(None)

    async def _exit_code(self) -> int | None:
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT_S)
        return None

    async def _packet(self) -> str | None:
        """The next text; None when it says that it has ended. Raises IncompleteReadError, ValueError."""
        while True:
            head = await self._stdout.readexactly(5)
            kind, size = head[:1], int.from_bytes(head[1:], "big")
            if size > _LONGEST_PACKET_BYTES:
                raise ValueError(size)
            payload = await self._stdout.readexactly(size)
            if kind == b"D":
                return payload.decode("utf-8", "replace")
            # Files and addresses that an application may hand to its browser: the console hands out none.
            if kind == b"M" and json.loads(payload).get("type") == "exit":
                return None

    async def _tell(self, fact: Mapping[str, object]) -> None:
        await self._send(b"M", json.dumps(fact).encode())

    async def _send(self, kind: bytes, payload: bytes) -> None:
        if self.reason is not None:
            raise NoSuchConsole
        try:
            self._stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
            await self._stdin.drain()
        except OSError as error:
            raise NoSuchConsole from error


class Terminals:
    """All consoles of the box. ``socket`` is the daemon's admin socket. ``enabled`` may change while the box runs: what
    is open then ends. For one event loop."""

    def __init__(self, socket: Path, *, enabled: bool, watch_every_s: float = _WATCH_EVERY_S) -> None:
        self.enabled = enabled
        self._socket = socket
        self._watch_every_s = watch_every_s
        self._open: dict[str, Terminal] = {}
        self._starting = 0

    def __len__(self) -> int:
        return len(self._open) + self._starting

    def retune(self, *, enabled: bool) -> None:
        """Serve consoles, or end those that are there."""
        self.enabled = enabled
        if not enabled:
            for one in self._open.values():
                one.end("stopped")

    async def open(self, holder: Holder, window: Window, lasts: Callable[[], Awaitable[bool]]) -> Terminal:
        """Start a console. ``lasts`` says whether the session is still there and still may. Raises ConsoleOff,
        TooManyConsoles, ConsoleUnavailable."""
        if not self.enabled:
            raise ConsoleOff
        if len(self) >= MOST_TERMINALS:
            raise TooManyConsoles(most=MOST_TERMINALS)
        self._starting += 1
        try:
            terminal = Terminal(await self._start(holder, window), holder)
        finally:
            self._starting -= 1
        terminal.watch(lasts, self._watch_every_s)
        self._open[terminal.id] = terminal
        _log.info("console_opened", by=holder.name, open=len(self))
        return terminal

    def find(self, terminal_id: str, session_id: int) -> Terminal:
        """The session's console of that id. Raises NoSuchConsole."""
        found = self._open.get(terminal_id)
        if found is None or found.holder.session_id != session_id:
            raise NoSuchConsole
        return found

    async def close(self, terminal: Terminal) -> None:
        """End a console. Idempotent."""
        if self._open.pop(terminal.id, None) is not None:
            await terminal.aclose()
            _log.info("console_closed", by=terminal.holder.name, reason=terminal.reason, open=len(self))

    async def aclose(self) -> None:
        """End all."""
        self.retune(enabled=False)
        for one in list(self._open.values()):
            await self.close(one)

    async def _start(self, holder: Holder, window: Window) -> asyncio.subprocess.Process:
        if not await asyncio.to_thread(self._socket.is_socket):
            raise ConsoleUnavailable(reason=f"the admin socket {self._socket} is not there")
        reading, writing = os.pipe()
        try:
            # Less than a pipe holds, so this cannot block.
            os.write(writing, json.dumps(dict(holder.headers)).encode())
        finally:
            os.close(writing)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-m", "tui.__main__"),
                *("--socket", str(self._socket), "--served", str(reading), "--language", window.language),
                *(("--light",) if window.light else ()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                # A traceback has the values of variables, the session's secret among them.
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(os.environ, window),
                pass_fds=(reading,),
                start_new_session=True,
            )
        except OSError as error:
            raise ConsoleUnavailable(reason=error.strerror or type(error).__name__) from error
        finally:
            os.close(reading)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(_START_TIMEOUT_S):
                await process.stdout.readuntil(HEAD)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = await process.wait()
            _log.warning("console_failed", exit_code=code)
            raise ConsoleUnavailable(reason=f"it ended with code {code} before it showed anything") from error
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return process


def _environment(environ: Mapping[str, str], window: Window) -> dict[str, str]:
    """Where programs and words are, and the window; nothing of the daemon's own."""
    return {
        **{name: environ[name] for name in _PASSED_ON if name in environ},
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "COLUMNS": str(window.columns),
        "ROWS": str(window.rows),
    }
