"""Prove again that the loaded models run where they should."""

from __future__ import annotations

from typing import Protocol

from appliance.schemas.offload import Offload


class OffloadChecker(Protocol):
    """The part of ``OffloadService`` that is needed here."""

    async def check_all(self) -> None: ...

    def verdict(self, model_id: str) -> Offload | None: ...


class CheckOffload:
    """Users are not disturbed: while they are answered their own traffic is measured."""

    name = "check_offload"
    label = "Check it again"

    def __init__(self, offload: OffloadChecker) -> None:
        self._offload = offload

    async def apply(self, subject: str | None) -> str:
        """Takes seconds for each model."""
        await self._offload.check_all()
        verdict = None if subject is None else self._offload.verdict(subject)
        return "Checked." if verdict is None else f"{verdict.model}: {verdict.state}."
