"""Which disk the answers mean, and whether its wiping was agreed to. Pure.

1. The installer's own media and what is no disk are left out; 2. every key of ``[disk.match]`` must fit; 3. exactly one
disk may remain; 4. nothing may hold it; 5. its serial must have been typed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from installer.answers import DiskMatch
from installer.errors import InstallRefused
from installer.inventory import BlockDevice, contents, disk_words, in_use, is_virtual, own_medium

GIB = 1 << 30
_SHOW = "r1box-install match-disks shows every disk and what fits."


@dataclass(frozen=True, slots=True)
class Judged:
    """A disk and what the filter says of it: ``misses`` are the keys that do not fit, ``left_out`` why it never counts,
    ``held`` why it cannot be wiped now."""

    disk: BlockDevice
    misses: tuple[str, ...]
    left_out: str | None
    held: str | None

    @property
    def matches(self) -> bool:
        return not self.misses and self.left_out is None


def judge(devices: Sequence[BlockDevice], wanted: DiskMatch) -> list[Judged]:
    """Every real disk with its verdict, in the machine's order."""
    return [
        Judged(disk, _misses(disk, wanted), own_medium(disk), in_use(disk)) for disk in devices if not is_virtual(disk)
    ]


def chosen_disk(devices: Sequence[BlockDevice], wanted: DiskMatch) -> BlockDevice:
    """The one disk that fits and is free. Raises InstallRefused (``no_disk_matches``, ``two_disks_match``,
    ``disk_unusable``)."""
    judged = judge(devices, wanted)
    matching = [item for item in judged if item.matches]
    if not matching:
        lines = [f"  {disk_words(item.disk)}: {_why_not(item)}" for item in judged] or ["  the machine shows no disk"]
        raise InstallRefused("no_disk_matches", "No disk fits [disk.match]:\n" + "\n".join(lines), _SHOW)
    if len(matching) > 1:
        lines = [f"  {disk_words(item.disk)}" for item in matching]
        raise InstallRefused(
            "two_disks_match",
            f"{len(matching)} disks fit [disk.match], and exactly one may:\n" + "\n".join(lines),
            "Name one by its serial.",
        )
    found = matching[0]
    if found.held is not None:
        raise InstallRefused(
            "disk_unusable",
            f"{found.disk.path} cannot be wiped: {found.held}.",
            "Unmount it or take it out of its array or volume group first, or choose another disk.",
        )
    return found.disk


def check_consent(disk: BlockDevice, typed: Sequence[str | None]) -> None:
    """Raises InstallRefused (``wipe_not_confirmed``) unless one of ``typed`` is the disk's serial, to the letter."""
    if disk.identity is None:
        raise InstallRefused(
            "wipe_not_confirmed",
            f"{disk.path} has neither serial nor wwn, so nobody can say for certain that it is meant.",
            "Give it one (virtual machines: the drive's serial option), or choose another disk.",
        )
    given = [text.strip() for text in typed if text]
    if disk.identity in given:
        return
    lost = "\n".join(f"  {line}" for line in contents(disk))
    wrong = f" What was typed is {given[0]!r}." if given else ""
    raise InstallRefused(
        "wipe_not_confirmed",
        f"Wiping {disk_words(disk)} has not been agreed to.{wrong} It would lose:\n{lost}",
        f'Write wipe = "{disk.identity}" under [disk], or start with the kernel argument r1box.wipe={disk.identity}.',
    )


def _why_not(item: Judged) -> str:
    return item.left_out or f"{', '.join(item.misses)} does not fit"


def _misses(disk: BlockDevice, wanted: DiskMatch) -> tuple[str, ...]:
    texts = {"serial": disk.serial, "wwn": disk.wwn, "model": disk.model, "path": disk.path}
    missed = [
        key
        for key, found in texts.items()
        if (pattern := getattr(wanted, key)) is not None and not (found and fnmatch.fnmatchcase(found, pattern))
    ]
    if wanted.transport is not None and disk.transport != wanted.transport:
        missed.append("transport")
    if wanted.min_gib is not None and disk.size_bytes < wanted.min_gib * GIB:
        missed.append("min_gib")
    if wanted.max_gib is not None and disk.size_bytes > wanted.max_gib * GIB:
        missed.append("max_gib")
    return tuple(missed)
