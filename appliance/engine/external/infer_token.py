"""MindIE's own token interface, ``/infer_token``: ids in, ids and text out.

MindIE's OpenAI interface takes messages or text alone, so its own one is used: it is the only one on which the box's
counts and endings can be exact. Source: MindIE LLM development guide 2.2, "Token inference interface" (parameters and
their ranges, the events of a stream, ``details`` of the last one).
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.engine.base import Feature
from appliance.engine.external.dialect import Call, CannotAsk, NotUnderstood, Piece
from appliance.engine.external.sse import Event
from appliance.engine.request import FinishReason, Priority, SamplingParams

_ENDINGS = {
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}
_PRIORITIES = {Priority.INTERACTIVE: 3, Priority.BATCH: 5}
"""1 is the highest, 5 the lowest and what a request without one has."""

_GREEDY_BELOW = 0.001
"""Lower temperatures are advised against there; the likeliest token is what they mean."""

_MOST_SEED = 2**63 - 1
_TIMEOUT_S = 65_535


class _Token(msgspec.Struct, frozen=True):
    id: tuple[int, ...] | int | None = None
    text: str | None = None


class _Details(msgspec.Struct, frozen=True):
    finish_reason: str | None = None
    generated_tokens: int | None = None


class _Event(msgspec.Struct, frozen=True):
    token: _Token | None = None
    generated_text: str | None = None
    details: _Details | None = None
    error: str | None = None
    error_type: str | None = None


_decoder = msgspec.json.Decoder(_Event)


class MindieTokens:
    """Implements ``dialect.Dialect``. No log probabilities and no grammars: the interface has none."""

    path = "/infer_token"
    health_path = "/v2/health/ready"
    metrics_path: str | None = "/metrics"
    models_path: str | None = None
    version_path: str | None = None
    features = frozenset({Feature.THINKING})
    gives_tokens = True

    def body(self, call: Call) -> dict[str, Any]:
        """The request's JSON. Raises CannotAsk."""
        params = call.sampling
        _check(params)
        parameters: dict[str, Any] = {
            "max_new_tokens": call.max_tokens,
            "details": True,
            "repetition_penalty": params.repeat_penalty,
            "seed": call.seed % _MOST_SEED or 1,
            "priority": _PRIORITIES[call.priority],
            # The box decides how long an answer may take.
            "timeout": _TIMEOUT_S,
        }
        if params.temperature < _GREEDY_BELOW:
            parameters["do_sample"] = False
        else:
            parameters |= {"do_sample": True, "temperature": params.temperature}
            if params.top_p < 1.0:
                # 1.0 itself is refused; left out it means the same.
                parameters["top_p"] = max(params.top_p, 1e-6)
            if params.top_k > 0:
                parameters["top_k"] = params.top_k
        return {"input_id": call.tokens, "stream": True, "parameters": parameters}

    def read(self, event: Event) -> Piece | None:
        """What an event says. Raises NotUnderstood."""
        try:
            said = _decoder.decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotUnderstood(str(error)[:200]) from error
        if said.error is not None:
            return Piece(ending=FinishReason.ERROR, error=said.error)
        reason = None if said.details is None else said.details.finish_reason
        if said.token is None and reason is None:
            raise NotUnderstood("an event without a token")
        ids = () if said.token is None or said.token.id is None else said.token.id
        return Piece(
            tokens=(ids,) if isinstance(ids, int) else ids,
            text=(said.token.text or "") if said.token is not None else "",
            ending=None if reason is None else _ENDINGS.get(reason, FinishReason.ERROR),
            error=None if reason is None or reason in _ENDINGS else f"the engine ended it itself ({reason[:80]})",
            completion_tokens=None if said.details is None else said.details.generated_tokens,
        )


def _check(params: SamplingParams) -> None:
    """Refuse what would be left out in silence."""
    unknown = {
        "logit_bias": bool(params.logit_bias),
        "min_p": params.min_p > 0,
        "presence_penalty": params.presence_penalty != 0,
        "frequency_penalty": params.frequency_penalty != 0,
    }
    asked = [name for name, is_asked in unknown.items() if is_asked]
    if asked:
        raise CannotAsk(f"MindIE's token interface has no {', '.join(asked)}")
