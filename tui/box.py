"""What the console knows of the box: one ``Resource`` for each thing that it shows."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from appliance.schemas.health import Readiness
from appliance.schemas.issues import FixupResult, IssueList
from appliance.schemas.models import ModelEntries
from appliance.schemas.offload import OffloadList
from appliance.schemas.telemetry import Telemetry
from tui.client import BoxClient, Problem
from tui.rates import TokenRate, generated_tokens
from tui.resource import Clock, Resource, known

_NEWEST_EVENT = 1 << 53
"""Of telemetry's events none are shown yet, so none are asked for."""


class BoxView:
    """The resources, and what an operator may ask the box to do. ``changed`` is called after every answer."""

    def __init__(self, client: BoxClient, clock: Clock, changed: Callable[[], None], *, every_s: float) -> None:
        self.client, self.clock = client, clock
        self.rate = TokenRate()
        self.readiness: Resource[Readiness] = Resource(
            lambda: client.get("/readyz", Readiness, also=(503,)), clock, every_s=every_s, changed=changed
        )
        self.models: Resource[ModelEntries] = Resource(
            lambda: client.get("/api/admin/models", ModelEntries), clock, every_s=every_s, changed=changed
        )
        self.offload: Resource[OffloadList] = Resource(
            lambda: client.get("/api/admin/offload", OffloadList), clock, every_s=5 * every_s, changed=changed
        )
        self.telemetry: Resource[Telemetry] = Resource(
            lambda: client.get(f"/api/admin/telemetry?since={_NEWEST_EVENT}", Telemetry),
            clock,
            every_s=every_s,
            changed=changed,
        )
        self.issues: Resource[IssueList] = Resource(
            lambda: client.get("/api/admin/issues", IssueList), clock, every_s=2 * every_s, changed=changed
        )
        self.tokens: Resource[float] = Resource(self._tokens, clock, every_s=every_s, changed=changed)

    def all(self) -> tuple[Resource[object], ...]:
        """Every resource, to be polled."""
        return (self.readiness, self.models, self.offload, self.telemetry, self.issues, self.tokens)  # type: ignore[return-value]

    def wake(self) -> None:
        """Ask for everything now."""
        for one in self.all():
            one.wake()

    async def check(self) -> Problem | None:
        """Have the box run all checks now."""
        answer = await self.client.post("/api/admin/issues/check", IssueList)
        if isinstance(answer, Problem):
            return answer
        self.issues.put(answer)
        return None

    async def fix(self, issue_id: str, name: str) -> FixupResult | Problem:
        """Apply a fix-up; minutes, where it loads a model."""
        answer = await self.client.post(
            f"/api/admin/issues/{quote(issue_id, safe='@:')}/fixups/{quote(name, safe='')}", FixupResult
        )
        if not isinstance(answer, Problem):
            before = known(self.issues.state())
            self.issues.put(IssueList(issues=answer.issues, checked_at=None if before is None else before.checked_at))
        return answer

    async def _tokens(self) -> float | Problem:
        text = await self.client.text("/metrics")
        if isinstance(text, Problem):
            return text
        counters = generated_tokens(text)
        self.rate.read(self.clock.seconds(), counters)
        return sum(counters.values())
