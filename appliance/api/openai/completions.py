"""``POST /v1/completions``, streamed and whole."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog
from fastapi import Request
from starlette.responses import Response

from appliance.api.disconnect import unless_disconnected
from appliance.api.errors import envelope
from appliance.api.exchange import NO_STORE, declared, owner_of, stream_response, to_headers, to_model_id
from appliance.api.openai.chunks import DONE
from appliance.api.openai.forms import to_structure
from appliance.api.openai.translate import (
    ignored_of,
    refuse_wrong,
    to_finish_reason,
    to_sampling,
    to_stop,
    to_usage,
)
from appliance.api.openapi import json_body
from appliance.api.routes import Routes
from appliance.api.sse import data_event, queued_comment
from appliance.api.validation import parse_body
from appliance.engine.request import TokenLogprob
from appliance.errors import AppError, InvalidRequest, describe
from appliance.schemas.openai_completion import (
    COMPLETION_IGNORED,
    COMPLETION_UNSUPPORTED,
    MAX_PROMPTS,
    Completion,
    CompletionBody,
    CompletionChoice,
    CompletionLogprobs,
)
from appliance.serving.chat import ChatService
from appliance.serving.choices import ChoiceStream, usage_of_all
from appliance.serving.completion import CompletionRequest
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatFinished, ContentDelta, Queued, Usage

_log = structlog.get_logger(__name__)

DEFAULT_MAX_TOKENS = 16
"""OpenAI's; clients that want more say so."""


def completions_router(chat: ChatService, *, keep_alive_s: float) -> Routes:
    """The route."""
    router = Routes(tags=["completions"])

    @router.post("/completions", response_model=Completion, openapi_extra=json_body(CompletionBody.__name__))
    async def create_completion(request: Request) -> Response:
        body = parse_body(CompletionBody, await request.body())
        asked = to_completion_requests(body, request.state.request_id, owner_of(request))
        ignored = ignored_of(body, COMPLETION_IGNORED)
        texts = _Texts(body, asked)
        if not body.stream:
            streams, completion = await unless_disconnected(request.receive, _complete(chat, texts))
            content = completion.model_dump_json()
            response = Response(content, media_type="application/json", headers=NO_STORE)
            return declared(request, to_headers(streams, ignored), response)
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return await stream_response(
            request,
            chat,
            asked[0],
            lambda: chat.open_completions(asked),
            events=lambda opened: _events(opened, texts, include_usage=include_usage),
            headers=lambda opened: to_headers(opened.streams, ignored),
            failed=lambda error: data_event(envelope(error)),
            keep_alive_s=keep_alive_s,
        )

    return router


def to_completion_requests(body: CompletionBody, request_id: str, owner: str | None = None) -> list[CompletionRequest]:
    """One for each text. Raises UnsupportedParameter, InvalidRequest."""
    refuse_wrong(body, COMPLETION_UNSUPPORTED)
    prompts = _prompts(body)
    each = body.n or 1
    if len(prompts) * each > MAX_PROMPTS:
        raise InvalidRequest(
            f"One request may ask for {MAX_PROMPTS} texts; {len(prompts) * each} are too many.", param="n"
        )
    if body.echo and body.logprobs is not None:
        raise InvalidRequest("With 'echo' there are no 'logprobs': the prompt's are not computed.", param="logprobs")
    if body.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidRequest("'echo' needs prompts of text.", param="echo")
    sampling = to_sampling(body)
    requests = []
    for number, prompt in enumerate(prompt for prompt in prompts for _ in range(each)):
        seed = None if sampling.seed is None else sampling.seed + number % each
        requests.append(
            CompletionRequest(
                request_id=request_id if number == 0 else f"{request_id}-{number}",
                model=to_model_id(body.model),
                prompt=prompt,
                max_tokens=body.max_tokens or DEFAULT_MAX_TOKENS,
                sampling=replace(sampling, seed=seed),
                stop=to_stop(body.stop),
                owner=owner,
                deadline_s=body.deadline_s,
                structure=to_structure(None, body.structured_outputs),
                logprobs=body.logprobs,
            )
        )
    return requests


