"""Watches Ascend cards through a DCMI child that is asked again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from drivers.errors import MonitorFailed
from drivers.types import DeviceSample


@dataclass
class AscendMonitor:
    root: Path = Path("/")
    name: str = field(default="ascend", init=False)
    interval_s: float = field(default=1.0, init=False)

    def sample(self) -> tuple[DeviceSample, ...]:
        raise MonitorFailed("monitor_unavailable", "Not built yet.")

    def close(self) -> None:
        return None
