"""What the plan aims at: the disk, its table, what is kept. Pure, so every stage may ask again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from installer.answers import Answers
from installer.errors import InstallRefused
from installer.facts import Facts
from installer.inventory import BlockDevice
from installer.matching import chosen_disk
from installer.partitions import GIB, Partition, is_in_place, layout

ROOT = PurePosixPath("/run/r1box/target")
"""Where the new system is put together."""
ESP = ROOT / "efi"
STATE = ROOT / "state"
MODELS = ROOT / "var/lib/r1box/models"
KEYS = PurePosixPath("/usr/lib/r1box/trusted-keys")
"""Public keys, in the medium's own image, whose bundles are accepted."""


@dataclass(frozen=True, slots=True)
class Target:
    """``keeps_models``: the table is in place and the partition of the models stays as it is."""

    disk: BlockDevice
    parts: tuple[Partition, ...]
    keeps_models: bool

    @property
    def identity(self) -> str:
        """Serial or wwn; matching has refused disks with neither."""
        return self.disk.identity or ""


def target_of(facts: Facts, answers: Answers) -> Target:
    """Raises InstallRefused: no or several disks, a held one, one that is too small, models that cannot be kept."""
    disk = chosen_disk(facts.devices, answers.disk.match)
    parts = layout(disk.size_bytes, answers.disk.slot_gib * GIB, answers.disk.state_gib * GIB)
    keeps = False
    if answers.disk.keep_models and any(part.part_label == "models" for part in disk.children):
        if not is_in_place(disk, parts):
            raise InstallRefused(
                "disk_unusable",
                f"The models on {disk.path} cannot be kept: its partitions are not as slot_gib and state_gib ask.",
                "Give the sizes of the earlier installation, or leave keep_models out.",
            )
        keeps = True
    return Target(disk, parts, keeps)
