"""Puts the HTTP side together from the services it is given. No globals: two apps in one process do not meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastapi import FastAPI
from starlette.types import ASGIApp

from appliance.api.access import Access, Entry, check_rules
from appliance.api.account import SlowLane, account_router
from appliance.api.admin.accounts import keys_router, sessions_router, users_router
from appliance.api.admin.alerts import AlertSource, alerts_router
from appliance.api.admin.audit import audit_router
from appliance.api.admin.backups import BackupSource, backups_router, reset_router, restart_router
from appliance.api.admin.box import box_router
from appliance.api.admin.cluster import ClusterSource, cluster_router
from appliance.api.admin.first_run import FirstRunSource, first_run_router
from appliance.api.admin.hardware import HardwareSource, hardware_router
from appliance.api.admin.issues import IssueSource, issues_router
from appliance.api.admin.jobs import JobSource, jobs_router
from appliance.api.admin.live import live_router
from appliance.api.admin.logs import LogSource, logs_router
from appliance.api.admin.models import ModelAdmin, ModelRemoval, model_admin_router
from appliance.api.admin.network import NetworkSource, network_router
from appliance.api.admin.offload import OffloadSource, offload_router
from appliance.api.admin.operators import OperatorServices, operators_router
from appliance.api.admin.settings import SettingSource, settings_router
from appliance.api.admin.telemetry import TelemetrySource, telemetry_router
from appliance.api.admin.trail import Trail
from appliance.api.admin.updates import UpdateDesk, UpdateSource, updates_router
from appliance.api.admin.usage import texts_router, usage_router
from appliance.api.anthropic.messages import messages_router
from appliance.api.chats.answers import answers_router
from appliance.api.chats.attachments import attachments_router
from appliance.api.chats.chats import chats_router
from appliance.api.chats.page import page_router
from appliance.api.console import console_router
from appliance.api.context import BodyLimit, RequestContext
from appliance.api.errors import install_error_handlers
from appliance.api.health import StatusSource, health_router
from appliance.api.hosts import HostNames
from appliance.api.metrics import MetricsSource, metrics_router
from appliance.api.ollama.chat import answers_router as ollama_answers_router
from appliance.api.ollama.models import catalogue_router, refusals_router
from appliance.api.openai.chat import chat_router
from appliance.api.openai.completions import completions_router
from appliance.api.openai.models import ModelDirectory, models_router
from appliance.api.openai.requests import requests_router
from appliance.api.openai.responses.router import responses_router
from appliance.api.openai.responses.store import ResponseStore
from appliance.api.openapi import TITLE, openapi_router
from appliance.api.origins import OriginGuard
from appliance.api.pages import WEB_FOLDER, authority_router, load_pages, pages_router
from appliance.api.routes import Routes
from appliance.api.sse import DEFAULT_KEEP_ALIVE_S
from appliance.chats.service import Chats
from appliance.schemas.box import BoxIdentity
from appliance.security.accounts import Accounts
from appliance.security.roles import Permission
from appliance.serving.chat import ChatService
from appliance.terminals import Terminals
from appliance.usage.report import UsageReport


class ModelSource(StatusSource, ModelDirectory, ModelAdmin, Protocol):
    """What ``ModelHost`` gives."""


def _no_authority() -> bytes | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """What the API stands on. ``models`` is ``ModelHost``, ``telemetry`` ``TelemetryService``, ``hardware``
    ``HardwareReader``, ``offload`` ``OffloadService``, ``issues`` ``IssueBoard``,
    ``jobs`` ``JobService``, ``removal`` ``ModelRemover``, ``alerts`` ``AlertService``, ``logs`` ``LogRing``,
    ``backups`` ``BackupReader``, ``settings`` ``LiveSettings``, ``network`` ``NetworkService``, ``first_run``
    ``FirstRunList``, ``identity`` ``BoxNames``, ``cluster`` ``ClusterService``, ``updates`` ``UpdateReader``,
    ``update_desk`` ``UpdateDoor``. ``restart`` asks for a restart of the daemon. ``allowed_origins``: other servers
    whose pages may use the API. ``known_names``: the box's own. ``authority`` reads its own authority (PEM)."""

    chat: ChatService
    chats: Chats
    models: ModelSource
    removal: ModelRemoval
    accounts: Accounts
    usage: UsageReport
    metrics: MetricsSource
    telemetry: TelemetrySource
    hardware: HardwareSource
    offload: OffloadSource
    issues: IssueSource
    jobs: JobSource
    backups: BackupSource
    restart: Callable[[], None]
    operators: OperatorServices
    updates: UpdateSource
    update_desk: UpdateDesk
    alerts: AlertSource
    logs: LogSource
    settings: SettingSource
    terminals: Terminals
    network: NetworkSource
    first_run: FirstRunSource
    identity: Callable[[], BoxIdentity]
    cluster: ClusterSource
    version: str
    max_request_bytes: int
    authority: Callable[[], bytes | None] = _no_authority
    web_folder: Path = WEB_FOLDER
    keep_alive_s: float = DEFAULT_KEEP_ALIVE_S
    allowed_origins: frozenset[str] = frozenset()
    known_names: frozenset[str] = frozenset()


