"""Runs ``r1box rescue`` for the console when the daemon is down: argument lists, a time limit, no shell. What goes
wrong is a ``Problem``, as with the daemon's API."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tui.client import Problem

Body = TypeVar("Body", bound=BaseModel)
LOOK_S = 30.0
ACT_S = 1800.0
"""A restore reads gigabytes, and a bundle asks drivers."""
MOST_BYTES = 16 * 1024 * 1024
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SUDO_USER", "LANG", "LC_ALL", "TZ")
_PREFIXES = ("R1BOX_", "XDG_")


class RescueTool:
    """``program`` is the command line up to ``rescue``, such as ``("/opt/r1box/.venv/bin/r1box",)``."""

    def __init__(self, program: Sequence[str], environ: Mapping[str, str]) -> None:
        self._program = tuple(program)
        kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith(_PREFIXES)}
        # Wide, without colours: what it prints is read by a program.
        self._environment = {**kept, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "500"}

    async def run(
        self, kind: type[Body], *arguments: str, given: str | None = None, timeout_s: float = ACT_S
    ) -> Body | Problem:
        """The JSON document that ``r1box ARGUMENTS --json`` prints. ``given`` goes to its standard input."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._program,
                *arguments,
                "--json",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                limit=MOST_BYTES,
            )
        except OSError as error:
            return Problem("rescue_missing", detail=error.strerror or str(error))
        try:
            output, errors = await asyncio.wait_for(process.communicate((given or "").encode()), timeout_s)
        except TimeoutError:
            return Problem("rescue_slow", detail=f"{timeout_s:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            return _told(errors.decode("utf-8", "replace"))
        try:
            return kind.model_validate_json(output)
        except ValidationError:
            return Problem("garbled", detail=kind.__name__)


def find_tool(environ: Mapping[str, str]) -> RescueTool | None:
    """The command beside this console, else the first on the path; None where there is none."""
    beside = [Path(one).absolute().parent / "r1box" for one in (sys.argv[0], sys.executable)]
    found = next((one for one in beside if one.is_file() and os.access(one, os.X_OK)), None)
    if found is None:
        named = shutil.which("r1box", path=environ.get("PATH"))
        found = None if named is None else Path(named)
    return None if found is None else RescueTool((str(found),), environ)


def _told(errors: str) -> Problem:
    """``Error: what is so`` and, below it, what to do, as the command line prints them."""
    lines = errors.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("Error: "):
            hint = lines[place + 1].strip() if place + 1 < len(lines) else None
            return Problem("rescue_failed", message=line.removeprefix("Error: "), hint=hint)
    return Problem("rescue_failed", message=lines[-1].strip() if lines else "r1box ended without a word")
