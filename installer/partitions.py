"""The disk's partition table: six partitions, in bytes, on whole MiB. Pure.

    bios 1 MiB | esp 1 GiB | root-a | root-b | state | models: the rest

Two root slots so that an update that fails goes back by itself; ``bios`` so that GRUB starts on old firmware too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from installer.errors import InstallRefused
from installer.inventory import BlockDevice, size_words

MIB, GIB = 1 << 20, 1 << 30
ESP_BYTES = GIB
LEAST_MODELS_BYTES = 4 * GIB
"""Room for one small model. The plan of models says what a certain one needs."""


@dataclass(frozen=True, slots=True)
class Partition:
    """``type_code`` is sgdisk's."""

    number: int
    label: str
    type_code: str
    start_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """The first byte behind it."""
        return self.start_bytes + self.size_bytes


def layout(disk_bytes: int, slot_bytes: int, state_bytes: int) -> tuple[Partition, ...]:
    """The table for a disk of this size; sizes are whole MiB. Raises InstallRefused (``disk_too_small``)."""
    fixed = (
        ("bios", "ef02", MIB),
        ("esp", "ef00", ESP_BYTES),
        ("root-a", "8304", slot_bytes),
        ("root-b", "8304", slot_bytes),
        ("state", "8300", state_bytes),
    )
    start = MIB
    parts = []
    for number, (label, code, size) in enumerate(fixed, start=1):
        parts.append(Partition(number, label, code, start, size))
        start += size
    # The last MiB belongs to the table's copy.
    rest = disk_bytes // MIB * MIB - MIB - start
    if rest < LEAST_MODELS_BYTES:
        needs = start + LEAST_MODELS_BYTES + MIB
        raise InstallRefused(
            "disk_too_small",
            f"The disk has {size_words(disk_bytes)}; two system partitions of {size_words(slot_bytes)}, state of "
            f"{size_words(state_bytes)} and the least room for models need {size_words(needs)}.",
            "Choose a larger disk, or smaller slot_gib and state_gib under [disk].",
        )
    return (*parts, Partition(len(parts) + 1, "models", "8300", start, rest))


def sgdisk_arguments(parts: Sequence[Partition], sector_bytes: int) -> list[str]:
    """One call's arguments that write the table anew, without the device."""
    arguments = ["--zap-all", "--clear", "--set-alignment=1"]
    for part in parts:
        first, last = part.start_bytes // sector_bytes, part.end_bytes // sector_bytes - 1
        arguments += [
            f"--new={part.number}:{first}:{last}",
            f"--typecode={part.number}:{part.type_code}",
            f"--change-name={part.number}:{part.label}",
        ]
    return arguments


def is_in_place(disk: BlockDevice, parts: Sequence[Partition]) -> bool:
    """Whether the disk has exactly this table already."""
    found = [(part.part_label, part.start_bytes, part.size_bytes) for part in disk.children]
    return disk.table == "gpt" and found == [(part.label, part.start_bytes, part.size_bytes) for part in parts]
