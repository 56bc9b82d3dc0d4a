"""Servers that outlived the daemon which started them: one that is killed ends nobody, and outside of systemd nobody
else does. They would keep the cards' memory; the next start in their folder ends them.

A process is known by its id and the moment of its start (proc(5), field 22) in this run of the machine. Its id is not
given away again while anything of its session lives. What another daemon that still runs has started is not left over.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

FILE = "server.pid"
_PROC = Path("/proc")
_SESSION, _START = 5, 21
"""Fields of ``/proc/PID/stat``, counted from 0."""


def remember(folder: Path, pid: int) -> None:
    """Note a server that this process just started as leader of a session of its own. Blocks."""
    found, own = _fields(pid), _fields(os.getpid())
    if found is None or own is None:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{_boot()} {pid} {found[_START]} {os.getpid()} {own[_START]}\n"
    (folder / FILE).write_text(line, encoding="ascii")


def forget(folder: Path) -> None:
    """It has ended. Blocks."""
    with suppress(OSError):
        (folder / FILE).unlink()


def end_left_over(folder: Path) -> int:
    """Kill what an earlier daemon left of the server in this folder; how many processes that were. Blocks."""
    try:
        boot, pid_text, start, daemon_text, daemon_start = (folder / FILE).read_text(encoding="ascii").split()
        pid, daemon_pid = int(pid_text), int(daemon_text)
    except (OSError, ValueError):
        return 0
    daemon = _fields(daemon_pid)
    if boot == _boot() and daemon_pid != os.getpid() and daemon is not None and daemon[_START] == daemon_start:
        return 0
    leader = _fields(pid)
    ended = 0
    if boot == _boot() and pid > 1 and (leader is None or leader[_START] == start):
        for one in _session(pid):
            with suppress(OSError):
                os.kill(one, signal.SIGKILL)
                ended += 1
    if ended:
        _log.warning("engine_left_over_ended", pid=pid, processes=ended)
    forget(folder)
    return ended


def _session(leader: int) -> list[int]:
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            fields = _fields(int(entry.name))
            if fields is not None and fields[_SESSION] == str(leader):
                found.append(int(entry.name))
    return found


def _fields(pid: int) -> list[str] | None:
    """The fields of a process; its name in the second may have spaces, so they are counted from its end."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    head, _, rest = text.rpartition(")")
    return [head.partition(" ")[0], head, *rest.split()]


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
