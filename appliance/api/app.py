"""Puts the HTTP side together from the services it is given. No globals: two apps in one process do not meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from starlette.types import ASGIApp

from appliance.api.admin.hardware import HardwareSource, hardware_router
from appliance.api.admin.offload import OffloadSource, offload_router
from appliance.api.admin.telemetry import TelemetrySource, telemetry_router
from appliance.api.auth import KeyVerifier, RequireKey
from appliance.api.context import BodyLimit, RequestContext
from appliance.api.errors import install_error_handlers
from appliance.api.health import StatusSource, health_router
from appliance.api.metrics import MetricsSource, metrics_router
from appliance.api.openai.chat import chat_router
from appliance.api.openai.models import models_router
from appliance.api.openapi import openapi_router
from appliance.api.pages import WEB_FOLDER, load_pages, pages_router
from appliance.api.sse import DEFAULT_KEEP_ALIVE_S
from appliance.serving.chat import ChatService
from appliance.serving.types import ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """What the API stands on. ``manager`` is ``EngineManager``, ``keys`` ``KeyRepository``, ``models`` the mapping
    by id that ``chat`` has too, ``telemetry`` ``TelemetryService``, ``hardware`` ``HardwareReader``,
    ``offload`` ``OffloadProver`` with what it checks."""

    chat: ChatService
    models: Mapping[str, ServedModel]
    manager: StatusSource
    keys: KeyVerifier
    metrics: MetricsSource
    telemetry: TelemetrySource
    hardware: HardwareSource
    offload: OffloadSource
    version: str
    max_request_bytes: int
    web_folder: Path = WEB_FOLDER
    keep_alive_s: float = DEFAULT_KEEP_ALIVE_S


def create_app(services: ApiServices) -> ASGIApp:
    """The ASGI application. Reads the chat page's files, so call it before the event loop runs, or in a thread.

    Run it with ``uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))``.
    """
    app = FastAPI(
        title="R1 Box",
        version=services.version,
        # The viewer pages load scripts from the internet; the document itself has its own route, behind a key.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)

    private = APIRouter(dependencies=[Depends(RequireKey(services.keys))])
    openai = APIRouter(prefix="/v1")
    openai.include_router(chat_router(services.chat, keep_alive_s=services.keep_alive_s))
    openai.include_router(models_router(services.models, services.manager))
    private.include_router(openai)
    private.include_router(openapi_router(app))
    private.include_router(metrics_router(services.metrics))
    private.include_router(telemetry_router(services.telemetry))
    private.include_router(hardware_router(services.hardware))
    private.include_router(offload_router(services.offload))

    app.include_router(health_router(services.manager, services.offload.verdict))
    app.include_router(private)
    app.include_router(pages_router(load_pages(services.web_folder)))
    return RequestContext(BodyLimit(app, services.max_request_bytes))
