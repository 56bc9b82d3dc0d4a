"""Preflight, the disk, and the system image in slot A.

Why two slots, their sizes and their types: partitions.py. The image is a squashfs that is mounted as it is; /etc and
/var are overlays on the partition of state, as the start of the installed system makes them.
"""

from __future__ import annotations

from installer.actions import Action, ConfirmDisk, CopyImage, MakeFolder, Mount, Run
from installer.answers import Answers
from installer.errors import InstallRefused
from installer.facts import Facts, SystemImage
from installer.inventory import size_words
from installer.partitions import GIB, MIB, sgdisk_arguments
from installer.stages.base import Stage
from installer.target import ESP, MODELS, ROOT, STATE, target_of

ARCHITECTURES = ("x86_64", "aarch64")
LEAST_MEMORY_BYTES = 2 * GIB - 256 * MIB
"""Less than two GiB as sold: firmware keeps a part."""


def image_of(facts: Facts) -> SystemImage:
    """The system to install. Raises InstallRefused (``payload_missing``)."""
    if facts.image is None:
        raise InstallRefused(
            "payload_missing",
            "No system image was found: this is not the installer's medium.",
            "Start from the medium, or name a folder with one: --medium FOLDER.",
        )
    return facts.image


def _preflight(facts: Facts, answers: Answers) -> list[Action]:
    image = image_of(facts)
    if facts.architecture not in ARCHITECTURES:
        raise InstallRefused(
            "machine_unfit", f"There is no R1 Box for {facts.architecture}.", "Use an x86-64 or an arm64 server."
        )
    if facts.memory_bytes is not None and facts.memory_bytes < LEAST_MEMORY_BYTES:
        raise InstallRefused(
            "machine_unfit", f"The machine has {size_words(facts.memory_bytes)} of memory.", "2 GiB is the least."
        )
    if facts.architecture == "aarch64" and not facts.uefi:
        raise InstallRefused("machine_unfit", "An arm64 server must start by UEFI.", "Change it in the firmware.")
    if image.size_bytes > answers.disk.slot_gib * GIB:
        raise InstallRefused(
            "disk_too_small",
            f"The system image has {size_words(image.size_bytes)}, a slot {answers.disk.slot_gib} GiB.",
            "Give a larger slot_gib under [disk].",
        )
    target = target_of(facts, answers)
    return [ConfirmDisk(target.identity, target.disk.size_bytes)]


def _disk(facts: Facts, answers: Answers) -> list[Action]:
    target = target_of(facts, answers)
    actions: list[Action] = []
    if not target.keeps_models:
        actions += [
            Run("forget what was on the disk", ("wipefs", "--all", "--force", "@disk"), destroys=True),
            # 2: there was no table, or a damaged one, to take away.
            Run("take the old partition table away", ("sgdisk", "--zap-all", "@disk"), ok_codes=(0, 2), destroys=True),
            Run(
                "write the partition table",
                ("sgdisk", *sgdisk_arguments(target.parts, target.disk.sector_bytes), "@disk"),
                destroys=True,
            ),
            # udev still looks at the new partitions, and a disk that is being looked at cannot be read anew as a whole.
            Run("wait until nobody looks at the disk", ("udevadm", "settle", "--timeout=60")),
            Run("read the new table", ("partx", "--update", "@disk")),
            Run("wait for the partitions", ("udevadm", "settle", "--timeout=60")),
        ]
    actions += [
        Run("make the EFI partition", ("mkfs.vfat", "-F", "32", "-n", "R1BOX-ESP", "@2"), destroys=True),
        Run("make the partition of state", _ext4("r1box-state", "@5"), timeout_s=600, destroys=True),
    ]
    if not target.keeps_models:
        # Weights are few large files: no blocks kept for root, few inodes.
        models = ("mkfs.ext4", "-q", "-F", "-m", "0", "-T", "largefile", "-L", "r1box-models", "@6")
        actions.append(Run("make the partition of models", models, timeout_s=1800, destroys=True))
    return actions


def _ext4(label: str, partition: str) -> tuple[str, ...]:
    return ("mkfs.ext4", "-q", "-F", "-L", label, partition)


def _root_file_system(facts: Facts, answers: Answers) -> list[Action]:
    image = image_of(facts)
    actions: list[Action] = [
        CopyImage(str(image.file(image.squashfs)), "@3", image.size_bytes, image.sha256),
        MakeFolder(str(ROOT)),
        Mount("@3", str(ROOT), "squashfs", "ro"),
        Mount("@5", str(STATE), "ext4", "noatime"),
        Mount("@2", str(ESP), "vfat", "umask=0077"),
    ]
    for name in ("etc", "var"):
        upper, work = STATE / "overlay" / name / "upper", STATE / "overlay" / name / "work"
        options = f"lowerdir={ROOT / name},upperdir={upper},workdir={work}"
        actions += [
            MakeFolder(str(upper)),
            MakeFolder(str(work)),
            Mount("overlay", str(ROOT / name), "overlay", options),
        ]
    return [*actions, MakeFolder(str(MODELS)), Mount("@6", str(MODELS), "ext4", "noatime")]


PREFLIGHT = Stage("preflight", "Machine and disk", _preflight)
DISK = Stage("disk", "Partitions and file systems", _disk)
ROOT_FILE_SYSTEM = Stage("root-file-system", "System image", _root_file_system)
