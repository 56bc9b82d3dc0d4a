"""The last detection of this machine's hardware, and a new one on demand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.schemas.telemetry import Hardware
from drivers.snapshot_json import to_dict
from drivers.types import Device, Finding, HardwareSnapshot


@dataclass(frozen=True, slots=True)
class _Detection:
    at: datetime
    duration_s: float
    snapshot: HardwareSnapshot


class HardwareReader:
    """Keeps the newest snapshot. One detection runs at a time: who asks for another meanwhile gets its result.

    Belongs to one event loop; the detection itself runs in a thread.
    """

    def __init__(self, detect: Callable[[], HardwareSnapshot]) -> None:
        """``detect`` blocks, for ``drivers.probe.DEFAULT_TIMEOUT_S`` at most."""
        self._detect = detect
        self._last: _Detection | None = None
        self._devices: Mapping[str, Device] = {}
        self._running: asyncio.Task[_Detection] | None = None

    def devices(self) -> Mapping[str, Device]:
        """The devices of the newest snapshot by their keys; none before the first one."""
        return self._devices

    def findings(self) -> tuple[Finding, ...]:
        """What the newest snapshot found wrong; nothing before the first one."""
        return () if self._last is None else self._last.snapshot.findings

    async def detect(self) -> HardwareSnapshot:
        """A new snapshot, or that of the detection that runs already."""
        return (await self._new()).snapshot

    async def last(self) -> Hardware:
        """The newest snapshot; before there is one, the first is waited for."""
        return _told(self._last or await self._new())

    async def refresh(self) -> Hardware:
        """As ``detect``, for the API."""
        return _told(await self._new())

    async def aclose(self) -> None:
        """Wait for a detection no longer. Its thread ends by itself, with the children that it started."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def _new(self) -> _Detection:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="detect")
        # Who leaves must not take the result from the others.
        return await asyncio.shield(self._running)

    async def _run(self) -> _Detection:
        at, started = datetime.now(UTC), time.perf_counter()
        snapshot = await asyncio.to_thread(self._detect)
        self._last = _Detection(at, round(time.perf_counter() - started, 3), snapshot)
        self._devices = {device.key: device for device in snapshot.devices}
        return self._last


def _told(detection: _Detection) -> Hardware:
    return Hardware(detected_at=detection.at, duration_s=detection.duration_s, snapshot=to_dict(detection.snapshot))