def _prompts(body: CompletionBody) -> list[str | tuple[int, ...]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    tokens = tuple(token for token in prompt if isinstance(token, int))
    if tokens:
        return [tokens]
    return [one if isinstance(one, str) else tuple(one) for one in prompt if not isinstance(one, int)]


@dataclass(slots=True)
class _Texts:
    """What the answers to one body have in common, and how long each is so far."""

    body: CompletionBody
    asked: list[CompletionRequest]
    created: int = field(default_factory=lambda: int(time.time()))
    lengths: dict[int, int] = field(default_factory=dict)

    def completion(self, choices: list[CompletionChoice], usage: Usage | None = None) -> Completion:
        return Completion(
            id=f"cmpl-{self.asked[0].request_id.removeprefix('req_')}",
            created=self.created,
            model=self.asked[0].model,
            choices=choices,
            usage=None if usage is None else to_usage(usage),
        )

    def beginning(self, index: int) -> str:
        """What the text begins with: the prompt with ``echo``."""
        prompt = self.asked[index].prompt
        return prompt if self.body.echo and isinstance(prompt, str) else ""

    def piece(self, index: int, delta: ContentDelta) -> CompletionChoice:
        offset = self.lengths.get(index, len(self.beginning(index)))
        self.lengths[index] = offset + len(delta.text)
        logprobs = _logprobs(delta.logprobs, offset) if self.body.logprobs is not None else None
        return CompletionChoice(index=index, text=delta.text, logprobs=logprobs)

    def total(self, usages: Sequence[Usage]) -> Usage:
        return usage_of_all(usages, prompts=len(self.asked) // (self.body.n or 1))


async def _complete(chat: ChatService, texts: _Texts) -> tuple[Sequence[ChatStream], Completion]:
    pieces: list[list[CompletionChoice]] = [[] for _ in texts.asked]
    endings: dict[int, ChatFinished] = {}
    async with await chat.open_completions(texts.asked) as choices:
        async for index, event in choices:
            if isinstance(event, ContentDelta):
                pieces[index].append(texts.piece(index, event))
            elif isinstance(event, ChatFinished):
                to_finish_reason(event)
                endings[index] = event
    whole = [_joined(texts, index, pieces[index], endings[index]) for index in range(len(texts.asked))]
    usage = texts.total([endings[index].usage for index in range(len(texts.asked))])
    return choices.streams, texts.completion(whole, usage)


def _joined(texts: _Texts, index: int, pieces: list[CompletionChoice], ending: ChatFinished) -> CompletionChoice:
    logprobs = None
    if texts.body.logprobs is not None:
        parts = [piece.logprobs for piece in pieces if piece.logprobs is not None]
        logprobs = CompletionLogprobs(
            tokens=[token for part in parts for token in part.tokens],
            token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
            top_logprobs=[top for part in parts for top in part.top_logprobs],
            text_offset=[offset for part in parts for offset in part.text_offset],
        )
    return CompletionChoice(
        index=index,
        text=texts.beginning(index) + "".join(piece.text for piece in pieces),
        logprobs=logprobs,
        finish_reason=_reason(ending),
    )


async def _events(choices: ChoiceStream, texts: _Texts, *, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """The events of streamed texts; an error is as in a stream of chats."""
    usages: dict[int, Usage] = {}
    exclude = None if include_usage else {"usage"}

    def chunk(choice: CompletionChoice) -> bytes:
        return data_event(texts.completion([choice]).model_dump_json(exclude=exclude).encode())

    begun: set[int] = set()
    try:
        async for index, event in choices:
            if isinstance(event, Queued):
                yield queued_comment(event.position, event.wait_s)
                continue
            if index not in begun and (echoed := texts.beginning(index)):
                yield chunk(CompletionChoice(index=index, text=echoed))
            begun.add(index)
            if isinstance(event, ContentDelta):
                yield chunk(texts.piece(index, event))
            elif isinstance(event, ChatFinished):
                yield chunk(CompletionChoice(index=index, text="", finish_reason=_reason(event)))
                usages[index] = event.usage
        if include_usage:
            total = texts.total([usages[index] for index in sorted(usages)])
            yield data_event(texts.completion([], total).model_dump_json().encode())
        yield DONE
    except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
        if describe(error).code == AppError.code:
            _log.exception("stream_crashed")
        yield data_event(envelope(describe(error)))


def _reason(ending: ChatFinished) -> Literal["stop", "length"]:
    return "length" if to_finish_reason(ending) == "length" else "stop"


def _logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> CompletionLogprobs:
    offsets = []
    for one in logprobs:
        offsets.append(offset)
        offset += len(one.token.decode("utf-8", "ignore"))
    return CompletionLogprobs(
        tokens=[_text(one.token) for one in logprobs],
        token_logprobs=[one.logprob for one in logprobs],
        top_logprobs=[{_text(token): logprob for token, logprob in one.top} for one in logprobs],
        text_offset=offsets,
    )


def _text(token: bytes) -> str:
    """Bytes that are no text on their own are shown as OpenAI does."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
