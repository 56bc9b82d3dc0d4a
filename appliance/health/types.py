"""What checks look at and what they find. Values only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from appliance.schemas.alerts import AlertTarget
from appliance.schemas.cluster import ClusterStatus
from appliance.schemas.issues import SeverityWord
from appliance.schemas.models import ModelEntry
from appliance.schemas.offload import Offload
from appliance.schemas.telemetry import Telemetry
from drivers.types import Finding


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """A file system that the box writes to. ``name`` is ``state`` or ``models``."""

    name: str
    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFacts:
    """The box at one moment. ``restarts`` are when engines died, by model; ``refused`` are models whose load was ended
    because it fell back to the processor, with the reason; ``damaged`` folders of the store, with the problem;
    ``newest_import_at`` the newest date that the store knows; ``certificate_ends_at`` of the server's certificate;
    ``alerts`` are the receivers of alerts."""

    now: datetime
    telemetry: Telemetry
    models: tuple[ModelEntry, ...] = ()
    offload: tuple[Offload, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    restarts: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    disks: tuple[DiskRoom, ...] = ()
    newest_import_at: datetime | None = None
    certificate_ends_at: datetime | None = None
    cluster: ClusterStatus = field(default_factory=ClusterStatus)
    alerts: tuple[AlertTarget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a check found; ``fixups`` are names of ``appliance.health.fixups``."""

    code: str
    severity: SeverityWord
    message: str
    subject: str | None = None
    hint: str | None = None
    fixups: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same problem at another moment has the same key."""
        return self.code if self.subject is None else f"{self.code}@{self.subject}"


Check = Callable[[BoxFacts], Iterable[Problem]]
"""Pure: what is wrong with these facts."""


class Fixup(Protocol):
    """Mends something when an operator says so."""

    @property
    def name(self) -> str:
        """For programs."""

    @property
    def label(self) -> str:
        """For a button: a verb."""

    async def apply(self, subject: str | None) -> str:
        """Do it; the result is a sentence. Raises AppError and others that explain themselves."""
        ...
