"""Questions of other boxes to the model's server on the leading box: bounded, cut down to what a box may say, queued
with everybody else's, passed through as they come.

A box authorises its own people; the leader takes its word for who they are (a header that only a certificate of the
cluster can bring along) and uses it for fair turns alone. A question's first call waits for a seat; what the same
question asks further (an answer after its thought) goes on in it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import httpx
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.engine.external.connection import OWNER_HEADER, REQUEST_HEADER
from appliance.engine.external.launch import Endpoint
from appliance.engine.request import Priority
from appliance.errors import AppError, InvalidRequest, RequestTooLarge, describe
from appliance.serving.admission import Admission

_log = structlog.get_logger(__name__)

MOST_QUESTION_BYTES = 16 * 1024 * 1024
_MOST_TEXT = 1024 * 1024
_REMEMBERED = 4096
_CONNECT_S = 10.0


class _Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = True


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    json: Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)] | None = None
    json_object: bool = False
    regex: Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)] | None = None
    grammar: Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)] | None = None


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What ``engine.external.completions.VllmCompletions`` says, and nothing else: a server has parameters that read
    files or run code."""

    model: str
    prompt: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stream: Literal[True]
    return_token_ids: Literal[True]
    seed: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    skip_special_tokens: Literal[False]
    spaces_between_special_tokens: Literal[False]
    stream_options: _Usage
    logit_bias: dict[str, float] | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=64)] | None = None
    return_tokens_as_token_ids: bool = False
    structured_outputs: _Form | None = None


_decoder = msgspec.json.Decoder(Question)


class Questions:
    """Passes questions on. For one event loop."""

    def __init__(self, admission: Callable[[str], Admission]) -> None:
        self._admission = admission
        self._seated: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Questions that have had a seat, by box and name."""

    async def answer(self, box: str, request: Request, endpoint: Endpoint, allowed: Callable[[], bool]) -> Response:
        """The server's answer as it comes. Raises RequestTooLarge, InvalidRequest."""
        question = await _read(request)
        if question.model != endpoint.model:
            raise InvalidRequest("The cluster serves another model.", param="model")
        name = unquote(request.headers.get(REQUEST_HEADER, ""))[:200]
        owner = unquote(request.headers.get(OWNER_HEADER, ""))[:200]
        return _Passed(lambda: self._ask(box, name, owner, question, endpoint), allowed)

    @asynccontextmanager
    async def _ask(
        self, box: str, name: str, owner: str, question: Question, endpoint: Endpoint
    ) -> AsyncIterator[httpx.Response]:
        ticket = None
        if not name or (box, name) not in self._seated:
            ticket = self._admission(endpoint.model).enter(
                request_id=name,
                owner=f"{box}/{owner}" if owner else box,
                priority=Priority.BATCH if question.priority else Priority.INTERACTIVE,
                prompt_tokens=len(question.prompt),
                most_tokens=question.max_tokens,
            )
        try:
            if ticket is not None:
                await ticket.called()
                self._remember(box, name)
            async with _upstream(endpoint) as client:
                content = msgspec.json.encode(question)
                async with client.stream("POST", endpoint.dialect.path, content=content) as response:
                    yield response
        finally:
            if ticket is not None:
                ticket.release()

    def _remember(self, box: str, name: str) -> None:
        self._seated[box, name] = None
        while len(self._seated) > _REMEMBERED:
            self._seated.popitem(last=False)


async def passed_on(endpoint: Endpoint, path: str) -> Response:
    """What the server answers to a GET."""
    try:
        async with _upstream(endpoint) as client:
            answer = await client.get(path, timeout=_CONNECT_S)
    except httpx.HTTPError:
        return Response(status_code=503)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


class _Passed(Response):
    """Bytes as they come; ends upstream when the asking box leaves, and breaks off when the server does: what is not
    whole must not look so."""

    def __init__(self, ask: Callable[[], Any], allowed: Callable[[], bool]) -> None:
        super().__init__()
        self._ask = ask
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        passing = asyncio.create_task(self._pass(send), name="cluster question")
        leaving = asyncio.create_task(_left(receive), name="cluster question's reader")
        try:
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (passing, leaving):
                task.cancel()
            await asyncio.wait({passing, leaving})
        if not passing.cancelled():
            passing.result()

    async def _pass(self, send: Send) -> None:
        begun = False
        try:
            async with self._ask() as response:
                kind = response.headers.get("content-type", "application/json").encode("latin-1")
                head = {"type": "http.response.start", "status": response.status_code}
                await send({**head, "headers": [(b"content-type", kind)]})
                begun = True
                async for chunk in response.aiter_raw():
                    if not self._allowed():
                        return
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except (httpx.HTTPError, AppError) as error:
            if not begun:
                await _refuse(send, error)


async def _refuse(send: Send, error: Exception) -> None:
    found = describe(error)
    status = found.http_status if isinstance(error, AppError) else 503
    message = found.message if isinstance(error, AppError) else "The model's server does not answer."
    body = msgspec.json.encode({"error": {"code": found.code, "message": message}})
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request) -> Question:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MOST_QUESTION_BYTES:
            raise RequestTooLarge(limit_bytes=MOST_QUESTION_BYTES)
    try:
        return _decoder.decode(received)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"This is no question of a box: {error}.") from error


@asynccontextmanager
async def _upstream(endpoint: Endpoint) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"content-type": "application/json"}
    if endpoint.api_key:
        headers["authorization"] = f"Bearer {endpoint.api_key}"
    transport = httpx.AsyncHTTPTransport(
        uds=None if endpoint.unix_socket is None else str(endpoint.unix_socket), trust_env=False
    )
    async with httpx.AsyncClient(
        transport=transport,
        base_url=endpoint.url,
        headers=headers,
        timeout=httpx.Timeout(_CONNECT_S, read=None, pool=None),
        trust_env=False,
    ) as client:
        yield client
