"""What an installation has done so far, kept so that it can go on after a power cut.

One JSON object a line. The first holds the whole plan with its hash; then a line for every action begun and one for
every action done, each flushed to the disk before the next step. A line that was cut off by the power is no line: it is
taken away when the journal is opened again. The plan in the journal is the plan that is resumed, so nothing is planned
anew from a disk that is half written; another plan's journal is refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from installer.actions import digest, from_json, to_json
from installer.errors import InstallRefused
from installer.plan import Plan, Step, plan_hash

FORMAT = 1
JOURNAL_NAME = "r1box-install.journal"
_LARGEST_BYTES = 64 << 20


@dataclass(slots=True)
class Journal:
    """An open journal. ``done`` are the numbers (from 0) of finished steps; ``begun`` the one that was cut off."""

    path: Path
    installation: str
    identity: str
    size_bytes: int
    steps: tuple[Step, ...]
    done: set[int] = field(default_factory=set)
    begun: int | None = None
    finished: bool = False

    def begin(self, number: int) -> None:
        self._append({"begin": number, "digest": digest(self.steps[number].action)})
        self.begun = number

    def end(self, number: int) -> None:
        self._append({"done": number, "digest": digest(self.steps[number].action)})
        self.done.add(number)
        self.begun = None

    def fail(self, number: int, message: str) -> None:
        self._append({"failed": number, "message": message})

    def finish(self) -> None:
        self._append({"finished": True})
        self.finished = True

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            _write_line(file, line)


def start_journal(path: Path, plan: Plan) -> Journal:
    """A new journal with this plan in it. Raises InstallRefused (``journal_of_another_plan``) when an unfinished one
    lies there: its disk is half written, and that is worth a question."""
    if path.exists():
        there = read_or_none(path)
        if there is not None and not there.finished and there.done:
            raise InstallRefused(
                "journal_of_another_plan",
                f"{path} belongs to an installation on the disk {there.identity} that was not finished.",
                f"Go on with it: r1box-install resume. To begin anew instead, remove {path}.",
            )
    disk = plan.target.disk
    header = {
        "r1box-install": FORMAT,
        "plan": plan.hash,
        "installation": plan.installation,
        "identity": plan.target.identity,
        "size_bytes": disk.size_bytes,
        "steps": [{"stage": step.stage, "action": to_json(step.action)} for step in plan.steps],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    # The plan holds the hash of the administrator's password.
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        _write_line(file, header)
    new.replace(path)
    _sync_folder(path.parent)
    return Journal(path, plan.installation, plan.target.identity, disk.size_bytes, plan.steps)


def open_journal(path: Path, installation: str | None = None) -> Journal:
    """The journal to go on with. ``installation``: what the answers given now would make, when any were given.

    Raises InstallRefused (``nothing_to_resume``, ``journal_unreadable``, ``journal_finished``,
    ``journal_of_another_plan``).
    """
    if not path.exists():
        raise InstallRefused("nothing_to_resume", f"There is no {path}.", "Begin with r1box-install apply.")
    journal, whole_bytes = _read(path)
    if journal.finished:
        raise InstallRefused("journal_finished", "That installation was finished.", "Start the machine from its disk.")
    if installation is not None and installation != journal.installation:
        raise InstallRefused(
            "journal_of_another_plan",
            f"{path} was begun with other answers, another disk or another medium.",
            f"Resume with what it was begun with, or remove {path} and begin anew.",
        )
    if path.stat().st_size != whole_bytes:
        with path.open("r+b") as file:
            file.truncate(whole_bytes)
            os.fsync(file.fileno())
    return journal


def read_or_none(path: Path) -> Journal | None:
    """The journal there, unopened; None when there is none that can be used."""
    try:
        return _read(path)[0]
    except InstallRefused:
        return None


def _read(path: Path) -> tuple[Journal, int]:
    """The journal and the bytes of its whole lines."""
    try:
        content = path.read_bytes()[:_LARGEST_BYTES]
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be read") from error
    whole = content[: content.rfind(b"\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        journal = _header(path, lines[0])
        for line in lines[1:]:
            _take(journal, line)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _unreadable(path, "its lines are damaged") from error
    return journal, len(whole)


def _header(path: Path, told: dict[str, Any]) -> Journal:
    if told["r1box-install"] != FORMAT:
        raise _unreadable(path, "another version of the installer wrote it")
    steps = tuple(Step(str(step["stage"]), from_json(step["action"])) for step in told["steps"])
    if plan_hash(told["installation"], steps) != told["plan"]:
        raise _unreadable(path, "its plan is not the one it was written with")
    return Journal(path, told["installation"], told["identity"], int(told["size_bytes"]), steps)


def _take(journal: Journal, line: dict[str, Any]) -> None:
    if "finished" in line:
        journal.finished = True
    for key in ("begin", "done"):
        if key in line:
            number = line[key]
            if not 0 <= number < len(journal.steps) or line["digest"] != digest(journal.steps[number].action):
                raise ValueError(f"step {number} is not of this plan")
            journal.begun = number if key == "begin" else None
            if key == "done":
                journal.done.add(number)


def _unreadable(path: Path, why: str) -> InstallRefused:
    return InstallRefused(
        "journal_unreadable",
        f"{path} cannot be used: {why}.",
        f"Remove {path} and begin anew with r1box-install apply.",
    )


def _write_line(file: IO[bytes], line: dict[str, Any]) -> None:
    file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
