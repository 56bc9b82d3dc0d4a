"""``/api/console/terminals``: the operator's console in a browser.

A console is the answer to the request that opened it, a stream of events, and ends with it: whoever closes the page
leaves no process behind. What is typed comes in requests of their own. All of them are requests like any other: the
session's cookie, its CSRF token, the origin and the connection's limits are checked each time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import CSRF_HEADER, Access, caller_of, session_secret
from appliance.api.admin.logs import EVENTS
from appliance.api.admin.trail import Trail
from appliance.api.openapi import json_body
from appliance.api.replies import empty_reply, read_body
from appliance.api.routes import Routes
from appliance.api.sse import EventStreamResponse, data_event
from appliance.errors import InvalidRequest
from appliance.schemas.terminals import MOST_KEYS, TerminalInput, TerminalWish
from appliance.security.accounts import Accounts
from appliance.security.errors import Forbidden
from appliance.security.identity import Caller, CallerKind
from appliance.security.roles import Permission
from appliance.security.sessions import csrf_token
from appliance.terminals import Holder, Terminal, Terminals, Window

NEEDED = Permission.ADMIN_WRITE
"""Operators' and administrators'. What the console then shows and does is what its person may."""
_PEER_COOKIE = "r1box_session"
"""The cookie's name on the admin socket, which is plain HTTP."""
_MOST_BODY_BYTES = 8 * MOST_KEYS


def console_router(access: Access, accounts: Accounts, terminals: Terminals, *, keep_alive_s: float) -> Routes:
    """The two routes, for people alone: a key has no console."""
    router = access.router(NEEDED, prefix="/api/console/terminals", tag="console")
    trail = Trail(accounts.audit)

    @router.post(
        "",
        operation_id="console_open",
        response_class=Response,
        responses=EVENTS,
        openapi_extra=json_body(TerminalWish.__name__),
    )
    async def open_console(request: Request) -> Response:
        wish = await read_body(request, TerminalWish)
        caller, secret = _person(request)

        async def lasts() -> bool:
            # Looked at by the box itself, so that no console keeps its session alive.
            now = await asyncio.to_thread(accounts.caller_by_cookie, secret, None, note_use=False)
            return now is not None and NEEDED in now.permissions

        window = Window(columns=wish.columns, rows=wish.rows, language=wish.language, light=wish.light)
        async with trail.act(request, "console.open"):
            terminal = await terminals.open(_holder(caller, secret), window, lasts)
        return EventStreamResponse(
            _events(terminal), close=lambda: terminals.close(terminal), keep_alive_s=keep_alive_s
        )

    @router.post(
        "/{terminal_id}/input",
        status_code=204,
        operation_id="console_input",
        openapi_extra=json_body(TerminalInput.__name__),
    )
    async def type_in(request: Request, terminal_id: str) -> Response:
        body = await read_body(request, TerminalInput, most_bytes=_MOST_BODY_BYTES)
        if (body.columns is None) != (body.rows is None):
            raise InvalidRequest("columns and rows come together.", param="columns")
        caller, _ = _person(request)
        assert caller.session is not None
        terminal = terminals.find(terminal_id, caller.session.id)
        if body.columns is not None and body.rows is not None:
            await terminal.resize(body.columns, body.rows)
        if body.focused is not None:
            await terminal.focus(body.focused)
        if body.keys:
            await terminal.type(body.keys)
        return empty_reply()

    return router


def _person(request: Request) -> tuple[Caller, str]:
    """Whoever has logged in, with the session's secret. Raises Forbidden."""
    caller, secret = caller_of(request), session_secret(request)
    if caller.kind is not CallerKind.SESSION or secret is None:
        raise Forbidden(who=f"'{caller.name}'", needed="a person who has logged in")
    return caller, secret


def _holder(caller: Caller, secret: str) -> Holder:
    assert caller.session is not None
    headers = {"Cookie": f"{_PEER_COOKIE}={secret}", CSRF_HEADER: csrf_token(secret)}
    return Holder(session_id=caller.session.id, name=caller.name, headers=headers)


async def _events(terminal: Terminal) -> AsyncGenerator[bytes, None]:
    """The console's id, what it shows, and why it ended."""
    yield _event({"id": terminal.id})
    async for text in terminal.output():
        yield _event({"show": text})
    yield _event({"ended": terminal.reason or "failed"})


def _event(fact: dict[str, Any]) -> bytes:
    return data_event(json.dumps(fact, ensure_ascii=False).encode("utf-8", "replace"))
