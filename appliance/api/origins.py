"""Keeps pages of other servers out, and keys out of addresses. Plain ASGI, before any route.

A browser says in ``Origin`` which page sends a request. One that is not of this box is refused on the API's paths with
403, unless the settings name it (``allowed_origins``); those get CORS headers, without credentials: cookies never
cross. Programs that are no browsers send no Origin and are not concerned.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_plus, urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.errors import error_response
from appliance.security.errors import ForeignOrigin, KeyInUrl
from appliance.security.keys import KEY_START

_API_PATHS = ("/v1", "/api", "/metrics", "/openapi.json")
_KEY_PARAMETERS = frozenset(("key", "api_key", "apikey", "api-key", "access_token", "x-api-key", "authorization"))
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ALLOWED_HEADERS = "Authorization, Content-Type, X-Api-Key, X-R1Box-Reasoning, Anthropic-Version, Anthropic-Beta"
_ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE"
_EXPOSED_HEADERS = (
    "X-Request-Id, X-R1Box-Changed, X-R1Box-Trimmed, X-R1Box-Ignored, X-R1Box-Queued, Retry-After, "
    "x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)


class OriginGuard:
    """``allowed`` are origins as browsers write them: ``https://chat.example.org``."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _has_key(scope):
            await error_response(KeyInUrl(), scope)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        is_api = scope["path"].startswith(_API_PATHS)
        if origin is not None and is_api and origin in self._allowed:
            await self._with_cors(origin, scope, receive, send)
        elif is_api and _is_foreign(headers, origin):
            shown = origin if origin not in (None, "null") else "other servers"
            await error_response(ForeignOrigin(origin=f"{shown:.100}"), scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _with_cors(self, origin: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        if scope["method"] == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
            headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
            headers["Access-Control-Max-Age"] = "600"
            await Response(status_code=204, headers=headers)(scope, receive, send)
            return
        headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        extra = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await self._app(scope, receive, send_with_cors)


def _is_foreign(headers: Headers, origin: str | None) -> bool:
    if origin is None:
        # Browsers leave Origin out of GET, but say where they come from. A link on another page may be followed.
        return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
    try:
        parts = urlsplit(origin)
    except ValueError:  # "http://[::1"
        return True
    own = headers.get("host", "").lower()
    asked = parts.netloc.lower()
    default = _DEFAULT_PORTS.get(parts.scheme)
    if default is None or not asked:
        return True
    return asked.removesuffix(default) != own.removesuffix(default)


def _has_key(scope: Scope) -> bool:
    query: bytes = scope.get("query_string", b"")
    if KEY_START in scope["path"]:
        return True
    if not query:
        return False
    text = query.decode("latin-1")
    if KEY_START in unquote_plus(text):
        return True
    names = {name.lower() for name, _ in parse_qsl(text, keep_blank_values=True)}
    return not names.isdisjoint(_KEY_PARAMETERS)
