"""``/api/admin/users``, ``/api/admin/keys`` and ``/api/admin/sessions``."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.access import Access, caller_of
from appliance.api.account import SlowLane, session_body
from appliance.api.openapi import json_body
from appliance.api.replies import RowId, empty_reply, json_reply, read_body
from appliance.api.routes import Routes
from appliance.schemas.accounts import (
    KeyBody,
    KeyCreate,
    KeyCreated,
    KeyGrant,
    KeyList,
    KeyQuery,
    PasswordReset,
    SessionList,
    SessionQuery,
    UserBody,
    UserChange,
    UserCreate,
    UserList,
    UserQuery,
)
from appliance.security.accounts import Accounts
from appliance.security.errors import LocalOnly, TooMuchGranted
from appliance.security.identity import Caller, CallerKind, KeyPriority, Policy, actor_of
from appliance.security.keys import Grant, KeyRecord
from appliance.security.person import LIMITS
from appliance.security.roles import PERMISSIONS, Permission, Role
from appliance.security.users import UserRecord


def users_router(access: Access, accounts: Accounts, lane: SlowLane) -> Routes:
    """``/api/admin/users``."""
    whole, prefix = Routes(), "/api/admin/users"
    whole.include_router(_user_reading(access.router(Permission.ACCOUNTS_READ, prefix=prefix, tag="users"), accounts))
    whole.include_router(
        _user_writing(access.router(Permission.ACCOUNTS_WRITE, prefix=prefix, tag="users"), accounts, lane)
    )
    whole.include_router(
        _password_reset(access.router(Permission.ACCOUNTS_WRITE, prefix=prefix, tag="users"), accounts, lane)
    )
    return whole


def _user_reading(reading: Routes, accounts: Accounts) -> Routes:
    users = accounts.users

    @reading.get("", response_model=UserList, operation_id="users_list")
    async def list_users(query: Annotated[UserQuery, Query()]) -> Response:
        found = await asyncio.to_thread(
            users.list,
            query=query.query,
            role=None if query.role is None else Role(query.role),
            disabled=query.disabled,
            after_id=query.after,
            limit=query.limit + 1,
        )
        page = tuple(user_body(one) for one in found[: query.limit])
        return json_reply(UserList(items=page, next=page[-1].id if len(found) > query.limit else None))

    @reading.get("/{user_id}", response_model=UserBody, operation_id="users_get")
    async def get_user(user_id: RowId) -> Response:
        return json_reply(user_body(await asyncio.to_thread(users.get, user_id)))

    return reading


def _user_writing(writing: Routes, accounts: Accounts, lane: SlowLane) -> Routes:
    users = accounts.users

    @writing.post(
        "",
        status_code=201,
        response_model=UserBody,
        operation_id="users_create",
        openapi_extra=json_body(UserCreate.__name__),
    )
    async def create_user(request: Request) -> Response:
        body, caller = await read_body(request, UserCreate), caller_of(request)
        role = Role(body.role)
        _may_grant(caller, PERMISSIONS[role])
        record = await lane.run(
            users.create,
            body.name,
            role,
            body.password,
            language=body.language,
            must_change_password=body.password is not None,
            actor=actor_of(caller),
        )
        return json_reply(user_body(record), status=201)

    @writing.patch(
        "/{user_id}",
        response_model=UserBody,
        operation_id="users_change",
        openapi_extra=json_body(UserChange.__name__),
    )
    async def change_user(request: Request, user_id: RowId) -> Response:
        body, caller = await read_body(request, UserChange), caller_of(request)
        role = None if body.role is None else Role(body.role)
        if role is not None:
            _may_grant(caller, PERMISSIONS[role])
        record = await asyncio.to_thread(
            users.change,
            user_id,
            role=role,
            language=body.language,
            disabled=body.disabled,
            limits={name: getattr(body, name) for name in LIMITS if name in body.model_fields_set},
            actor=actor_of(caller),
        )
        return json_reply(user_body(record))

    return writing


def _password_reset(writing: Routes, accounts: Accounts, lane: SlowLane) -> Routes:
    @writing.post(
        "/{user_id}/password",
        status_code=204,
        operation_id="users_reset_password",
        openapi_extra=json_body(PasswordReset.__name__),
    )
    async def reset_password(request: Request, user_id: RowId) -> Response:
        caller = caller_of(request)
        # Who has an administrator's session must not be able to take over other people's accounts in silence.
        if caller.kind is not CallerKind.LOCAL:
            raise LocalOnly(command="r1box users reset NAME")
        body = await read_body(request, PasswordReset)
        await lane.run(
            accounts.users.set_password,
            user_id,
            body.password,
            must_change=body.must_change,
            actor=actor_of(caller),
        )
        return empty_reply()

    return writing


def keys_router(access: Access, accounts: Accounts) -> Routes:
    """``/api/admin/keys``."""
    whole, prefix = Routes(), "/api/admin/keys"
    reading = access.router(Permission.ACCOUNTS_READ, prefix=prefix, tag="keys")
    writing = access.router(Permission.ACCOUNTS_WRITE, prefix=prefix, tag="keys")
    keys = accounts.keys

    @reading.get("", response_model=KeyList, operation_id="keys_list")
    async def list_keys(query: Annotated[KeyQuery, Query()]) -> Response:
        found = await asyncio.to_thread(
            keys.list,
            include_revoked=query.revoked,
            query=query.query,
            user_id=query.user_id,
            after_id=query.after,
            limit=query.limit + 1,
        )
        page = tuple(KeyBody(**_key_fields(one)) for one in found[: query.limit])
        return json_reply(KeyList(items=page, next=page[-1].id if len(found) > query.limit else None))

    @reading.get("/{key_id}", response_model=KeyBody, operation_id="keys_get")
    async def get_key(key_id: RowId) -> Response:
        return json_reply(KeyBody(**_key_fields(await asyncio.to_thread(keys.get, key_id))))

    @writing.post(
        "",
        status_code=201,
        response_model=KeyCreated,
        operation_id="keys_create",
        openapi_extra=json_body(KeyCreate.__name__),
    )
    async def create_key(request: Request) -> Response:
        body, caller = await read_body(request, KeyCreate), caller_of(request)
        grant = _grant(body)
        _may_grant(caller, grant.scopes)
        created = await asyncio.to_thread(keys.create, body.name, grant, actor=actor_of(caller))
        return json_reply(KeyCreated(**_key_fields(created.record), key=created.secret), status=201)

    @writing.put(
        "/{key_id}", response_model=KeyBody, operation_id="keys_change", openapi_extra=json_body(KeyGrant.__name__)
    )
    async def change_key(request: Request, key_id: RowId) -> Response:
        body, caller = await read_body(request, KeyGrant), caller_of(request)
        grant = _grant(body)
        _may_grant(caller, grant.scopes)
        record = await asyncio.to_thread(keys.change, key_id, grant, actor=actor_of(caller))
        return json_reply(KeyBody(**_key_fields(record)))

    @writing.delete("/{key_id}", response_model=KeyBody, operation_id="keys_revoke")
    async def revoke_key(request: Request, key_id: RowId) -> Response:
        record = await asyncio.to_thread(keys.revoke, key_id, actor=actor_of(caller_of(request)))
        return json_reply(KeyBody(**_key_fields(record)))

    whole.include_router(reading)
    whole.include_router(writing)
    return whole


def sessions_router(access: Access, accounts: Accounts) -> Routes:
    """``/api/admin/sessions``."""
    whole, prefix = Routes(), "/api/admin/sessions"
    reading = access.router(Permission.ACCOUNTS_READ, prefix=prefix, tag="sessions")
    writing = access.router(Permission.ACCOUNTS_WRITE, prefix=prefix, tag="sessions")

    @reading.get("", response_model=SessionList, operation_id="sessions_list")
    async def list_sessions(request: Request, query: Annotated[SessionQuery, Query()]) -> Response:
        found = await asyncio.to_thread(
            accounts.sessions.list, query.user_id, after_id=query.after, limit=query.limit + 1
        )
        page = tuple(session_body(one, caller_of(request)) for one in found[: query.limit])
        return json_reply(SessionList(items=page, next=page[-1].id if len(found) > query.limit else None))

    @writing.delete("/{session_id}", status_code=204, operation_id="sessions_end")
    async def end_session(request: Request, session_id: RowId) -> Response:
        await asyncio.to_thread(accounts.sessions.end, session_id, actor=actor_of(caller_of(request)))
        return empty_reply()

    whole.include_router(reading)
    whole.include_router(writing)
    return whole


def user_body(record: UserRecord) -> UserBody:
    """A user on the wire."""
    return UserBody(
        id=record.id,
        name=record.name,
        role=record.role.value,
        language="zh" if record.language == "zh" else "en",
        has_password=record.has_password,
        must_change_password=record.must_change_password,
        disabled=record.disabled_at is not None,
        created_at=record.created_at,
        password_changed_at=record.password_changed_at,
        last_login_at=record.last_login_at,
        disabled_at=record.disabled_at,
        **{name: getattr(record.limits, name) for name in LIMITS},
    )


def _key_fields(record: KeyRecord) -> dict[str, object]:
    policy = record.policy
    return {
        "id": record.id,
        "name": record.name,
        "prefix": record.prefix,
        "created_at": record.created_at,
        "last_used_at": record.last_used_at,
        "revoked_at": record.revoked_at,
        "expires_at": record.expires_at,
        "user_id": record.user_id,
        "user_name": record.user_name,
        "scopes": tuple(sorted(scope.value for scope in record.scopes)),
        "models": policy.models,
        "requests_per_minute": policy.requests_per_minute,
        "tokens_per_minute": policy.tokens_per_minute,
        "tokens_per_day": policy.tokens_per_day,
        "priority": policy.priority.value,
        "may_override_sampling": policy.may_override_sampling,
        "reasoning_format": policy.reasoning_format,
    }


def _grant(body: KeyGrant) -> Grant:
    return Grant(
        scopes=frozenset(Permission(scope) for scope in body.scopes),
        user_id=body.user_id,
        expires_at=body.expires_at,
        policy=Policy(
            models=body.models,
            requests_per_minute=body.requests_per_minute,
            tokens_per_minute=body.tokens_per_minute,
            tokens_per_day=body.tokens_per_day,
            priority=KeyPriority(body.priority),
            may_override_sampling=body.may_override_sampling,
            reasoning_format=body.reasoning_format,
        ),
    )


def _may_grant(caller: Caller, wanted: frozenset[Permission]) -> None:
    beyond = wanted - caller.permissions
    if beyond:
        raise TooMuchGranted(permissions=", ".join(sorted(beyond)))
