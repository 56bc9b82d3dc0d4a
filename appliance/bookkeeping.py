"""Limits and usage of one run of the daemon, and the upkeep of the logs: what is old goes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from appliance.security.audit import AuditLog, Retention
from appliance.security.limits import Limits
from appliance.settings import Settings
from appliance.usage.report import UsageReport
from appliance.usage.writer import UsageWriter

UPKEEP_EVERY_S = 3_600.0

_log = structlog.get_logger(__name__)


class Bookkeeping:
    """``start`` before the first request, ``aclose`` after the last one."""

    def __init__(self, engine: Engine, audit: AuditLog, settings: Settings) -> None:
        self._audit = audit
        self._settings = settings
        self.limits = Limits()
        self.writer = UsageWriter(engine)
        self.report = UsageReport(engine)
        self._tasks: list[asyncio.Task[None]] = []
        self._woken = asyncio.Event()

    def retune(self, settings: Settings) -> None:
        """What is kept from now on, and how long."""
        self._settings = settings
        self._woken.set()

    async def start(self) -> None:
        """Read what was used today already, then write and tidy up in the background."""
        today = datetime.now(UTC).date()
        self.limits.preload(today, await asyncio.to_thread(self.report.used_tokens, today))
        self._tasks = [
            asyncio.create_task(self.writer.run(), name="usage"),
            asyncio.create_task(self._tidy_up(), name="upkeep"),
        ]

    async def aclose(self) -> None:
        """End the background work; what was noted is written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.writer.flush)

    async def _tidy_up(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._trim)
            except DatabaseError as error:
                _log.warning("upkeep_failed", reason=str(error.orig))
            self._woken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), UPKEEP_EVERY_S)

    def _trim(self) -> None:
        settings = self._settings
        gone = self._audit.trim(
            Retention(
                keep_days=settings.audit_keep_days,
                keep_rows=settings.audit_keep_rows,
                keep_bytes=settings.audit_keep_bytes,
            )
        )
        if settings.usage_keep_days is not None:
            self.report.trim_days(keep_days=settings.usage_keep_days)
        kept_bytes = settings.prompt_log_bytes if settings.store_prompts else 0
        texts = self.report.trim_texts(keep_days=settings.prompt_log_days, keep_bytes=kept_bytes)
        log = self.report.trim(keep_days=settings.request_log_days, keep_rows=settings.request_log_rows)
        if gone or log or texts:
            _log.info("logs_trimmed", audit_rows=gone, request_rows=log, prompt_rows=texts)
