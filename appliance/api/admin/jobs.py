"""``/api/admin/jobs``: long work: begin, look, follow, cancel."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Protocol

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.openapi import json_body
from appliance.api.replies import json_reply, read_body
from appliance.api.routes import Routes
from appliance.api.sse import EventStreamResponse, data_event
from appliance.schemas.jobs import Job, JobList, JobRequest, JobWish
from appliance.security.identity import Actor, actor_of


class JobSource(Protocol):
    """What ``appliance.jobs.service.JobService`` gives."""

    async def list(self, limit: int = 100) -> tuple[Job, ...]: ...

    async def get(self, job_id: str) -> Job: ...

    async def folders(self) -> tuple[str, ...]: ...

    async def submit(self, wish: JobWish, actor: Actor) -> Job: ...

    async def cancel(self, job_id: str, actor: Actor) -> Job: ...

    def changes(self, job_id: str | None = None) -> AsyncGenerator[Job, None]: ...


EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def jobs_router(jobs: JobSource, *, keep_alive_s: float) -> Routes:
    """The routes. ``DELETE`` cancels; an event is the job as it is then, and the stream of one job ends with it,
    that of all when none goes on."""
    router = Routes(prefix="/api/admin/jobs", tags=["jobs"])

    @router.get("", response_model=JobList, operation_id="jobs_list")
    async def listed(limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        return json_reply(JobList(jobs=await jobs.list(limit), folders=await jobs.folders()))

    @router.post(
        "",
        status_code=202,
        response_model=Job,
        operation_id="jobs_create",
        openapi_extra=json_body(JobRequest.__name__),
    )
    async def create(request: Request) -> Response:
        body, caller = await read_body(request, JobRequest), caller_of(request)
        return json_reply(await jobs.submit(body.root, actor_of(caller)), status=202)

    @router.get("/events", operation_id="jobs_events", response_class=Response, responses=EVENTS)
    async def events() -> Response:
        return _stream(jobs.changes(), keep_alive_s)

    @router.get("/{job_id}", response_model=Job, operation_id="jobs_get")
    async def one(job_id: str) -> Response:
        return json_reply(await jobs.get(job_id))

    @router.get("/{job_id}/events", operation_id="jobs_follow", response_class=Response, responses=EVENTS)
    async def follow(job_id: str) -> Response:
        await jobs.get(job_id)
        return _stream(jobs.changes(job_id), keep_alive_s)

    @router.delete("/{job_id}", status_code=202, response_model=Job, operation_id="jobs_cancel")
    async def cancel(request: Request, job_id: str) -> Response:
        return json_reply(await jobs.cancel(job_id, actor_of(caller_of(request))), status=202)

    return router


def _stream(changes: AsyncGenerator[Job, None], keep_alive_s: float) -> Response:
    async def events() -> AsyncGenerator[bytes, None]:
        async for job in changes:
            yield data_event(job.model_dump_json().encode())

    return EventStreamResponse(events(), close=changes.aclose, keep_alive_s=keep_alive_s)
