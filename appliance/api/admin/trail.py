"""What operators do by the API, in the audit log: what was asked, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request

from appliance.api.access import caller_of
from appliance.errors import describe
from appliance.security.audit import AuditLog
from appliance.security.identity import actor_of


class Trail:
    """Writes a row for each act of the block it surrounds, when that has ended: ``outcome`` is ``done``, an error's
    code, or ``client_left`` for a caller who did not wait (the act goes on)."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    @asynccontextmanager
    async def act(
        self, request: Request, action: str, target: str | None = None, **details: Any
    ) -> AsyncIterator[None]:
        """Raises what the block raises."""
        outcome = "done"
        try:
            yield
        except Exception as error:
            outcome = describe(error).code
            raise
        except BaseException:
            outcome = "client_left"
            raise
        finally:
            actor = actor_of(caller_of(request))
            shown = None if target is None else target[:256]
            await asyncio.to_thread(self._audit.record, actor, action, shown, {**details, "outcome": outcome})
