"""Single changes to a machine. Each looks whether it is due, says what it does, and does it.

Files are written under a temporary name, flushed and renamed: an interrupted run leaves the old file or the new.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drivers.command import CommandFailed, command_line, run

_COMMAND_S = 120.0


class ActionFailed(Exception):
    """A change could not be made. ``hint`` says what to do next."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Action(Protocol):
    """One change. ``is_due`` only looks; ``apply`` may be repeated."""

    def describe(self) -> str: ...

    def is_due(self) -> bool: ...

    def apply(self) -> None:
        """Raises ActionFailed or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class PutFile:
    """A file with this content. ``keep``: one that is there stays as it is."""

    path: Path
    content: str
    mode: int = 0o644
    keep: bool = False

    def describe(self) -> str:
        return f"write {self.path}"

    def is_due(self) -> bool:
        try:
            found = self.path.stat()
            if self.keep:
                return False
            return stat.S_IMODE(found.st_mode) != self.mode or self.path.read_bytes() != self.content.encode()
        except FileNotFoundError:
            return True

    def apply(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self.content.encode())
                os.fchmod(file.fileno(), self.mode)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@dataclass(frozen=True, slots=True)
class PutLink:
    """A symbolic link; another link of that name is replaced, a file never."""

    path: Path
    target: Path

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def is_due(self) -> bool:
        return not (self.path.is_symlink() and self.path.readlink() == self.target)

    def apply(self) -> None:
        if self.path.exists() and not self.path.is_symlink():
            raise ActionFailed(f"{self.path} is there and no link", f"Move it away: mv {self.path} {self.path}.old")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.target)
        temporary.replace(self.path)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the system's; the plan decides whether it is due."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    due: bool

    def describe(self) -> str:
        return f"run {command_line(self.argv)}"

    def is_due(self) -> bool:
        return self.due

    def apply(self) -> None:
        try:
            run(self.argv, timeout_s=_COMMAND_S, environment=self.environ)
        except CommandFailed as error:
            said = (error.result.stderr or error.result.stdout).strip()
            raise ActionFailed(
                f"{error}" + (f"\n{said[-2000:]}" if said else ""), "Mend it and run this again."
            ) from error


@dataclass(frozen=True, slots=True)
class MakeProgram:
    """An environment with the project in it. ``make`` does it and returns an exit code; it has told why it failed."""

    folder: Path
    is_made: Callable[[Path], bool]
    make: Callable[[Path], int]

    def describe(self) -> str:
        return f"make the program's environment in {self.folder}"

    def is_due(self) -> bool:
        return not self.is_made(self.folder)

    def apply(self) -> None:
        code = self.make(self.folder)
        if code != 0:
            raise ActionFailed(
                f"the environment in {self.folder} is not finished", "Mend what is named above, run it again."
            )


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """A file or link goes. ``target``: only a link that leads there."""

    path: Path
    target: Path | None = None

    def describe(self) -> str:
        return f"remove {self.path}"

    def is_due(self) -> bool:
        if self.target is not None:
            return self.path.is_symlink() and self.path.readlink() == self.target
        return self.path.is_file() or self.path.is_symlink()

    def apply(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class RemoveTree:
    """A folder goes with all that is in it; links in it are not followed, and a link in its place is left alone."""

    path: Path

    def describe(self) -> str:
        return f"remove {self.path} with all that is in it"

    def is_due(self) -> bool:
        return self.path.is_dir() and not self.path.is_symlink()

    def apply(self) -> None:
        shutil.rmtree(self.path)


@dataclass(frozen=True, slots=True)
class RemoveEmptyFolder:
    """A folder goes if nothing is left in it, apart from what the plan removes before (``leaving``)."""

    path: Path
    leaving: tuple[Path, ...] = ()

    def describe(self) -> str:
        return f"remove the empty folder {self.path}"

    def is_due(self) -> bool:
        return self.path.is_dir() and not self.path.is_symlink() and set(self.path.iterdir()) <= set(self.leaving)

    def apply(self) -> None:
        self.path.rmdir()
