"""RAUC's commands, and what version 1.8 prints. Its service does the work; the command line waits for it.

Recorded output is in tests/fixtures/rauc.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.command import CommandFailed, CommandResult, FailureKind, minimal_environment, run
from drivers.errors import printable
from drivers.lines import run_lines
from drivers.slots import Slots, read_slots
from installer.update.errors import UpdateFailed, UpdateRefused

INSTALL_S = 2 * 3600.0
"""Eight gigabytes from the slowest stick."""
_SHORT_S = 120.0
_PROGRESS = re.compile(r"\s*(\d{1,3})% (.+)")
_LAST_ERROR = re.compile(r"LastError: (.+)")
_HOOK = re.compile(r"(?:.*Hook returned: )(.+)")

Report = Callable[[str, float | None], None]
"""Told what RAUC does now and how far it is, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle whose signature is trusted says of itself."""

    compatible: str
    version: str
    size_bytes: int


class Rauc:
    """The RAUC of this machine. Needs root for everything but ``slots`` and ``bundle``."""

    def __init__(self, root: Path = Path("/"), program: str = "rauc") -> None:
        self._root = root
        self._program = program

    def slots(self) -> Slots:
        """Raises NoSlots."""
        return read_slots(lambda argv: self._ask(self._program, *argv[1:]), self._root)

    def bundle(self, file: Path) -> Bundle:
        """The head of a bundle; its payload is checked while it is read. Raises UpdateRefused."""
        if not file.is_file():
            raise UpdateRefused("update_unreadable", f"There is no file {file}.", "Is the stick plugged in?")
        try:
            told = json.loads(self._ask(self._program, "info", "--output-format=json", str(file)).stdout)
            return Bundle(str(told["compatible"]), str(told["version"]), file.stat().st_size)
        except CommandFailed as error:
            if error.kind is not FailureKind.EXIT_CODE:
                raise UpdateFailed(error.message, error.hint) from error
            said = _last_line(error.result.stderr)
            if "signature verification" in said or "certificate" in said:
                raise UpdateRefused(
                    "update_not_trusted",
                    f"{file.name} is not signed by anybody whose updates this box takes: {said}",
                    "Take the update from its maker; the box's authority is /usr/lib/r1box/update-ca.pem.",
                ) from error
            raise UpdateRefused(
                "update_unreadable", f"{file.name} is no whole update: {said}", "Copy it to the stick anew."
            ) from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UpdateRefused("update_unreadable", f"{file.name} cannot be read.", "Copy it anew.") from error

    def install(self, file: Path, report: Report) -> None:
        """Write the other slot. Raises UpdateRefused, UpdateFailed."""
        problem = ""

        def line(text: str) -> None:
            nonlocal problem
            if step := _PROGRESS.fullmatch(text):
                report(step[2], int(step[1]) / 100)
            elif error := _LAST_ERROR.fullmatch(text):
                problem = error[1]

        try:
            done = run_lines(
                (self._program, "install", str(file)), timeout_s=INSTALL_S, environment=_environment(), on_line=line
            )
        except CommandFailed as error:
            raise UpdateFailed(error.message, error.hint) from error
        if done.exit_code != 0:
            raise _why(problem or _last_line(done.stdout))

    def take_other(self) -> None:
        """The slot that does not run is started next. Raises UpdateFailed."""
        self._mark("mark-active", "other")

    def good(self) -> None:
        """The slot that runs has proved itself. Raises UpdateFailed."""
        self._mark("mark-good")

    def bad_other(self) -> None:
        """The slot that does not run is not started any more. Raises UpdateFailed."""
        self._mark("mark-bad", "other")

    def _mark(self, *words: str) -> None:
        try:
            self._ask(self._program, "status", *words)
        except CommandFailed as error:
            said = _last_line(error.result.stderr) or error.message
            raise UpdateFailed(f"RAUC did not change the slots: {said}", "systemctl status rauc") from error

    @staticmethod
    def _ask(*argv: str) -> CommandResult:
        return run(argv, timeout_s=_SHORT_S, environment=_environment())


def _environment() -> dict[str, str]:
    return minimal_environment(("DBUS_SYSTEM_BUS_ADDRESS",))


def _last_line(text: str) -> str:
    lines = [printable(line).strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it gives no reason")


def _why(problem: str) -> UpdateRefused | UpdateFailed:
    """RAUC's last error as ours. Refusals come before the first byte is written."""
    lowered = problem.lower()
    if said := _HOOK.fullmatch(problem):
        return UpdateRefused(
            "update_would_break_cards", said[1], "Nothing was changed. First bring the cards' software that it needs."
        )
    if "signature verification" in lowered or "certificate" in lowered:
        return UpdateRefused("update_not_trusted", f"The update is not trusted: {problem}", "Take it from its maker.")
    if "compatible" in lowered and "match" in lowered:
        return UpdateRefused("update_for_other_box", f"The update is for other machines: {problem}")
    if "invalid bundle format" in lowered:
        return UpdateRefused("update_unreadable", f"The file is no whole update: {problem}", "Copy it anew.")
    if "already processing" in lowered:
        return UpdateRefused("update_busy", "Another update is being written.", "Wait for its end.")
    return UpdateFailed(
        f"The update was not written: {problem}",
        "The running system is as it was. Copy the file to the stick anew, or take another stick, and try again.",
    )
