"""Boxes to look at: bodies of the daemon's own schemas, a client that gives them, and a server that does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from appliance.schemas.cluster import ClusterStatus
from appliance.schemas.errors import ErrorBody, ErrorEnvelope
from appliance.schemas.health import Readiness
from appliance.schemas.issues import FixupButton, FixupResult, Issue, IssueList
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.schemas.offload import Offload, OffloadList
from appliance.schemas.telemetry import DeviceTelemetry, HostTelemetry, Telemetry
from tests.tui.bodies import bodies
from tests.tui.moments import GIB, NOON
from tui.client import BoxClient, Problem, Target

Body = TypeVar("Body", bound=BaseModel)
PAGE = "http://10.0.4.17:8080/"


class StillClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def seconds(self) -> float:
        return self.at_s

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at_s - 1000)


def card(index: int, **fields: Any) -> DeviceTelemetry:
    """A 910B3 at work."""
    values: dict[str, Any] = {
        "key": f"ascend:{index}", "vendor": "ascend", "index": index, "chip": "910B3", "monitor": "ascend",
        "state": "present", "told_at": NOON, "health": "ok", "utilization_percent": 60.0 + index,
        "memory_used_bytes": 41 * GIB, "memory_total_bytes": 64 * GIB, "temperature_celsius": 52.0,
        "power_watts": 214.0,
    }  # fmt: skip
    return DeviceTelemetry(**{**values, **fields})


HOST = HostTelemetry(
    cpu_percent=12.0, memory_used_bytes=180 * GIB, memory_total_bytes=512 * GIB, disk_free_bytes=3200 * GIB
)
LOST = Issue(
    id="device_lost@ascend:1", code="device_lost", severity="error", subject="ascend:1",
    since=NOON - timedelta(minutes=3),
    message="Card 1 (910B3) does not answer any more; r1-32b was loaded on it.",
    hint="Look again; if it stays so, switch the box off and on, then r1box doctor.",
    fixups=(
        FixupButton(name="detect_hardware", label="Look for cards again"),
        FixupButton(name="reload_model", label="Load the model again"),
    ),
)  # fmt: skip
DISK = Issue(
    id="disk_full@models", code="disk_full", severity="warning", subject="models", since=NOON - timedelta(days=3),
    message="The models' disk has 12.4 GiB left of 1.8 TiB.", hint="Remove models that nobody uses.",
)  # fmt: skip


def answers(
    *, devices: tuple[DeviceTelemetry, ...] | None = None, issues: tuple[Issue, ...] = (), **readiness: Any
) -> dict[str, Any]:
    """A well box by path; ``readiness`` replaces fields of /readyz."""
    ready: dict[str, Any] = {
        "ready": True, "state": "ready", "model": "r1-32b", "seats": 8, "context_tokens": 16384, "offload": "VERIFIED",
    }  # fmt: skip
    told = Readiness(**{**ready, **readiness})
    entry = ModelEntry(
        id="r1-32b", name="R1-Distill-Qwen-32B", quantization="Q8_0", size_bytes=35 * GIB, default=True,
        state="ready" if told.ready else "failed", seats=8 if told.ready else None, context_tokens=16384,
        devices=("ascend:0", "ascend:1"), running=5, waiting=2,
    )  # fmt: skip
    verdict = Offload(model="r1-32b", state="VERIFIED", checked_at=NOON, decode_tokens_per_s=24.2)
    cards = (card(0), card(1)) if devices is None else devices
    return {
        "/readyz": told,
        "/api/admin/models": ModelEntries(models=(entry,)),
        "/api/admin/cluster": ClusterStatus(),
        "/api/admin/offload": OffloadList(models=(verdict,)),
        "/api/admin/telemetry": Telemetry(enabled=True, time=NOON, started_at=NOON, host=HOST, devices=cards),
        "/api/admin/issues": IssueList(issues=issues, checked_at=NOON - timedelta(seconds=7)),
        **bodies(),
    }


class FixedClient(BoxClient):
    """Gives the same bodies for ever; a Problem for what it has none of. ``silent``: it never answers."""

    def __init__(self, bodies: dict[str, Any], *, silent: bool = False, page_url: str | None = PAGE) -> None:
        super().__init__(Target("http://10.0.4.17:8080", page_url=page_url))
        self.bodies, self.silent = bodies, silent

    async def get(
        self, path: str, kind: type[Body], *, also: tuple[int, ...] = (), timeout_s: float | None = None
    ) -> Body | Problem:
        if self.silent:
            await asyncio.Event().wait()
        found = self.bodies.get(path.partition("?")[0])
        return found if isinstance(found, kind) else Problem("unreachable", detail="Connection refused")

    async def events(self, path: str, body: dict[str, object] | None = None) -> AsyncIterator[str | Problem]:
        found = self.bodies.get(path.partition("?")[0])
        if isinstance(found, tuple):
            for one in found:
                yield one.model_dump_json()
        if not isinstance(found, tuple) and not self.silent:
            yield Problem("unreachable", detail="Connection refused")
            return
        await asyncio.Event().wait()

    async def text(self, path: str) -> str | Problem:
        if self.silent:
            await asyncio.Event().wait()
        found = self.bodies.get(path)
        return found if isinstance(found, str) else Problem("unreachable", detail="Connection refused")


class FakeBox:
    """A daemon that serves ``bodies`` on a port; fix-ups take their issue away. ``asked`` are the POSTs."""

    key = "r1b_test"

    def __init__(self, bodies: dict[str, Any]) -> None:
        self.bodies = bodies
        self.asked: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.url = ""

    async def _get(self, request: Request) -> Response:
        await self.answering.wait()
        if request.url.path != "/readyz" and request.headers.get("authorization") != f"Bearer {self.key}":
            error = ErrorBody(
                message="The API key is not valid.", type="auth", code="invalid_api_key", hint="Make one."
            )
            return Response(ErrorEnvelope(error=error).model_dump_json(), 401)
        body = self.bodies[request.url.path]
        if isinstance(body, str):
            return PlainTextResponse(body)
        status = 503 if isinstance(body, Readiness) and not body.ready else 200
        return Response(body.model_dump_json(), status, media_type="application/json")

    async def _check(self, request: Request) -> Response:
        self.asked.append("check")
        return Response(_json(self.bodies["/api/admin/issues"]))

    async def _fix(self, request: Request) -> Response:
        issue, name = request.path_params["issue"], request.path_params["name"]
        self.asked.append(f"{issue}/{name}")
        listed = self.bodies["/api/admin/issues"]
        assert isinstance(listed, IssueList)
        left = tuple(one for one in listed.issues if one.id != issue)
        self.bodies["/api/admin/issues"] = IssueList(issues=left, checked_at=NOON)
        return Response(FixupResult(message="Two cards answer.", issues=left).model_dump_json())

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeBox]:
        """On a free port of this machine."""
        routes = [
            Route("/api/admin/issues/check", self._check, methods=["POST"]),
            Route("/api/admin/issues/{issue}/fixups/{name}", self._fix, methods=["POST"]),
            Route("/{path:path}", self._get),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=0
        )
        server = uvicorn.Server(config)
        server.capture_signals = _no_signals  # type: ignore[method-assign]
        life = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.answering.set()
            server.should_exit = True
            await life

    def client(self, key: str | None = key, **options: Any) -> BoxClient:
        return BoxClient(Target(self.url, page_url=PAGE), key=key, **options)


def _json(body: BaseModel | str) -> str:
    assert isinstance(body, BaseModel)
    return body.model_dump_json()


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()
