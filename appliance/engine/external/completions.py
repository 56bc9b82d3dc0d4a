"""OpenAI's ``/v1/completions``: with token ids both ways as vLLM and vLLM-Ascend have it, or with text alone.

Sources: vLLM's ``entrypoints/openai/completion/protocol.py`` (``prompt`` of ids, ``return_token_ids``,
``return_tokens_as_token_ids``, ``structured_outputs``, ``priority``), the OpenAI API reference.
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.engine.base import Feature
from appliance.engine.external.dialect import Call, Chance, NotUnderstood, Piece
from appliance.engine.external.sse import Event
from appliance.engine.request import FinishReason, Priority, SamplingParams, Structure, StructureKind
from appliance.engine.structure import unanchored, without_annotations

DONE = b"[DONE]"
_ENDINGS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_ID = "token_id:"


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    tokens: tuple[str, ...] = ()
    token_logprobs: tuple[float | None, ...] = ()
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None


class _Choice(msgspec.Struct, frozen=True):
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Problem(msgspec.Struct, frozen=True):
    message: str = ""


class _Chunk(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: _Problem | str | None = None


_decoder = msgspec.json.Decoder(_Chunk)


class VllmCompletions:
    """vLLM's form: token ids in and out. Implements ``dialect.Dialect``."""

    path = "/v1/completions"
    health_path = "/health"
    metrics_path: str | None = "/metrics"
    models_path: str | None = "/v1/models"
    version_path: str | None = "/version"
    features = frozenset({Feature.STRUCTURE, Feature.LOGPROBS, Feature.THINKING})
    gives_tokens = True

    def body(self, call: Call) -> dict[str, Any]:
        """The request's JSON."""
        said: dict[str, Any] = {
            "model": call.model,
            "prompt": call.tokens,
            "max_tokens": call.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "seed": call.seed,
            **_sampling(call.sampling),
            "top_k": call.sampling.top_k,
            "min_p": call.sampling.min_p,
            "repetition_penalty": call.sampling.repeat_penalty,
        }
        if call.priority is Priority.BATCH:
            said["priority"] = 1
        if call.logprobs is not None:
            said["logprobs"] = call.logprobs
            said["return_tokens_as_token_ids"] = True
        if call.structure is not None:
            said["structured_outputs"] = _structured(call.structure)
        return said

    def read(self, event: Event) -> Piece | None:
        """What an event says. Raises NotUnderstood."""
        if event.data == DONE:
            return None
        chunk = _chunk(event)
        if chunk.error is not None:
            return Piece(ending=FinishReason.ERROR, error=_message(chunk.error))
        if not chunk.choices:
            return _with_usage(Piece(), chunk.usage)
        choice = chunk.choices[0]
        if choice.token_ids is None and choice.text:
            raise NotUnderstood("text came without the ids of its tokens")
        piece = Piece(
            tokens=choice.token_ids or (),
            text=choice.text or "",
            ending=_ending(choice.finish_reason),
            error=_error(choice.finish_reason),
            chances=_chances(choice.logprobs),
        )
        return _with_usage(piece, chunk.usage)


class TextCompletions:
    """The form that any OpenAI-compatible server has: text both ways. Implements ``dialect.Dialect``.

    The box counts what comes with its own vocabulary. It can neither end a thought nor bind an answer there, so it
    does not claim to.
    """

    path = "/v1/completions"
    health_path = "/v1/models"
    metrics_path: str | None = None
    models_path: str | None = "/v1/models"
    version_path: str | None = None
    features: frozenset[Feature] = frozenset()
    gives_tokens = False

    def body(self, call: Call) -> dict[str, Any]:
        """The request's JSON."""
        return {
            "model": call.model,
            "prompt": call.text,
            "max_tokens": call.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": call.seed,
            **_sampling(call.sampling),
        }

    def read(self, event: Event) -> Piece | None:
        """What an event says. Raises NotUnderstood."""
        if event.data == DONE:
            return None
        chunk = _chunk(event)
        if chunk.error is not None:
            return Piece(ending=FinishReason.ERROR, error=_message(chunk.error))
        if not chunk.choices:
            return _with_usage(Piece(tokens=None), chunk.usage)
        choice = chunk.choices[0]
        piece = Piece(
            tokens=None,
            text=choice.text or "",
            ending=_ending(choice.finish_reason),
            error=_error(choice.finish_reason),
        )
        return _with_usage(piece, chunk.usage)


def _sampling(params: SamplingParams) -> dict[str, Any]:
    said: dict[str, Any] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
    }
    if params.logit_bias:
        said["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
    return said


def _structured(structure: Structure) -> dict[str, Any]:
    match structure.kind:
        case StructureKind.JSON_SCHEMA:
            return {"json": without_annotations(structure.text)}
        case StructureKind.JSON_OBJECT:
            return {"json_object": True}
        case StructureKind.REGEX:
            return {"regex": unanchored(structure.text)}
        case StructureKind.GRAMMAR:
            return {"grammar": structure.text}


def _chunk(event: Event) -> _Chunk:
    try:
        return _decoder.decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotUnderstood(str(error)[:200]) from error


def _message(problem: _Problem | str) -> str:
    return problem if isinstance(problem, str) else problem.message or "it gave no reason"


def _ending(reason: str | None) -> FinishReason | None:
    return None if reason is None else _ENDINGS.get(reason, FinishReason.ERROR)


def _error(reason: str | None) -> str | None:
    return None if reason is None or reason in _ENDINGS else f"the engine ended it itself ({reason[:80]})"


def _with_usage(piece: Piece, usage: _Usage | None) -> Piece:
    if usage is None:
        return piece
    details = usage.prompt_tokens_details
    return Piece(
        tokens=piece.tokens,
        text=piece.text,
        ending=piece.ending,
        error=piece.error,
        chances=piece.chances,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=None if details is None else details.cached_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _chances(logprobs: _Logprobs | None) -> tuple[Chance, ...]:
    """vLLM lists the token that was drawn among the likeliest, also where it is none of them."""
    if logprobs is None:
        return ()
    tops = logprobs.top_logprobs or (None,) * len(logprobs.tokens)
    try:
        return tuple(
            Chance(
                _id(token),
                0.0 if chance is None else chance,
                tuple(sorted(((_id(one), value) for one, value in (top or {}).items()), key=lambda pair: -pair[1])),
            )
            for token, chance, top in zip(logprobs.tokens, logprobs.token_logprobs, tops, strict=True)
        )
    except ValueError as error:
        raise NotUnderstood(f"log probabilities that do not belong together: {str(error)[:100]}") from error


def _id(token: str) -> int:
    return int(token.removeprefix(_ID))
