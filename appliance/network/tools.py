"""The system's own commands, through the one door to subprocesses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drivers.command import CommandFailed, minimal_environment, run

LOOK_TIMEOUT_S = 5.0
CHANGE_TIMEOUT_S = 40.0

Log = Callable[[Sequence[str]], None]


class Tools:
    """Runs commands. ``root`` is where the files of the system lie and ``path`` replaces the search path, both for
    tests; a command that is not there or fails says so by CommandFailed."""

    def __init__(self, root: Path = Path("/"), path: str | None = None) -> None:
        self.root = root
        self._environment = minimal_environment()
        if path is not None:
            self._environment["PATH"] = path

    def at(self, path: str) -> Path:
        """Where a file of the system is."""
        return self.root / path.lstrip("/")

    def ask(self, *argv: str) -> str:
        """What a command prints. Raises CommandFailed."""
        return run(argv, timeout_s=LOOK_TIMEOUT_S, environment=self._environment).stdout

    def told(self, *argv: str) -> str | None:
        """What a command prints; None when it is not there or fails."""
        try:
            return self.ask(*argv)
        except CommandFailed:
            return None

    def json(self, *argv: str) -> Any:
        """The JSON that a command prints; None when it is not there, fails or prints none. systemd's commands put
        warnings on stderr."""
        text = self.told(*argv)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            return None

    def do(self, *argv: str, timeout_s: float = CHANGE_TIMEOUT_S) -> str:
        """Carry something out. Raises CommandFailed."""
        return run(argv, timeout_s=timeout_s, environment=self._environment).stdout
