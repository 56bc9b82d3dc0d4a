"""A stick with answers and bundles as an image file, without mounting anything (mtools)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drivers.command import minimal_environment, run

_STEP_S = 300.0


def make_stick(image: Path, label: str, size_mib: int, files: Mapping[str, str], folders: Sequence[Path] = ()) -> None:
    """A FAT32 file system named ``label`` with these texts and, by their names, these folders. Raises CommandFailed."""
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    _run("mkfs.vfat", "-F", "32", "-n", label, str(image))
    for name, text in files.items():
        source = image.with_name(f"{image.name}.{name}")
        source.write_text(text, "utf-8")
        _run("mcopy", "-i", str(image), str(source), f"::{name}")
        source.unlink()
    for folder in folders:
        _run("mcopy", "-s", "-i", str(image), str(folder), "::")


def read_file(image: Path, name: str) -> str | None:
    """A text of the stick; None when it is not there."""
    listed = run(
        ("mtype", "-i", str(image), f"::{name}"), timeout_s=_STEP_S, environment=minimal_environment(), ok_codes=(0, 1)
    )
    return listed.stdout if listed.exit_code == 0 else None


def _run(*argv: str) -> None:
    # Images have no geometry of a real disk.
    run(argv, timeout_s=_STEP_S, environment=minimal_environment(MTOOLS_SKIP_CHECK="1"))
