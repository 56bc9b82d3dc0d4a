"""Log files in the state folder, for boxes whose output nobody collects: JSON lines, rotated, of bounded size.

Lines are written by a thread of its own, so a slow or full disk delays no answer; while it is behind by more than the
queue holds, lines are dropped and counted, and the count is a line.
"""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

from appliance.logs import add_sink, is_in_journal
from appliance.settings import Settings

_log = structlog.get_logger(__name__)

NAME = "r1box.log"
FILES = 4
"""One that is written and three older ones."""

_MOST_WAITING = 10_000
_CLOSE_TIMEOUT_S = 5.0


class LogFile:
    """``handler`` goes to ``configure_logging``; ``close`` writes what waits. ``folder`` is made, for its owner
    alone."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        """Raises OSError when the folder or the file cannot be made."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._waiting: queue.Queue[Any] = queue.Queue(_MOST_WAITING)
        writer = _Writer(folder / NAME, maxBytes=max(max_bytes // FILES, 1), backupCount=FILES - 1, encoding="utf-8")
        writer.setFormatter(logging.Formatter("%(message)s"))
        self._listener = _Listener(self._waiting, writer)
        self.handler: logging.Handler = _Handler(self._waiting)
        self._writer = writer
        self._listener.start()

    def close(self) -> None:
        """Write what waits and end the thread. Idempotent; blocks for as long as the disk takes, some seconds at
        most."""
        self._listener.stop()
        self._writer.close()


def open_log_file(settings: Settings) -> LogFile | None:
    """The files of a daemon with these settings, which all loggers write to from now on; None where the journal has its
    lines, the setting says none, or the folder cannot be written (which the log says)."""
    if settings.log_file_bytes == 0 or is_in_journal():
        return None
    try:
        files = LogFile(log_folder(settings.state_dir), max_bytes=settings.log_file_bytes)
    except OSError as error:
        _log.warning("no_log_file", reason=error.strerror or str(error))
        return None
    add_sink(files.handler)
    return files


def log_folder(state_dir: Path) -> Path:
    """Where the files are."""
    return state_dir / "logs"


def read_lines(folder: Path) -> Iterator[str]:
    """The lines of all files in ``folder``, the oldest first; nothing where there are none. Raises OSError."""
    for number in range(FILES - 1, -1, -1):
        file = folder / (f"{NAME}.{number}" if number else NAME)
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
                yield from lines
        except FileNotFoundError:
            continue


class _Handler(QueueHandler):
    """Renders in the caller's thread, where the request's context is, and never waits."""

    def __init__(self, waiting: queue.Queue[Any]) -> None:
        super().__init__(waiting)
        self._waiting = waiting
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                line = _dropped_line(record, self._dropped)
                self._waiting.put_nowait(logging.makeLogRecord({**record.__dict__, "msg": line}))
                self._dropped = 0
            self._waiting.put_nowait(record)
        except queue.Full:
            self._dropped += 1


class _Listener(QueueListener):
    def __init__(self, waiting: queue.Queue[Any], writer: logging.Handler) -> None:
        super().__init__(waiting, writer)
        self._waiting = waiting

    def stop(self) -> None:
        """End the thread when it has written what waits; a disk that hangs loses it with the process."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(queue.Full):
                self._waiting.put(None, timeout=_CLOSE_TIMEOUT_S)
            thread.join(_CLOSE_TIMEOUT_S)


class _Writer(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        opened = open(self.baseFilename, self.mode, encoding=self.encoding, opener=_private)  # noqa: SIM115
        assert isinstance(opened, TextIOWrapper)
        return opened

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk has an issue of its own; a traceback for every line would help nobody."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _dropped_line(record: logging.LogRecord, count: int) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
    return (
        f'{{"event": "log_lines_dropped", "count": {count}, "level": "warning", "logger": "log", "timestamp": "{at}"}}'
    )
