"""What the last detection found wrong with cards, drivers and nodes (docs/drivers.md has the codes)."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem
from drivers.types import Severity


def hardware_findings(facts: BoxFacts) -> Iterator[Problem]:
    """Findings that are more than worth knowing. Their code is kept, so that documents and searches agree."""
    seen: set[str] = set()
    for finding in facts.findings:
        if finding.severity is Severity.INFO:
            continue
        problem = Problem(
            code=finding.code,
            severity="error" if finding.severity is Severity.ERROR else "warning",
            subject=finding.device or finding.source,
            message=finding.message,
            hint=finding.hint,
            fixups=("detect_hardware",),
        )
        if problem.key not in seen:
            seen.add(problem.key)
            yield problem
