"""``/api/admin/plans``, ``sticks``, ``about`` and ``serving``: what operators ask beside the models' state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Query
from starlette.responses import Response

from appliance.api.replies import json_reply
from appliance.api.routes import Routes
from appliance.schemas.operators import About, ServingHistory, ServingQuery, StickList
from appliance.schemas.plans import Plans, PlansQuery


class PlanSource(Protocol):
    """What ``appliance.operators.plans.PlanReader`` gives. It may take as long as a detection: seconds."""

    async def plans(self, wish: PlansQuery) -> Plans: ...


class StickSource(Protocol):
    """What ``appliance.operators.sticks.StickReader`` gives. Blocks."""

    def read(self) -> StickList: ...


class SoftwareSource(Protocol):
    """What ``appliance.operators.software.SoftwareReader`` gives. Blocks."""

    def read(self) -> About: ...


class ServingSource(Protocol):
    """What ``appliance.metrics.serving_history.ServingRecorder`` gives."""

    def history(self, seconds: int, points: int) -> ServingHistory: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorServices:
    """Whom the routes ask."""

    plans: PlanSource
    sticks: StickSource
    software: SoftwareSource
    serving: ServingSource


def operators_router(source: OperatorServices) -> Routes:
    """The four routes; none changes anything."""
    router = Routes(prefix="/api/admin", tags=["operators"])

    @router.get("/plans", response_model=Plans, operation_id="plans")
    async def plans(query: Annotated[PlansQuery, Query()]) -> Response:
        return json_reply(await source.plans.plans(query))

    @router.get("/sticks", response_model=StickList, operation_id="sticks")
    async def sticks() -> Response:
        return json_reply(await asyncio.to_thread(source.sticks.read))

    @router.get("/about", response_model=About, operation_id="about")
    async def about() -> Response:
        return json_reply(await asyncio.to_thread(source.software.read))

    @router.get("/serving/history", response_model=ServingHistory, operation_id="serving_history")
    async def serving(query: Annotated[ServingQuery, Query()]) -> Response:
        return json_reply(source.serving.history(query.seconds, query.points))

    return router
