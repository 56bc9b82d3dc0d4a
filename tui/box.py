"""What the console knows of the box: one ``Resource`` for each thing that it shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from appliance.schemas.box import BoxIdentity
from appliance.schemas.health import Readiness
from appliance.schemas.issues import FixupResult, IssueList
from appliance.schemas.models import ModelEntries
from appliance.schemas.offload import OffloadList
from appliance.schemas.operators import About, LiveRequests, ServingHistory, StickList
from appliance.schemas.telemetry import Hardware, Telemetry, TelemetryHistory
from tui.client import BoxClient, Problem
from tui.resource import Clock, Resource, known

if TYPE_CHECKING:
    from appliance.schemas.accounts import UserList
    from appliance.schemas.backups import BackupList
    from appliance.schemas.cluster import ClusterStatus
    from appliance.schemas.first_run import FirstRun
    from appliance.schemas.jobs import Job, JobList, JobWish
    from appliance.schemas.network import Network
    from appliance.schemas.plans import Plans, PlansQuery
    from appliance.schemas.settings import SettingList
    from tui.keys_feed import KeysFeed
    from tui.log_feed import LogFeed

Body = TypeVar("Body", bound=BaseModel)

_NEWEST_EVENT = 1 << 53
"""Of telemetry's events none are shown yet, so none are asked for."""
CARD_POINTS = 120
_CARD_FIELDS = ("utilization_percent", "memory_used_bytes", "temperature_celsius", "power_watts")


class BoxView:
    """The resources, and what an operator may ask the box to do. ``changed`` is called after every answer.

    ``readiness`` is asked for as long as the console runs, the others while a screen that shows them is there. What the
    first screen does not show is made, and its schemas are loaded, when it is asked for.
    """

    def __init__(self, client: BoxClient, clock: Clock, changed: Callable[[], None], *, every_s: float) -> None:
        self.client, self.clock = client, clock
        self.card: str | None = None
        self.plot_columns = 60
        self._changed, self._every_s = changed, every_s
        self.readiness: Resource[Readiness] = self._asked(
            lambda: client.get("/readyz", Readiness, also=(503,)), times=1
        )
        self.models = self._of("/api/admin/models", ModelEntries)
        self.offload = self._of("/api/admin/offload", OffloadList, times=5)
        self.telemetry = self._of(f"/api/admin/telemetry?since={_NEWEST_EVENT}", Telemetry)
        self.issues = self._of("/api/admin/issues", IssueList, times=2)
        self.serving: Resource[ServingHistory] = self._asked(self._serving, times=2.5)
        self.live = self._of("/api/admin/requests/live?limit=2000", LiveRequests, times=0.5)
        self.sticks = self._of("/api/admin/sticks", StickList, times=2)
        self.about = self._of("/api/admin/about", About, times=30)
        self.identity = self._of("/api/admin/box", BoxIdentity, times=15)
        self.hardware = self._of("/api/admin/hardware", Hardware, times=15)
        self.history: Resource[TelemetryHistory] = self._asked(self._history, times=2.5)
        self.plans: Resource[Plans] = self._asked(self._plans, times=60)

    def _of(self, path: str, kind: type[Body], *, times: float = 1) -> Resource[Body]:
        return self._asked(lambda: self.client.get(path, kind), times=times)

    def _asked(self, fetch: Callable[[], Any], *, times: float) -> Resource[Any]:
        return Resource(fetch, self.clock, every_s=times * self._every_s, changed=self._changed)

    @cached_property
    def wish(self) -> PlansQuery:
        """What the plans are asked for with."""
        from appliance.schemas.plans import PlansQuery

        return PlansQuery()

    @cached_property
    def jobs(self) -> Resource[JobList]:
        """The newest jobs."""
        from appliance.schemas.jobs import JobList

        return self._of("/api/admin/jobs?limit=200", JobList, times=0.5)

    @cached_property
    def cluster(self) -> Resource[ClusterStatus]:
        """The boxes that serve a model together."""
        from appliance.schemas.cluster import ClusterStatus

        return self._of("/api/admin/cluster", ClusterStatus, times=2)

    @cached_property
    def users(self) -> Resource[UserList]:
        """People."""
        from appliance.schemas.accounts import UserList

        return self._of("/api/admin/users?limit=500", UserList, times=5)

    @cached_property
    def keys(self) -> KeysFeed:
        """API keys, as far as they were looked at."""
        from tui.keys_feed import KeysFeed

        return KeysFeed(self.client, self.clock, every_s=5 * self._every_s, changed=self._changed)

    @cached_property
    def logs(self) -> LogFeed:
        """The daemon's log, followed."""
        from tui.log_feed import LogFeed

        return LogFeed(self.client, self.clock, every_s=self._every_s, changed=self._changed)

    @cached_property
    def backups(self) -> Resource[BackupList]:
        """Backups of the box and on sticks."""
        from appliance.schemas.backups import BackupList

        return self._of("/api/admin/backups", BackupList, times=2)

    @cached_property
    def settings(self) -> Resource[SettingList]:
        """All settings."""
        from appliance.schemas.settings import SettingList

        return self._of("/api/admin/settings", SettingList, times=5)

    @cached_property
    def network(self) -> Resource[Network]:
        """The machine's network and clock."""
        from appliance.schemas.network import Network

        return self._of("/api/admin/network", Network, times=2)

    @cached_property
    def first_run(self) -> Resource[FirstRun]:
        """What a new box still needs."""
        from appliance.schemas.first_run import FirstRun

        return self._of("/api/admin/first-run", FirstRun)

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
        from appliance.schemas.jobs import Job, JobRequest

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
        from appliance.schemas.plans import Plans

        wish = self.wish.model_dump(exclude_none=True, exclude_defaults=True)
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in wish.items())
        return await self.client.get(f"/api/admin/plans?{query}", Plans, timeout_s=60)
