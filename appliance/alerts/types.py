"""Values of alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from appliance.schemas.issues import SEVERITIES, Issue, SeverityWord

EventName = Literal["issue.opened", "issue.changed", "issue.closed", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertConfig:
    """Where alerts go. ``severity`` is the least one that is told; ``secret`` signs them; ``loopback`` allows programs
    of this machine; ``ca_bundle`` has certificates that are trusted beside the usual ones."""

    urls: tuple[str, ...] = ()
    secret: str | None = field(default=None, repr=False)
    severity: SeverityWord = "warning"
    loopback: bool = False
    ca_bundle: Path | None = None

    def wants(self, severity: SeverityWord) -> bool:
        """Whether an issue of that severity is told."""
        return SEVERITIES.index(severity) <= SEVERITIES.index(self.severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """Something to tell. ``id`` is the same at every try, so that whoever gets it twice can know."""

    id: str
    name: EventName
    at: datetime
    box: str
    issue: Issue | None = None

    def body(self) -> dict[str, Any]:
        """What is posted. ``text`` is for chat programs, which show it and pass over the rest."""
        return {
            "id": self.id,
            "event": self.name,
            "at": self.at.isoformat(),
            "box": self.box,
            "text": self.text,
            "issue": None if self.issue is None else self.issue.model_dump(mode="json"),
        }

    @property
    def text(self) -> str:
        """One line for people."""
        if self.issue is None:
            return f"{self.box}: a test of R1 Box's alerts."
        if self.name == "issue.closed":
            return f"{self.box}: no longer so: {self.issue.message}"
        hint = f" Next: {self.issue.hint}" if self.issue.hint else ""
        return f"{self.box}: {self.issue.severity}: {self.issue.message}{hint}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other side has taken it."""

    status: int


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """It has not. ``again``: another try may help, after ``wait_s`` if the other side said so."""

    reason: str
    again: bool
    wait_s: float | None = None
