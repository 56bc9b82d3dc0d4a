"""Bodies of ``/api/admin/issues``: problems that an operator should know, and the buttons that mend them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

SeverityWord = Literal["info", "warning", "error"]
SEVERITIES: tuple[SeverityWord, ...] = ("error", "warning", "info")
"""The gravest first."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class FixupButton(_Value):
    """A fix-up that this issue offers: ``name`` for programs, ``label`` for a button."""

    name: str
    label: str


class Issue(_Value):
    """A problem that is so now. ``id`` is ``code`` or ``code@subject``; ``subject`` is what it concerns: a device's
    key, a model's id, ``state`` or ``models`` (disks). ``hint`` is what to do next. It goes by itself when it is no
    longer so."""

    id: str
    code: str
    severity: SeverityWord
    message: str
    since: datetime
    subject: str | None = None
    hint: str | None = None
    fixups: tuple[FixupButton, ...] = ()


class IssueList(_Value):
    """All issues, the gravest first. ``checked_at`` is when it was looked last; null before the first time."""

    issues: tuple[Issue, ...] = ()
    checked_at: datetime | None = None


class FixupResult(_Value):
    """What a fix-up did, in a sentence, and the issues as they are after it."""

    message: str
    issues: tuple[Issue, ...] = ()
