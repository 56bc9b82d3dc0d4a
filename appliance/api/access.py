"""Who may call which route. Every route has exactly one rule, given by the router it is in; ``check_rules`` proves it.

Whoever comes without a key must call the box by a name that it knows (``appliance.api.hosts``); a session's cookie goes
to such names alone.

A caller is found in this order: ``Authorization: Bearer KEY``, or ``Basic`` with the key as the password (of clients
that know names and passwords alone), ``X-Api-Key: KEY`` (Anthropic's clients), the session's cookie, the admin socket's
peer. The first that is there counts; when it is not valid nothing else is tried.

Forged requests of other pages (CSRF) are kept out threefold: the cookie is SameSite=Strict; an Origin that is not the
box's own is refused before anything else (``appliance.api.origins``); and a request that changes something must repeat
the session's CSRF token in a header, which a page can only know by reading an answer of this box.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from appliance.api.hosts import HostNames
from appliance.api.metering import CALL, Call
from appliance.api.routes import Routes
from appliance.api.tally import Tally
from appliance.errors import Unauthorized
from appliance.security.errors import CsrfRejected, Forbidden, NotLoggedIn, PasswordChangeNeeded
from appliance.security.identity import Caller, CallerKind, local_caller
from appliance.security.peer import Peer, trusted_account
from appliance.security.recent import RecentCallers
from appliance.security.roles import Permission
from appliance.security.sessions import csrf_token

CSRF_HEADER = "X-R1Box-CSRF"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
PROBED_PATHS = frozenset(("/healthz", "/readyz"))
"""Load balancers ask for these by any name. What they tell is no secret."""
_COOKIE = "r1box_session"
_SECURE_COOKIE = "__Host-r1box_session"


class Entry(StrEnum):
    """Rules that are no permission: ``public`` lets everybody in, ``known`` every valid key, session and the console,
    ``person`` people with a session alone."""

    PUBLIC = "public"
    KNOWN = "known"
    PERSON = "person"


Rule = Entry | Permission


class CallerSource(Protocol):
    """The part of ``Accounts`` that is needed here. All block. ``note_use``: the session lasts longer for it."""

    def recent_callers(self) -> RecentCallers: ...

    def caller_by_key(self, key: str, address: str | None) -> Caller | None: ...

    def caller_by_cookie(self, secret: str, address: str | None, *, note_use: bool = True) -> Caller | None: ...


class Access:
    """Makes the routers of an application, one for each rule. Making one blocks."""

    def __init__(
        self,
        accounts: CallerSource,
        trust: Callable[[Peer], str | None] = trusted_account,
        hosts: HostNames | None = None,
    ) -> None:
        self._accounts = accounts
        self._recent = accounts.recent_callers()
        self._trust = trust
        self._hosts = hosts or HostNames()
        self._refused = Tally("caller_refused")

    def router(self, rule: Rule, *, unsafe: Rule | None = None, prefix: str = "", tag: str | None = None) -> Routes:
        """A router whose routes are all under ``rule``; with ``unsafe`` those that change something are under that."""
        guard = Depends(Guard(rule, unsafe or rule, self.find_caller, self._hosts))
        return Routes(prefix=prefix, tags=() if tag is None else (tag,), dependencies=(guard,))

    async def find_caller(self, request: Request) -> Caller:
        """Whoever sends ``request``. Raises Unauthorized, NotLoggedIn."""
        key = _key_of(request)
        if key is not None:
            caller = await self._known(CallerKind.KEY, key, address_of(request))
            if caller is None:
                self._refused.note("invalid_api_key", address_of(request))
                raise Unauthorized(
                    problem="The API key is not valid: it is mistyped, expired, was revoked, or is of another box."
                )
            return caller
        secret = session_secret(request)
        if secret is not None:
            by_person = peer_of(request) is None
            caller = await self._known(CallerKind.SESSION, secret, address_of(request), by_person=by_person)
            if caller is None:
                self._refused.note("not_logged_in", address_of(request))
                raise NotLoggedIn
            return caller
        peer = peer_of(request)
        if peer is not None:
            account = await asyncio.to_thread(self._trust, peer)
            if account is None:
                raise Unauthorized(problem="This account of the machine may not use the admin socket.")
            return local_caller(account)
        raise Unauthorized(problem="The request has no API key.")

    async def _known(
        self, kind: CallerKind, secret: str, address: str | None, *, by_person: bool = True
    ) -> Caller | None:
        caller = self._recent.find(kind, secret, address)
        if caller is not None:
            return caller
        if not by_person:
            # By the admin socket a session comes with what a console in a browser asks by itself, every second: that
            # nobody sits before it is no reason to stay logged in. Their keys come from the browser, and count; so it
            # is not remembered either, or they would not be looked up.
            return await asyncio.to_thread(self._accounts.caller_by_cookie, secret, address, note_use=False)
        version = self._recent.version()
        accounts = self._accounts
        look_up = accounts.caller_by_key if kind is CallerKind.KEY else accounts.caller_by_cookie
        caller = await asyncio.to_thread(look_up, secret, address)
        if caller is not None:
            self._recent.keep(secret, caller, version)
        return caller


@dataclass(frozen=True)
class Guard:
    """A FastAPI dependency that holds ``rule``, and ``unsafe`` for methods that change something.

    It runs before the body is read: strangers cannot make the box hold megabytes. Afterwards ``request.state.caller``
    is the ``Caller``, but for public routes.
    """

    rule: Rule
    unsafe: Rule
    find_caller: Callable[[Request], Any]
    hosts: HostNames

    async def __call__(self, request: Request) -> None:
        """Raises UnknownHost, Unauthorized, NotLoggedIn, Forbidden, PasswordChangeNeeded, CsrfRejected."""
        rule = self.rule_of(request.method)
        if rule is Entry.PUBLIC:
            if request.url.path not in PROBED_PATHS and peer_of(request) is None:
                self.hosts.check(request.headers.get("host", ""))
            return
        caller: Caller = await self.find_caller(request)
        request.state.caller = caller
        request.state.caller_name = caller.name
        CALL.set(Call(caller, request.url.path, request.state.headers))
        structlog.contextvars.bind_contextvars(**{caller.kind.value: caller.name})
        if caller.kind is CallerKind.SESSION:
            _check_csrf(request)
        _check_rule(rule, caller)

    def rule_of(self, method: str) -> Rule:
        """The rule for requests with that method."""
        return self.rule if method in SAFE_METHODS else self.unsafe


def caller_of(request: Request) -> Caller:
    """Who sends the request, in a route that is not public."""
    caller: Caller = request.state.caller
    return caller


def default_reasoning(request: Request) -> str | None:
    """Where the caller's key wants the thought when a request does not say."""
    return caller_of(request).policy.reasoning_format


