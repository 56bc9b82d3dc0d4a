"""Look for the cards anew: after a driver was restarted or a card was reset."""

from __future__ import annotations

from typing import Protocol

from drivers.types import HardwareSnapshot


class Detector(Protocol):
    """The part of ``HardwareReader`` that is needed here."""

    async def detect(self) -> HardwareSnapshot: ...


class DetectHardware:
    """Changes nothing on the machine."""

    name = "detect_hardware"
    label = "Look for the cards again"

    def __init__(self, hardware: Detector) -> None:
        self._hardware = hardware

    async def apply(self, subject: str | None) -> str:
        """Takes seconds."""
        del subject
        snapshot = await self._hardware.detect()
        count = len(snapshot.devices)
        return f"{count} {'device answers' if count == 1 else 'devices answer'}."
