"""What the console knows of the box: one ``Resource`` for each thing that it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from appliance.schemas.accounts import UserList
from appliance.schemas.box import BoxIdentity
from appliance.schemas.health import Readiness
from appliance.schemas.issues import FixupResult, IssueList
from appliance.schemas.jobs import Job, JobList, JobRequest, JobWish
from appliance.schemas.models import ModelEntries
from appliance.schemas.offload import OffloadList
from appliance.schemas.operators import About, LiveRequests, ServingHistory, StickList
from appliance.schemas.plans import Plans, PlansQuery
from appliance.schemas.settings import SettingList
from appliance.schemas.telemetry import Hardware, Telemetry, TelemetryHistory
from tui.client import BoxClient, Problem
from tui.keys_feed import KeysFeed
from tui.log_feed import LogFeed
from tui.resource import Clock, Resource, known

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)

_NEWEST_EVENT = 1 << 53
"""Of telemetry's events none are shown yet, so none are asked for."""
CARD_POINTS = 120
_CARD_FIELDS = ("utilization_percent", "memory_used_bytes", "temperature_celsius", "power_watts")


class BoxView:
    """The resources, and what an operator may ask the box to do. ``changed`` is called after every answer.

    ``readiness`` is asked for as long as the console runs, the others while a screen that shows them is there.
    """

    def __init__(self, client: BoxClient, clock: Clock, changed: Callable[[], None], *, every_s: float) -> None:
        self.client, self.clock = client, clock
        self.wish = PlansQuery()
        self.card: str | None = None
        self.plot_columns = 60

        def of(path: str, kind: type[Body], *, times: float = 1) -> Resource[Body]:
            return Resource(lambda: client.get(path, kind), clock, every_s=times * every_s, changed=changed)

        def asked(fetch: Callable[[], object], *, times: float) -> Resource[T]:
            return Resource(fetch, clock, every_s=times * every_s, changed=changed)  # type: ignore[arg-type]

        self.readiness: Resource[Readiness] = asked(lambda: client.get("/readyz", Readiness, also=(503,)), times=1)
        self.models = of("/api/admin/models", ModelEntries)
        self.offload = of("/api/admin/offload", OffloadList, times=5)
        self.telemetry = of(f"/api/admin/telemetry?since={_NEWEST_EVENT}", Telemetry)
        self.issues = of("/api/admin/issues", IssueList, times=2)
        self.serving: Resource[ServingHistory] = asked(self._serving, times=2.5)
        self.live = of("/api/admin/requests/live?limit=2000", LiveRequests, times=0.5)
        self.jobs = of("/api/admin/jobs?limit=200", JobList, times=0.5)
        self.users = of("/api/admin/users?limit=500", UserList, times=5)
        self.keys = KeysFeed(client, clock, every_s=5 * every_s, changed=changed)
        self.sticks = of("/api/admin/sticks", StickList, times=2)
        self.about = of("/api/admin/about", About, times=30)
        self.logs = LogFeed(client, clock, every_s=every_s, changed=changed)
        self.settings = of("/api/admin/settings", SettingList, times=5)
        self.identity = of("/api/admin/box", BoxIdentity, times=15)
        self.hardware = of("/api/admin/hardware", Hardware, times=15)
        self.history: Resource[TelemetryHistory] = asked(self._history, times=2.5)
        self.plans: Resource[Plans] = asked(self._plans, times=60)

    @property
    def page_url(self) -> str | None:
        """Where people open the chat page: as it was named, else as the box says; None when neither is known."""
        named, told = self.client.target.page_url, known(self.identity.state())
        if named is not None or told is None or not told.urls:
            return named
        return told.urls[0]

    def wake(self) -> None:
        """Ask for everything that is being asked for now."""
        for one in vars(self).values():
            if isinstance(one, Resource):
                one.wake()

    async def check(self) -> IssueList | Problem:
        """Have the box run all checks now."""
        answer = await self.client.post("/api/admin/issues/check", IssueList)
        if not isinstance(answer, Problem):
            self.issues.put(answer)
        return answer

    async def fix(self, issue_id: str, name: str) -> FixupResult | Problem:
        """Apply a fix-up; minutes, where it loads a model."""
        answer = await self.client.post(
            f"/api/admin/issues/{quote(issue_id, safe='@:')}/fixups/{quote(name, safe='')}", FixupResult
        )
        if not isinstance(answer, Problem):
            before = known(self.issues.state())
            self.issues.put(IssueList(issues=answer.issues, checked_at=None if before is None else before.checked_at))
        return answer

    async def submit(self, wish: JobWish) -> Job | Problem:
        """Begin a job."""
        return await self.client.send("POST", "/api/admin/jobs", Job, JobRequest(wish))

    async def _serving(self) -> ServingHistory | Problem:
        """An hour, a bucket for each column of the plot."""
        path = f"/api/admin/serving/history?seconds=3600&points={self.plot_columns}"
        return await self.client.get(path, ServingHistory)

    async def _history(self) -> TelemetryHistory | Problem:
        """An hour of the card that is looked at."""
        if self.card is None:
            return Problem("no_card")
        series = "".join(f"&series={quote(f'{self.card}/{field}', safe='')}" for field in _CARD_FIELDS)
        path = f"/api/admin/telemetry/history?seconds=3600&points={CARD_POINTS}{series}"
        return await self.client.get(path, TelemetryHistory)

    async def _plans(self) -> Plans | Problem:
        wish = self.wish.model_dump(exclude_none=True, exclude_defaults=True)
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in wish.items())
        return await self.client.get(f"/api/admin/plans?{query}", Plans, timeout_s=60)
