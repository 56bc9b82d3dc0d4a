"""What the box says of its two systems, and of the updates that lie on sticks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from appliance.schemas.updates import SlotStateWord, SystemSlot, UpdateFile, Updates
from drivers.errors import DriverError
from drivers.slots import Slot, Slots, read_slots

SUFFIX = ".raucb"
MOST_FILES = 50
MOST_FOLDERS = 200


class UpdateReader:
    """``folders`` are those that jobs may read from. Call ``read`` in a thread: it asks RAUC."""

    def __init__(
        self, folders: Callable[[], Sequence[Path]], version: str, slots: Callable[[], Slots] = read_slots
    ) -> None:
        self._folders = folders
        self._version = version
        self._slots = slots

    def read(self) -> Updates:
        """As it is now; on a box that has no slots it says so."""
        try:
            slots = self._slots()
        except DriverError as error:
            return Updates(version=self._version, available=False, problem=error.message, hint=error.hint)
        other = slots.other
        return Updates(
            version=self._version,
            available=True,
            compatible=slots.compatible,
            booted=slots.booted,
            next=slots.next,
            restart_needed=slots.next is not None and slots.next != slots.booted,
            can_roll_back=other is not None and _state(other, slots) == "ready",
            fell_back=slots.fell_back,
            rescue=slots.rescue,
            slots=tuple(self._shown(one, slots) for one in slots.slots),
            files=tuple(self._files()),
        )

    def _shown(self, one: Slot, slots: Slots) -> SystemSlot:
        return SystemSlot(
            name=one.name,
            state=_state(one, slots),
            booted=one.booted,
            next=one.name == slots.next,
            # RAUC does not know what the installer wrote; what runs knows itself.
            version=one.version or (self._version if one.booted else None),
            installed_at=one.installed_at,
            device=one.device,
            tries=None if one.tried is None else int(one.tried),
        )

    def _files(self) -> Iterator[UpdateFile]:
        """Those on the first two levels of the sticks; links are not followed."""
        looked, found = 0, 0
        pending = [(folder, 0) for folder in self._folders()]
        while pending and looked < MOST_FOLDERS:
            folder, depth = pending.pop(0)
            looked += 1
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in listed:
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False) and found < MOST_FILES:
                    found += 1
                    size_bytes = entry.stat(follow_symlinks=False).st_size
                    yield UpdateFile(path=entry.path, name=entry.name, size_bytes=size_bytes)
                elif depth == 0 and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    pending.append((Path(entry.path), 1))


def _state(one: Slot, slots: Slots) -> SlotStateWord:
    if one.booted:
        return "not_proved" if one.tried else "running"
    if not one.good:
        return "empty"
    return "did_not_serve" if one.tried or one.name == slots.fell_back else "ready"
