"""The issues of the box: one writer. A check that finds a problem opens one; it goes when the check finds it no longer.

open (since) -> open -> ... -> not found once -> not found twice: gone

A value at the edge of a bound comes and goes; so an issue stays for one look more after it was last found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog

from appliance.errors import FixupNotOffered, IssueNotFound
from appliance.health.types import BoxFacts, Check, Fixup, Problem
from appliance.schemas.issues import SEVERITIES, FixupButton, FixupResult, Issue, IssueList

_log = structlog.get_logger(__name__)

Change = Literal["issue.opened", "issue.changed", "issue.closed"]
LOOK_EVERY_S = 15.0
_LOOKS_WITHOUT = 2


@dataclass
class _Open:
    problem: Problem
    since: datetime
    missed: int = 0


class IssueBoard:
    """What API, metrics and console show. ``facts`` gathers what the checks look at; ``sleep`` passes between looks."""

    def __init__(
        self,
        facts: Callable[[], Awaitable[BoxFacts]],
        checks: Sequence[Check],
        fixups: Sequence[Fixup],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_change: Callable[[Change, Issue], None] = lambda _change, _issue: None,
    ) -> None:
        """``on_change`` hears of what opens, closes and changes its severity; it returns at once."""
        self._facts = facts
        self._checks = tuple(checks)
        self._fixups = {fixup.name: fixup for fixup in fixups}
        self._sleep = sleep
        self._on_change = on_change
        self._open: dict[str, _Open] = {}
        self._checked_at: datetime | None = None
        self._looking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    # -- reading ----------------------------------------------------------------------------------------------------

    def issues(self) -> IssueList:
        """All that is open, the gravest and then the newest first."""
        found = [self._issue(one) for one in self._open.values()]
        found.sort(key=lambda issue: (SEVERITIES.index(issue.severity), -issue.since.timestamp(), issue.id))
        return IssueList(issues=tuple(found), checked_at=self._checked_at)

    # -- the writer -------------------------------------------------------------------------------------------------

    async def look(self, *, settled: bool = False) -> IssueList:
        """Run every check now. ``settled``: what is not found is gone at once, as after a fix-up."""
        async with self._looking:
            facts = await self._facts()
            found = {problem.key: problem for problem in self._run(facts)}
            self._checked_at = facts.now
            for key, problem in found.items():
                known = self._open.get(key)
                if known is None:
                    self._open[key] = _Open(problem, facts.now)
                    write = _log.error if problem.severity == "error" else _log.warning
                    write("issue_opened", issue=key, severity=problem.severity, message=problem.message)
                    self._on_change("issue.opened", self._issue(self._open[key]))
                else:
                    has_changed = known.problem.severity != problem.severity
                    known.problem, known.missed = problem, 0
                    if has_changed:
                        self._on_change("issue.changed", self._issue(known))
            for key, one in list(self._open.items()):
                if key in found:
                    continue
                one.missed += 1
                if settled or one.missed >= _LOOKS_WITHOUT:
                    del self._open[key]
                    _log.info("issue_gone", issue=key)
                    self._on_change("issue.closed", self._issue(one))
        return self.issues()

    async def fix(self, issue_id: str, name: str) -> FixupResult:
        """Apply a fix-up that an open issue offers, and look again.

        Raises IssueNotFound, FixupNotOffered, and what the fix-up raises.
        """
        one = self._open.get(issue_id)
        if one is None:
            raise IssueNotFound(issue=issue_id)
        fixup = self._fixups.get(name)
        if fixup is None or name not in one.problem.fixups:
            raise FixupNotOffered(fixup=name, issue=issue_id, offered=", ".join(one.problem.fixups) or "none")
        _log.info("fixup", name=name, issue=issue_id)
        message = await fixup.apply(one.problem.subject)
        return FixupResult(message=message, issues=(await self.look(settled=True)).issues)

    def start(self) -> None:
        """Begin to look by itself."""
        self._watching = asyncio.create_task(self._watch(), name="issues")

    async def aclose(self) -> None:
        """End that."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the loop top: facts that cannot be gathered now may be later
                _log.exception("issues_not_checked")
            await self._sleep(LOOK_EVERY_S)

    def _run(self, facts: BoxFacts) -> Iterable[Problem]:
        for check in self._checks:
            yield from check(facts)

    def _issue(self, one: _Open) -> Issue:
        problem = one.problem
        return Issue(
            id=problem.key,
            code=problem.code,
            severity=problem.severity,
            message=problem.message,
            since=one.since,
            subject=problem.subject,
            hint=problem.hint,
            fixups=tuple(
                FixupButton(name=name, label=self._fixups[name].label)
                for name in problem.fixups
                if name in self._fixups
            ),
        )
