"""What was installed into the environment last; a run that finds it unchanged has nothing to do.

The stamp is a small JSON file inside the environment. It is removed before the first change and written after the last
one, so that an interrupted set-up is never taken for a finished one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FORM = 1
"""Raised when the steps themselves change, so that environments made by older steps are brought up to date."""

LEVELS = ("run", "dev")
"""`dev` holds all of `run` and the tests' extras."""

_NAME = "r1box-setup.json"


@dataclass(frozen=True, slots=True)
class Stamp:
    """`level`: "run" or "dev". `requirements`: hash of the pinned files. `build`: key of the native build's
    settings. `python`: the interpreter's version. `root`: the source tree that is installed in place, or "wheel" and a
    hash of its contents."""

    form: int
    level: str
    requirements: str
    build: str
    python: str
    root: str

    def covers(self, wanted: Stamp) -> bool:
        """Whether an environment with this stamp already is what `wanted` asks for, or more."""
        if LEVELS.index(self.level) < LEVELS.index(wanted.level):
            return False
        mine = (self.form, self.requirements, self.build, self.python, self.root)
        return mine == (wanted.form, wanted.requirements, wanted.build, wanted.python, wanted.root)


def fingerprint(files: list[Path]) -> str:
    """SHA-256 over names and contents. Raises OSError when a file cannot be read."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def contents(root: Path, files: list[Path]) -> str:
    """SHA-256 over paths below `root` and contents. Raises OSError when a file cannot be read."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read(venv: Path) -> Stamp | None:
    """The environment's stamp; None when there is none or it is not one of ours."""
    try:
        raw = json.loads((venv / _NAME).read_text(encoding="utf-8"))
        stamp = Stamp(**raw)
    except (OSError, ValueError, TypeError):
        return None
    return stamp if stamp.form == FORM and stamp.level in LEVELS else None


def write(venv: Path, stamp: Stamp) -> None:
    """Write under a temporary name, flush to disk, rename."""
    temporary = venv / f"{_NAME}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(stamp), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(venv / _NAME)


def remove(venv: Path) -> None:
    """Say that the environment is being changed."""
    (venv / _NAME).unlink(missing_ok=True)
