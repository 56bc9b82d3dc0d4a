"""A webhook does not take what it is posted: whoever relies on it hears nothing."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem

_FAILURES = 3
"""Tries in a row, over 20 seconds: one lost answer is no state. An event that was given up is one at once."""


def alerts_are_not_delivered(facts: BoxFacts) -> Iterator[Problem]:
    """A receiver whose last tries failed."""
    for one in facts.alerts:
        if one.failures == 0 or (one.failures < _FAILURES and not one.given_up):
            continue
        lost = one.given_up + one.dropped
        counts = f" {one.waiting} wait" if one.waiting else ""
        counts += f"{',' if counts else ''} {lost} were lost" if lost else ""
        yield Problem(
            code="alerts_not_delivered",
            severity="warning",
            subject=one.target,
            message=f"Alerts do not reach {one.target}: {one.last_error or 'it does not answer'}."
            + (f"{counts} so far." if counts else ""),
            hint="Look whether the receiver runs and its address in the setting alert_urls is right; then post a test "
            "(r1box alerts test).",
            fixups=("test_alerts",),
        )
