"""Single steps of an installation as values: each tells what it does and has a digest; an executor does it.

The target disk is named ``@disk`` and its partitions ``@1`` to ``@6``: device paths change between two starts, and a
journal that is resumed after a power cut must not write to whatever is called /dev/sda by then. The executor puts in
the paths of the disk whose identity it has checked.

Every action may be carried out again: one that was cut off is repeated from its beginning. ``lasting`` is False for
what a restart undoes (mounts): a resumed run does those again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from drivers.command import command_line
from installer.errors import InstallRefused
from installer.inventory import size_words


@dataclass(frozen=True, slots=True)
class Run:
    """A program. ``purpose`` is what it is for, in an operator's words; ``ok_codes`` are exits that count as done."""

    kind: ClassVar[str] = "run"
    lasting: ClassVar[bool] = True
    purpose: str
    argv: tuple[str, ...]
    timeout_s: float = 120.0
    ok_codes: tuple[int, ...] = (0,)
    destroys: bool = False

    def describe(self) -> str:
        return f"{self.purpose}: {command_line(self.argv)}"


@dataclass(frozen=True, slots=True)
class ConfirmDisk:
    """Looks again, right before the first write, that the disk is the one agreed to and that nothing holds it."""

    kind: ClassVar[str] = "confirm-disk"
    lasting: ClassVar[bool] = False
    destroys: ClassVar[bool] = False
    identity: str
    size_bytes: int

    def describe(self) -> str:
        return f"make sure that @disk is still the disk with serial {self.identity} and that nothing uses it"


@dataclass(frozen=True, slots=True)
class CopyImage:
    """A file onto a partition, hashed while it is copied and compared at the end."""

    kind: ClassVar[str] = "copy-image"
    lasting: ClassVar[bool] = True
    destroys: ClassVar[bool] = True
    source: str
    target: str
    size_bytes: int
    sha256: str

    def describe(self) -> str:
        return f"write {self.source} ({size_words(self.size_bytes)}) to {self.target} and check its hash"


@dataclass(frozen=True, slots=True)
class CopyFile:
    """A file into a folder of the target. ``sha256`` None: its source is covered by no hash, only read twice."""

    kind: ClassVar[str] = "copy-file"
    lasting: ClassVar[bool] = True
    destroys: ClassVar[bool] = False
    source: str
    target: str
    sha256: str | None = None

    def describe(self) -> str:
        return f"copy {self.source} to {self.target}" + (" and check its hash" if self.sha256 else "")


@dataclass(frozen=True, slots=True)
class CheckImage:
    """Reads a partition's beginning back and compares its hash."""

    kind: ClassVar[str] = "check-image"
    lasting: ClassVar[bool] = True
    destroys: ClassVar[bool] = False
    target: str
    size_bytes: int
    sha256: str

    def describe(self) -> str:
        return f"read {size_words(self.size_bytes)} back from {self.target} and compare the hash"


@dataclass(frozen=True, slots=True)
class PutFile:
    """A file with this content in the target."""

    kind: ClassVar[str] = "put-file"
    lasting: ClassVar[bool] = True
    destroys: ClassVar[bool] = False
    path: str
    content: str
    mode: int = 0o644

    def describe(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """A folder with those above it."""

    kind: ClassVar[str] = "make-folder"
    lasting: ClassVar[bool] = True
    destroys: ClassVar[bool] = False
    path: str
    mode: int = 0o755

    def describe(self) -> str:
        return f"make the folder {self.path}"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system in its place, unless it is there already."""

    kind: ClassVar[str] = "mount"
    lasting: ClassVar[bool] = False
    destroys: ClassVar[bool] = False
    source: str
    target: str
    file_system: str
    options: str = "defaults"

    def describe(self) -> str:
        return f"mount {self.source} on {self.target}"


@dataclass(frozen=True, slots=True)
class Unmount:
    """Everything below a folder is flushed and taken away."""

    kind: ClassVar[str] = "unmount"
    lasting: ClassVar[bool] = False
    destroys: ClassVar[bool] = False
    target: str

    def describe(self) -> str:
        return f"unmount {self.target} and all below it"


Action = Run | ConfirmDisk | CopyImage | CopyFile | CheckImage | PutFile | MakeFolder | Mount | Unmount
_KINDS: dict[str, type[Action]] = {
    one.kind: one for one in (Run, ConfirmDisk, CopyImage, CopyFile, CheckImage, PutFile, MakeFolder, Mount, Unmount)
}


def to_json(action: Action) -> dict[str, Any]:
    """The action as JSON values."""
    return {"kind": action.kind, **asdict(action)}


def from_json(values: dict[str, Any]) -> Action:
    """The action of these values. Raises InstallRefused (``journal_unreadable``)."""
    kind = _KINDS.get(str(values.get("kind")))
    if kind is None or set(values) - {"kind"} != {field.name for field in fields(kind)}:
        raise InstallRefused(
            "journal_unreadable", "The journal holds a step that this installer does not know.", "Use the same medium."
        )
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    del given["kind"]
    return kind(**given)


def digest(action: Action) -> str:
    """SHA-256 of the action's values, in hex."""
    return hashlib.sha256(json.dumps(to_json(action), sort_keys=True).encode()).hexdigest()
