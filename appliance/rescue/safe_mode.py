"""Safe mode: the box starts without a model, so that a model that takes the daemon down can be changed."""

from __future__ import annotations

from pathlib import Path

from appliance.backup.disk import write_private

FILE = "safe-mode"


def is_safe_mode(state_dir: Path) -> bool:
    """Whether the next start is without a model."""
    try:
        return (state_dir / FILE).is_file()
    except OSError:
        return False


def set_safe_mode(state_dir: Path, *, on: bool) -> None:
    """Switch it for the starts to come. Raises OSError."""
    if on:
        write_private(state_dir / FILE, b"")
    else:
        (state_dir / FILE).unlink(missing_ok=True)
