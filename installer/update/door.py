"""The daemon's door to updates: it is no root, so systemd starts this for each connection to a socket.

The socket belongs to root and the group of the service (``r1box-update.socket``). One line of JSON comes in:

    {"do": "install", "file": "/run/media/STICK/r1box-0.2.0-amd64.raucb", "restart": true}
    {"do": "rollback", "restart": true}      {"do": "restart"}

and lines of JSON go out until the connection ends: ``{"phase": ..., "fraction": ...}`` while it works, at the end
either ``{"done": {"version", "slot", "restart"}}`` or ``{"error": {"code", "message", "hint", "http_status"}}``.
Whoever goes away meanwhile does not stop it: a slot is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import IO, Any

from drivers.errors import DriverError
from installer.update.errors import UpdateRefused
from installer.update.work import Updated, Updater

MOST_REQUEST_BYTES = 16 << 10


def serve(updater: Updater, source: IO[str], sink: IO[str]) -> bool:
    """Answer one request; whether it was done."""

    def tell(message: dict[str, Any]) -> None:
        # Nobody may listen any more; the work goes on.
        with contextlib.suppress(OSError, ValueError):
            sink.write(json.dumps(message) + "\n")
            sink.flush()

    def report(phase: str, fraction: float | None) -> None:
        tell({"phase": phase, "fraction": fraction})

    try:
        wish = _read(source)
        updated = _do(updater, wish, report)
        restart = wish["do"] == "restart" or bool(wish.get("restart", False))
        done = {} if updated is None else {"version": updated.version, "slot": updated.slot}
        tell({"done": {**done, "restart": restart}})
        if restart:
            updater.restart()
    except DriverError as error:
        told = {"code": error.code, "message": error.message, "hint": error.hint, "http_status": error.http_status}
        tell({"error": told})
        return False
    return True


def _read(source: IO[str]) -> dict[str, Any]:
    line = source.readline(MOST_REQUEST_BYTES)
    try:
        wish = json.loads(line)
    except ValueError:
        wish = None
    known = isinstance(wish, dict) and wish.get("do") in {"install", "rollback", "restart"}
    if not known or (wish["do"] == "install" and not isinstance(wish.get("file"), str)):
        raise UpdateRefused("bad_request", "That is no request for an update.", http_status=400)
    found: dict[str, Any] = wish
    return found


def _do(updater: Updater, wish: dict[str, Any], report: Any) -> Updated | None:
    if wish["do"] == "install":
        return updater.install(Path(wish["file"]), report)
    return updater.roll_back() if wish["do"] == "rollback" else None
