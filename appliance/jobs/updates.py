"""Asks for updates of the system at the door that root keeps for this daemon, which is no root itself.

The door (``r1box-install update serve``) is a socket of systemd, on installed boxes alone: a line of JSON in, lines of
JSON out.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.errors import AppError
from appliance.schemas.updates import UpdateDone
from drivers.errors import printable

DOOR = Path("/run/r1box-update.sock")
CONNECT_S = 30.0
SILENCE_S = 1800.0
"""Longer than the longest step of which RAUC says nothing: eight gigabytes to a slow disk."""
_MOST_LINE_BYTES = 64 << 10

Report = Callable[[str | None, float | None], None]


class UpdatesUnavailable(AppError):
    """This box was not installed from the medium, so it has no second system to update."""

    code = "updates_unavailable"
    http_status = 409
    template = "This box cannot be updated here: {reason}."
    hint_template = "Without R1 Box's own system a newer version comes as a package: apt-get install ./r1box_*.deb"


class UpdateRefusedHere(AppError):
    """What the door said; its code, message, hint and status are kept."""

    template = "{problem}"

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(problem=printable(str(told.get("message") or "The update failed without a reason.")))
        hint = told.get("hint")
        status = told.get("http_status")
        self.code = printable(str(told.get("code") or "update_failed"))  # type: ignore[misc]
        self.hint = None if hint is None else printable(str(hint))
        self.http_status = status if isinstance(status, int) and 400 <= status < 600 else 500  # type: ignore[misc]


class UpdateDoor:
    """All methods block. ``socket_path`` is where systemd listens."""

    def __init__(self, socket_path: Path = DOOR) -> None:
        self._path = socket_path

    def check(self) -> None:
        """Raises UpdatesUnavailable on a box without the door."""
        if not self._path.is_socket():
            raise UpdatesUnavailable(reason="it was not installed from R1 Box's medium")

    def install(self, file: Path, *, restart: bool, report: Report) -> UpdateDone:
        """Write an update into the other slot. Minutes. Raises UpdatesUnavailable, UpdateRefusedHere."""
        return self._ask({"do": "install", "file": str(file), "restart": restart}, report)

    def roll_back(self, *, restart: bool) -> UpdateDone:
        """Have the other system started next. Raises UpdatesUnavailable, UpdateRefusedHere."""
        return self._ask({"do": "rollback", "restart": restart}, lambda phase, fraction: None)

    def restart(self) -> UpdateDone:
        """Restart the machine. Raises UpdatesUnavailable, UpdateRefusedHere."""
        return self._ask({"do": "restart"}, lambda phase, fraction: None)

    def _ask(self, wish: dict[str, Any], report: Report) -> UpdateDone:
        with self._lines(wish) as lines:
            for told in lines:
                if "error" in told:
                    raise UpdateRefusedHere(told["error"])
                if "done" in told:
                    return UpdateDone.model_validate(told["done"])
                fraction = told.get("fraction")
                phase = told.get("phase")
                report(None if phase is None else printable(str(phase))[:200], fraction)
        raise UpdateRefusedHere({"message": "The update's helper ended without an answer.", "hint": "journalctl -b"})

    @contextmanager
    def _lines(self, wish: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
        self.check()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
                door.settimeout(CONNECT_S)
                door.connect(str(self._path))
                door.settimeout(SILENCE_S)
                door.sendall(json.dumps(wish).encode() + b"\n")
                with door.makefile("rb") as file:
                    yield (json.loads(line) for line in iter(lambda: file.readline(_MOST_LINE_BYTES), b""))
        except (OSError, ValueError) as error:
            problem, hint = f"The update's helper gave no answer: {error}.", "systemctl status r1box-update.socket"
            raise UpdateRefusedHere({"message": problem, "hint": hint}) from error
