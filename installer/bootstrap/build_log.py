"""What a line of uv's or ninja's output means for the person who waits.

`uv -v` passes a native build's own output on, each line with `DEBUG ` before it; scikit-build-core runs ninja, which
prints `[32/193] ...` for every command it has finished. Forms checked with uv 0.13.9, scikit-build-core 1.1 and
ninja 1.13.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NINJA = re.compile(r"^(?:DEBUG )?\[(\d+)/(\d+)\] ")
_BUILDING = re.compile(r"^\s+Building (\S+)")
_BUILT = re.compile(r"^\s+Built (\S+)")
_DOWNLOADING = re.compile(r"^\s*Downloading (\S+) \(([^)]+)\)")
_RESOLVED = re.compile(r"^Resolved (\d+) packages?\b")
_COUNTED = re.compile(r"^(Prepared|Installed|Uninstalled) (\d+) packages?\b")
_NOISE = re.compile(r"^(?:DEBUG|TRACE) (?!\s*\*\*\*|FAILED|.*(?:\berror\b|Error:|ninja: |CMake Error))")


@dataclass(frozen=True, slots=True)
class Compiled:
    """The native build has finished `done` of its `total` commands."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """A package is being built from source; `package` is `name==version`, or a folder's name for this project."""

    package: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth showing beside the elapsed time."""

    text: str


Event = Compiled | BuildStarted | Note


def read_line(line: str) -> Event | None:
    """The meaning of one line of output, None when it has none for a reader in a hurry."""
    if match := _NINJA.match(line):
        done, total = int(match[1]), int(match[2])
        return Compiled(done, total) if 0 < done <= total else None
    if match := _BUILDING.match(line):
        return BuildStarted(match[1])
    if match := _BUILT.match(line):
        return Note(f"built {match[1]}")
    if match := _DOWNLOADING.match(line):
        return Note(f"downloading {match[1]}, {match[2]}")
    if match := _RESOLVED.match(line):
        return Note(f"{match[1]} packages, fetching what is missing")
    if match := _COUNTED.match(line):
        return Note(f"{match[1].lower()} {match[2]} packages")
    return None


def telling_lines(lines: list[str], limit: int = 20) -> list[str]:
    """The last lines of a failed command that say something: debug chatter is dropped unless it names an error."""
    telling = [line for line in lines if line.strip() and not _NOISE.match(line)]
    return (telling or lines)[-limit:]
