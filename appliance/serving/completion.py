"""Text that goes on from a prompt as it is: no template, no turns, no thought set apart."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.engine.base import Engine, EngineInfo
from appliance.engine.request import GenerationRequest, Priority, Structure, TextSegment
from appliance.errors import InvalidRequest
from appliance.serving.context import answer_tokens, refuse_if_surely_too_long, reserved_tokens
from appliance.serving.profile import sampling_for
from appliance.serving.stop import check_stop_strings
from appliance.serving.stream import ChatPlan
from appliance.serving.types import SamplingOverrides, SamplingPolicy, ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """``prompt`` is text, or the model's own tokens. The rest is as in ``ChatRequest``."""

    request_id: str
    model: str
    prompt: str | tuple[int, ...]
    max_tokens: int | None = None
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    stop: tuple[str, ...] = ()
    sampling_policy: SamplingPolicy | None = None
    owner: str | None = None
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None
    structure: Structure | None = None
    logprobs: int | None = None


def check_completion(request: CompletionRequest) -> None:
    """Raises InvalidRequest for values that no model could serve."""
    check_stop_strings(request.stop)
    reserved_tokens(request.max_tokens)
    if isinstance(request.prompt, str) and not request.prompt.isascii():
        try:
            request.prompt.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                "The prompt holds half a surrogate pair, which is not text.", param="prompt"
            ) from error


async def completion_plan(
    request: CompletionRequest, model: ServedModel, engine: Engine, info: EngineInfo, policy: SamplingPolicy
) -> ChatPlan:
    """The prompt counted against the seat, and everything decided.

    Text is the client's own prompt, control tokens included: whoever sends one is its author and has written the turns.
    The BOS is added where the model wants it and the text does not begin with it; tokens stay as they are.

    Raises InvalidRequest, ContextLengthExceeded, EngineLost.
    """
    sampling, changes = sampling_for(model.profile, request.sampling, policy)
    tokens = await _tokens(request, model, engine, info)
    if not tokens:
        raise InvalidRequest("The prompt is empty, and there is nothing to go on from.", param="prompt")
    max_tokens = answer_tokens(
        prompt_tokens=len(tokens),
        max_tokens=request.max_tokens,
        profile_tokens=model.profile.answer_tokens,
        context_tokens=info.context_tokens,
    )
    return ChatPlan(
        generation=GenerationRequest(
            request_id=request.request_id,
            prompt_tokens=tokens,
            max_tokens=max_tokens,
            sampling=sampling,
            owner=request.owner,
            priority=request.priority,
            structure=request.structure,
            logprobs=request.logprobs,
        ),
        splits_reasoning=False,
        opens_reasoning=False,
        stop=request.stop,
        changes=changes,
    )


async def _tokens(request: CompletionRequest, model: ServedModel, engine: Engine, info: EngineInfo) -> tuple[int, ...]:
    prompt = request.prompt
    if not isinstance(prompt, str):
        if wrong := next((token for token in prompt if not 0 <= token < info.vocabulary_size), None):
            raise InvalidRequest(
                f"The prompt has the token {wrong}; this model has 0 to {info.vocabulary_size - 1:,}.", param="prompt"
            )
        return prompt
    refuse_if_surely_too_long(
        [prompt],
        max_tokens=request.max_tokens,
        context_tokens=info.context_tokens,
        longest_token_bytes=info.longest_token_bytes,
    )
    has_bos = bool(model.bos_token) and prompt.startswith(model.bos_token or "")
    return tuple(await engine.tokenize([TextSegment(prompt)] if prompt else [], add_bos=not has_bos))