def create_app(services: ApiServices) -> ASGIApp:
    """The ASGI application. Reads the chat page's files, so call it before the event loop runs, or in a thread.

    Run it with ``uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))``.
    """
    app = FastAPI(
        title=TITLE,
        version=services.version,
        # The viewer pages load scripts from the internet; the document itself has its own route, behind a key.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)

    access, routes = Access(services.accounts, hosts=HostNames(services.known_names)), Routes()
    # Requests are compared with one after the other: those that come by the thousand first.
    for part in (_inference(access, services), _open(access, services), _admin(access, services, routes)):
        routes.include_router(part)
    routes.mount(app)
    check_rules(app)
    guarded = OriginGuard(BodyLimit(app, services.max_request_bytes), services.allowed_origins)
    return RequestContext(guarded)


def _open(access: Access, services: ApiServices) -> Routes:
    """What strangers may ask for."""
    router = access.router(Entry.PUBLIC)
    router.include_router(health_router(services.models, services.offload.verdict))
    router.include_router(authority_router(services.authority))
    router.include_router(
        page_router(access, services.accounts, services.chats, services.chat, services.models, services.version)
    )
    router.include_router(pages_router(load_pages(services.web_folder)))
    return router


def _inference(access: Access, services: ApiServices) -> Routes:
    """What programs and people ask models by."""
    router = access.router(Permission.INFERENCE)
    openai = Routes(prefix="/v1")
    openai.include_router(chat_router(services.chat, keep_alive_s=services.keep_alive_s))
    openai.include_router(requests_router(services.chat))
    openai.include_router(completions_router(services.chat, keep_alive_s=services.keep_alive_s))
    openai.include_router(responses_router(services.chat, ResponseStore(), keep_alive_s=services.keep_alive_s))
    openai.include_router(models_router(services.models))
    openai.include_router(messages_router(services.chat, keep_alive_s=services.keep_alive_s))
    router.include_router(openai)
    ollama = Routes(prefix="/api")
    ollama.include_router(ollama_answers_router(services.chat, keep_alive_s=services.keep_alive_s))
    ollama.include_router(catalogue_router(services.models, services.chat.served, services.version))
    ollama.include_router(refusals_router())
    router.include_router(ollama)
    router.include_router(chats_router(services.chats))
    router.include_router(answers_router(services.chats, services.models, keep_alive_s=services.keep_alive_s))
    router.include_router(attachments_router(services.chats))
    return router


def _admin(access: Access, services: ApiServices, every: Routes) -> Routes:
    """What operators see and do, each group of routes under its rule. ``every`` route is in the API's description."""
    whole, lane = Routes(), SlowLane()
    known, scrape = access.router(Entry.KNOWN), access.router(Permission.METRICS)
    reading = access.router(Permission.ADMIN_READ)
    known.include_router(openapi_router(every, services.version))
    scrape.include_router(metrics_router(services.metrics))
    reading.include_router(box_router(services.identity))
    reading.include_router(cluster_router(services.cluster))
    reading.include_router(telemetry_router(services.telemetry))
    # A new detection changes nothing on the machine, so it is reading too.
    reading.include_router(hardware_router(services.hardware))
    reading.include_router(operators_router(services.operators))
    trail = Trail(services.accounts.audit)
    operating = access.router(Permission.ADMIN_READ, unsafe=Permission.ADMIN_WRITE)
    operating.include_router(offload_router(services.offload, trail))
    operating.include_router(model_admin_router(services.models, services.removal, trail))
    operating.include_router(issues_router(services.issues, trail))
    operating.include_router(alerts_router(services.alerts, trail))
    operating.include_router(restart_router(services.restart, trail))
    operating.include_router(jobs_router(services.jobs, keep_alive_s=services.keep_alive_s))
    operating.include_router(updates_router(services.updates, services.update_desk, services.jobs, trail))
    accounts, seeing = services.accounts, access.router(Permission.ACCOUNTS_READ)
    seeing.include_router(usage_router(services.usage))
    # Lines name people and what they asked for by path, as the request log does.
    seeing.include_router(logs_router(services.logs, keep_alive_s=services.keep_alive_s))
    setting = access.router(Permission.ACCOUNTS_READ, unsafe=Permission.SETTINGS_WRITE)
    setting.include_router(settings_router(services.settings))
    setting.include_router(backups_router(services.backups, services.jobs, trail))
    setting.include_router(reset_router(services.jobs))
    wiring = access.router(Permission.ADMIN_READ, unsafe=Permission.SETTINGS_WRITE)
    wiring.include_router(network_router(services.network, trail))
    auditing = access.router(Permission.AUDIT_READ)
    auditing.include_router(audit_router(accounts.audit))
    auditing.include_router(texts_router(services.usage, trail))
    for router in (
        known,
        seeing,
        auditing,
        setting,
        wiring,
        scrape,
        reading,
        operating,
        account_router(access, accounts, lane),
        users_router(access, accounts, lane),
        keys_router(access, accounts),
        sessions_router(access, accounts),
        first_run_router(access, services.first_run, accounts, trail, lane),
        live_router(access, services.chat.live, accounts.audit),
        console_router(access, accounts, services.terminals, keep_alive_s=services.keep_alive_s),
    ):
        whole.include_router(router)
    return whole
