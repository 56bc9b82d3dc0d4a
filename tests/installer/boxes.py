"""Facts and answers that the installer's tests share."""

from __future__ import annotations

from pathlib import Path

from installer.answers import Answers, parse_answers
from installer.facts import Facts, SystemImage
from installer.inventory import BlockDevice, parse_inventory

FIXTURES = Path(__file__).parents[1] / "fixtures/installer"
LEAST = (FIXTURES / "accept/least.toml").read_text("utf-8")


def inventory(name: str = "server") -> tuple[BlockDevice, ...]:
    return parse_inventory((FIXTURES / f"lsblk/{name}.json").read_text("utf-8"))


def answers(text: str = LEAST, **changes: str) -> Answers:
    """The least answers with some texts replaced."""
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse_answers(text)


def image(folder: Path = Path("/run/live/medium/live"), **given: object) -> SystemImage:
    values = {"version": "0.1", "folder": folder, "squashfs": "filesystem.squashfs", "size_bytes": 3 << 20}
    return SystemImage(**{**values, "sha256": "ab" * 32, **given})  # type: ignore[arg-type]


def facts(**given: object) -> Facts:
    values = {"devices": inventory(), "architecture": "x86_64", "uefi": True, "memory_bytes": 64 << 30}
    return Facts(**{**values, "image": image(), **given})  # type: ignore[arg-type]