def address_of(request: Request) -> str | None:
    """Where the request comes from; None on the admin socket."""
    return None if request.client is None else request.client.host


def peer_of(request: Request) -> Peer | None:
    """The process at the other end of the admin socket; None for requests by the network."""
    peer: Peer | None = request.scope.get("state", {}).get("peer")
    return peer


def cookie_name(request: Request) -> str:
    """The session cookie's name. With TLS it has the prefix that keeps other hosts of the domain from setting it."""
    return _SECURE_COOKIE if request.url.scheme == "https" else _COOKIE


def session_secret(request: Request) -> str | None:
    """The session cookie's value."""
    return request.cookies.get(cookie_name(request)) or None


def rules(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, tuple[Rule, ...]]]:
    """Method, path and declared rules of every route."""
    for route in iter_route_contexts(routes):
        dependant = getattr(route, "dependant", None)
        guards = () if dependant is None else tuple(_guards(dependant))
        for method in sorted(route.methods or ()):
            yield method, str(route.path_format), tuple(guard.rule_of(method) for guard in guards)


def check_rules(app: FastAPI) -> None:
    """Raise AssertionError unless every route has exactly one rule: a forgotten one must not be open to everybody."""
    for method, path, found in rules(app.routes):
        assert len(found) == 1, f"{method} {path} has {len(found)} access rules"


def _guards(dependant: Any) -> Iterator[Guard]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Guard):
            yield dependency.call
        yield from _guards(dependency)


def _key_of(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return request.headers.get("x-api-key")
    scheme, _, key = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return key.strip()
        case "basic":
            return _password_of(key.strip())
        case _:
            raise Unauthorized(problem="The Authorization header does not say 'Bearer'.")


def _password_of(credentials: str) -> str:
    """RFC 7617: the base64 of ``name:password``; the name is nobody's."""
    try:
        _, colon, password = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthorized(problem="The Authorization header says 'Basic', but what follows is not base64.") from error
    if not colon:
        raise Unauthorized(problem="The Authorization header says 'Basic', but has no password; that is the key.")
    return password


def _check_rule(rule: Rule, caller: Caller) -> None:
    if rule is Entry.PERSON and caller.kind is not CallerKind.SESSION:
        raise Forbidden(who=_shown(caller), needed="a person who has logged in")
    if isinstance(rule, Permission):
        if caller.session is not None and caller.session.must_change_password:
            raise PasswordChangeNeeded
        if rule not in caller.permissions:
            raise Forbidden(who=_shown(caller), needed=rule.value)


def _shown(caller: Caller) -> str:
    what = {CallerKind.KEY: "The key", CallerKind.SESSION: "The user", CallerKind.LOCAL: "The console of"}
    return f"{what[caller.kind]} '{caller.name}'"


def _check_csrf(request: Request) -> None:
    if request.method in SAFE_METHODS:
        return
    secret, given = session_secret(request), request.headers.get(CSRF_HEADER)
    assert secret is not None
    if given is None:
        raise CsrfRejected(problem=f"without the header {CSRF_HEADER}")
    if not hmac.compare_digest(given.encode(), csrf_token(secret).encode()):
        raise CsrfRejected(problem=f"the header {CSRF_HEADER} is not the session's")
