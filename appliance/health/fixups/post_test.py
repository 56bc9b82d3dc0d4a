"""Post a test to every receiver of alerts."""

from __future__ import annotations

from typing import Protocol

from appliance.schemas.alerts import AlertResult


class AlertTester(Protocol):
    """The part of ``AlertService`` that is needed here."""

    async def test(self) -> tuple[AlertResult, ...]: ...


class PostTest:
    """A test that is taken ends the issue; what waits goes out with its next try."""

    name = "test_alerts"
    label = "Post a test"

    def __init__(self, alerts: AlertTester) -> None:
        self._alerts = alerts

    async def apply(self, subject: str | None) -> str:
        """Takes ten seconds at most. Says how the receiver of the issue took it, or how all did."""
        results = await self._alerts.test()
        mine = [one for one in results if one.target == subject] or results
        return " ".join(_said(one) for one in mine) or "There is no receiver any more."


def _said(one: AlertResult) -> str:
    return f"{one.target} took it." if one.delivered else f"{one.target}: {one.problem}."
