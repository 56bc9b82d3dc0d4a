"""Asks the daemon over HTTP or its unix socket. What goes wrong is a value, ``Problem``, never an exception: a console
that stands in front of a broken box must go on."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from appliance.schemas.errors import ErrorEnvelope

Body = TypeVar("Body", bound=BaseModel)
ANSWER_TIMEOUT_S = 5.0
ACTION_TIMEOUT_S = 900.0
"""Fix-ups may read a whole model or load it again; so do loads."""


STREAM_SILENCE_S = 60.0
"""The daemon sends a comment every 15 seconds where there is nothing to tell."""


class Nothing(BaseModel):
    """Done, and nothing to say."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer. ``code`` is the daemon's, or one of ours: ``unreachable``, ``no_answer`` (in time),
    ``garbled``. ``message`` and ``hint`` are the daemon's words; None for ours, which the catalogues have."""

    code: str
    message: str | None = None
    hint: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where the daemon is: a unix socket of this machine, or an address. ``page_url`` is where people open the chat;
    None when it is not known here. ``served``: the console runs on the box, but for somebody in a browser, who may what
    their session may and nothing on the machine itself."""

    url: str
    socket: Path | None = None
    page_url: str | None = None
    served: bool = False

    @property
    def shown(self) -> str:
        """The place as an operator would name it."""
        return self.url if self.socket is None else str(self.socket)


class BoxClient:
    """One box. ``ca`` is a PEM file with the authority that signed the box's certificate; ``headers`` say who asks
    where no ``key`` does. Raises OSError or ssl.SSLError for a file that is none."""

    def __init__(
        self,
        target: Target,
        *,
        key: str | None = None,
        ca: Path | None = None,
        headers: Mapping[str, str] | None = None,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.target = target
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is not None or target.url.startswith("https:"):
            # Reading the system's authorities takes longer than all other steps to the first answer.
            verify = ssl.create_default_context(cafile=None if ca is None else str(ca))
        transport = httpx.AsyncHTTPTransport(
            uds=None if target.socket is None else str(target.socket),
            verify=verify,
            trust_env=False,
            limits=httpx.Limits(max_connections=8),
        )
        who = dict(headers or {}) if key is None else {"Authorization": f"Bearer {key}"}
        self._timeout_s = answer_timeout_s
        self._client = httpx.AsyncClient(base_url=target.url, headers=who, transport=transport, trust_env=False)

    async def get(
        self, path: str, kind: type[Body], *, also: tuple[int, ...] = (), timeout_s: float | None = None
    ) -> Body | Problem:
        """The body of a GET. ``also``: status codes beside success whose body is of this kind too. ``timeout_s``: for
        what takes longer to answer than a look."""
        return _parsed(await self._ask("GET", path, timeout_s or self._timeout_s), kind, also)

    async def post(self, path: str, kind: type[Body], *, timeout_s: float = ACTION_TIMEOUT_S) -> Body | Problem:
        """The body of a POST without a body; it may take minutes."""
        return _parsed(await self._ask("POST", path, timeout_s), kind, ())

    async def send(
        self,
        method: str,
        path: str,
        kind: type[Body],
        body: BaseModel | None = None,
        *,
        timeout_s: float = ACTION_TIMEOUT_S,
        keep_none: bool = False,
    ) -> Body | Problem:
        """What a request that changes something is answered with; ``Nothing`` is for those without a body. Fields of
        ``body`` that are None are left out unless ``keep_none``."""
        content = None if body is None else body.model_dump_json(exclude_none=not keep_none).encode()
        return _parsed(await self._ask(method, path, timeout_s, content), kind, ())

    async def events(self, path: str, body: dict[str, object] | None = None) -> AsyncIterator[str | Problem]:
        """The ``data`` and comments (with their colon) of a stream of events, by GET without ``body``; a Problem ends
        it."""
        timeout = httpx.Timeout(self._timeout_s, read=STREAM_SILENCE_S)
        method = "GET" if body is None else "POST"
        try:
            async with self._client.stream(method, path, json=body, timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                    yield _refusal(answer)
                    return
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        yield line.removeprefix("data:").strip()
                    elif line.startswith(":"):
                        yield line
        except httpx.TimeoutException:
            yield Problem("no_answer", detail=f"{STREAM_SILENCE_S:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield Problem("unreachable", detail=_reason(error))

    async def text(self, path: str) -> str | Problem:
        """A GET's body as text."""
        answer = await self._ask("GET", path, self._timeout_s)
        if isinstance(answer, Problem):
            return answer
        return answer.text if answer.is_success else _refusal(answer)

    async def _ask(
        self, method: str, path: str, timeout_s: float, content: bytes | None = None
    ) -> httpx.Response | Problem:
        started = time.monotonic()
        try:
            timeout = httpx.Timeout(timeout_s, connect=self._timeout_s)
            headers = None if content is None else {"Content-Type": "application/json"}
            return await self._client.request(method, path, content=content, headers=headers, timeout=timeout)
        except httpx.TimeoutException:
            return Problem("no_answer", detail=f"{time.monotonic() - started:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Problem("unreachable", detail=_reason(error))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _reason(error: Exception) -> str:
    """The operating system's words at the end of the chain, which say more than the library's."""
    cause: BaseException = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error) or type(error).__name__


def _parsed(answer: httpx.Response | Problem, kind: type[Body], also: tuple[int, ...]) -> Body | Problem:
    if isinstance(answer, Problem):
        return answer
    if not answer.is_success and answer.status_code not in also:
        return _refusal(answer)
    try:
        return kind.model_validate_json(answer.content or b"{}")
    except ValidationError:
        return Problem("garbled", detail=kind.__name__)


def _refusal(answer: httpx.Response) -> Problem:
    try:
        error = ErrorEnvelope.model_validate_json(answer.content).error
    except ValidationError:
        return Problem("garbled", detail=f"HTTP {answer.status_code}")
    return Problem(error.code or error.type, error.message, error.hint)
