"""The server's certificate ends soon: browsers and programs then refuse the box."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.types import BoxFacts, Problem

SOON = timedelta(days=14)
"""The box's own certificate is renewed long before; one of the operator's has to be replaced by them."""


def certificate_ends(facts: BoxFacts) -> Iterator[Problem]:
    """Two weeks before a warning, then an error."""
    ends = facts.certificate_ends_at
    if ends is None or ends - facts.now > SOON:
        return
    days = (ends - facts.now).days
    over = ends <= facts.now
    message = "The server's certificate has ended." if over else f"The server's certificate ends in {days} days."
    yield Problem(
        code="certificate_ends",
        severity="error" if over else "warning",
        message=message,
        hint="Put a new one in place of the file that tls_certificate names; it is loaded within the hour. With tls = "
        '"local" the box renews it by itself: check the clock and that the state folder can be written.',
    )
