"""``/api/auth``: the first administrator, login and logout, and what people may do about their own account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import Access, Entry, address_of, caller_of, cookie_name, session_secret
from appliance.api.openapi import json_body
from appliance.api.replies import RowId, empty_reply, json_reply, read_body
from appliance.api.routes import Routes
from appliance.schemas.accounts import (
    LoginBody,
    LogoutBody,
    Me,
    PasswordBody,
    PreferencesBody,
    SessionBody,
    SessionList,
    SetupBody,
    SetupState,
)
from appliance.security.accounts import Accounts, LoggedIn
from appliance.security.errors import LoginThrottled
from appliance.security.identity import Caller, actor_of
from appliance.security.roles import PERMISSIONS
from appliance.security.sessions import SessionRecord, csrf_token

_HASHERS = 2
_MOST_WAITING = 32

_Result = TypeVar("_Result")


class SlowLane:
    """Where passwords are hashed: threads of their own. In the common ones a crowd at the login would keep everybody's
    keys from being checked. More than ``_MOST_WAITING`` at a time are sent away."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_HASHERS, thread_name_prefix="passwords")
        self._inside = 0

    async def run(self, function: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
        """The result of ``function``. Raises LoginThrottled when too many wait, and what ``function`` raises."""
        if self._inside >= _HASHERS + _MOST_WAITING:
            raise LoginThrottled(wait_s=2)
        self._inside += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: function(*arguments, **named))
        finally:
            self._inside -= 1


def account_router(access: Access, accounts: Accounts, lane: SlowLane) -> Routes:
    """All routes of ``/api/auth``, each under its rule."""
    whole = Routes()
    for part in (_strangers(access, accounts, lane), _everybody(access), _people(access, accounts, lane)):
        whole.include_router(part)
    return whole


def _strangers(access: Access, accounts: Accounts, lane: SlowLane) -> Routes:
    router = access.router(Entry.PUBLIC, prefix="/api/auth", tag="auth")

    @router.get("/setup", response_model=SetupState, operation_id="setup_state")
    async def setup_state() -> Response:
        return json_reply(SetupState(needed=not await asyncio.to_thread(accounts.users.has_admin)))

    @router.post("/setup", response_model=Me, operation_id="setup", openapi_extra=json_body(SetupBody.__name__))
    async def set_up(request: Request) -> Response:
        body = await read_body(request, SetupBody)
        done = await lane.run(
            accounts.set_up, body.token, body.name, body.password, language=body.language, **_origin(request)
        )
        return _logged_in(request, done)

    @router.post("/login", response_model=Me, operation_id="login", openapi_extra=json_body(LoginBody.__name__))
    async def log_in(request: Request) -> Response:
        body = await read_body(request, LoginBody)
        done = await lane.run(accounts.log_in, body.name, body.password, **_origin(request))
        return _logged_in(request, done)

    return router


def _everybody(access: Access) -> Routes:
    router = access.router(Entry.KNOWN, prefix="/api/auth", tag="auth")

    @router.get("/me", response_model=Me, operation_id="me")
    async def me(request: Request) -> Response:
        return json_reply(me_body(caller_of(request), session_secret(request)))

    return router


def _people(access: Access, accounts: Accounts, lane: SlowLane) -> Routes:
    router = access.router(Entry.PERSON, prefix="/api/auth", tag="auth")

    @router.post("/logout", status_code=204, operation_id="logout", openapi_extra=json_body(LogoutBody.__name__))
    async def log_out(request: Request) -> Response:
        body = await read_body(request, LogoutBody)
        caller = caller_of(request)
        assert caller.session is not None
        if body.everywhere:
            await asyncio.to_thread(accounts.sessions.end_all, caller.session.user_id, actor=actor_of(caller))
        else:
            await asyncio.to_thread(accounts.sessions.end, caller.session.id, actor=actor_of(caller))
        response = empty_reply()
        response.delete_cookie(cookie_name(request), **_cookie_flags(request))
        return response

    @router.patch("/me", response_model=Me, operation_id="me_change", openapi_extra=json_body(PreferencesBody.__name__))
    async def change_me(request: Request) -> Response:
        body = await read_body(request, PreferencesBody)
        caller = caller_of(request)
        user_id, actor = caller.user_id or 0, actor_of(caller)
        await asyncio.to_thread(accounts.users.change, user_id, language=body.language, actor=actor)
        fresh = await access.find_caller(request)
        return json_reply(me_body(fresh, session_secret(request)))

    @router.post(
        "/password", status_code=204, operation_id="password_change", openapi_extra=json_body(PasswordBody.__name__)
    )
    async def change_password(request: Request) -> Response:
        body = await read_body(request, PasswordBody)
        caller = caller_of(request)
        await lane.run(accounts.change_own_password, caller, body.old, body.new, actor=actor_of(caller))
        return empty_reply()

    @router.get("/sessions", response_model=SessionList, operation_id="my_sessions")
    async def my_sessions(request: Request) -> Response:
        caller = caller_of(request)
        assert caller.session is not None
        found = await asyncio.to_thread(accounts.sessions.list, caller.session.user_id)
        return json_reply(SessionList(items=tuple(session_body(one, caller) for one in found)))

    @router.delete("/sessions/{session_id}", status_code=204, operation_id="my_session_end")
    async def end_my_session(request: Request, session_id: RowId) -> Response:
        caller = caller_of(request)
        await asyncio.to_thread(accounts.sessions.end, session_id, user_id=caller.user_id, actor=actor_of(caller))
        return empty_reply()

    return router


def session_body(record: SessionRecord, caller: Caller) -> SessionBody:
    """A session as ``caller`` sees it."""
    return SessionBody(
        id=record.id,
        user_id=record.user_id,
        user_name=record.user_name,
        created_at=record.created_at,
        last_seen_at=record.last_seen_at,
        idle_until=record.idle_until,
        expires_at=record.expires_at,
        address=record.address,
        user_agent=record.user_agent,
        current=caller.session is not None and caller.session.id == record.id,
    )


def me_body(caller: Caller, secret: str | None) -> Me:
    """Who asks, with the CSRF token of the session's ``secret``."""
    session = caller.session
    permissions = tuple(sorted(permission.value for permission in caller.permissions))
    if session is None:
        return Me(kind=caller.kind.value, name=caller.name, permissions=permissions, user_id=caller.user_id)
    return Me(
        kind=caller.kind.value,
        name=caller.name,
        permissions=permissions,
        user_id=session.user_id,
        role=session.role.value,
        language="zh" if session.language == "zh" else "en",
        must_change_password=session.must_change_password,
        csrf_token=None if secret is None else csrf_token(secret),
    )


def _logged_in(request: Request, done: LoggedIn) -> Response:
    user = done.user
    body = Me(
        kind="session",
        name=user.name,
        permissions=tuple(sorted(permission.value for permission in PERMISSIONS[user.role])),
        user_id=user.id,
        role=user.role.value,
        language="zh" if user.language == "zh" else "en",
        must_change_password=user.must_change_password,
        csrf_token=done.session.csrf_token,
    )
    response = json_reply(body)
    # Without Max-Age: the browser forgets it when it is closed, the box when it is idle or old.
    response.set_cookie(cookie_name(request), done.session.secret, **_cookie_flags(request))
    return response


def _cookie_flags(request: Request) -> dict[str, Any]:
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}


def _origin(request: Request) -> dict[str, str | None]:
    return {"address": address_of(request), "user_agent": request.headers.get("user-agent")}
