"""The chat service: one door for every protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Protocol

from appliance.engine.base import Engine, EngineInfo, EngineStatus
from appliance.engine.request import GenerationRequest
from appliance.errors import InvalidRequest, ModelNotFound, ModelNotReady
from appliance.serving.admission import Admission
from appliance.serving.context import reserved_tokens
from appliance.serving.profile import sampling_for
from appliance.serving.prompt import PromptMaker
from appliance.serving.stop import check_stop_strings
from appliance.serving.stream import ChatPlan, ChatStream
from appliance.serving.types import ChatMessage, ChatRequest, SamplingPolicy, ServedModel

ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))


class EngineSource(Protocol):
    """The part of ``EngineManager`` that chat needs."""

    def status(self) -> EngineStatus: ...

    def ready(self) -> tuple[Engine, EngineInfo]:
        """Raises ModelNotReady."""
        ...


class ChatService:
    """Takes chat requests for the served models.

    ``models`` is read anew for each request, by id; ``manager`` says which of them runs and with what.
    ``sampling_policy`` holds for requests that bring none of their own.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        manager: EngineSource,
        admission: Admission,
        *,
        sampling_policy: SamplingPolicy = SamplingPolicy.CLAMP,
    ) -> None:
        self._models = models
        self._manager = manager
        self._admission = admission
        self._sampling_policy = sampling_policy
        self._prompts = PromptMaker()
        self._background: set[asyncio.Task[None]] = set()

    async def open(self, request: ChatRequest) -> ChatStream:
        """Check everything that can be refused, then take a seat or a place in the queue.

        1. the request's values, 2. the model and its engine, 3. the prompt by profile and template, 4. its tokens
        against the seat, without the oldest turns if the client allows that, 5. admission. The stream, which must be
        closed, only waits for its turn and generates.

        Raises InvalidRequest, ModelNotFound, ModelNotReady, ChatTemplateMissing, ChatTemplateUnusable,
        ContextLengthExceeded, EngineLost, QueueFull.
        """
        _check(request)
        model = self._model(request.model)
        policy = request.sampling_policy or self._sampling_policy
        sampling, changes = sampling_for(model.profile, request.sampling, policy)
        engine, info = self._ready(model)
        prompt = await self._prompts.fitting(model, request, engine, info)
        plan = ChatPlan(
            generation=GenerationRequest(
                request_id=request.request_id,
                prompt_tokens=prompt.tokens,
                max_tokens=prompt.max_tokens,
                sampling=sampling,
            ),
            splits_reasoning=model.profile.splits_reasoning,
            opens_reasoning=prompt.opens_reasoning,
            stop=request.stop,
            changes=changes + prompt.changes,
            trimmed=prompt.trimmed,
        )
        self._admission.resize(info.seats)
        return ChatStream(plan, self._admission.enter(), lambda: self._ready(model)[0], self._background)

    async def aclose(self) -> None:
        """Wait until every closed stream's engine request has ended."""
        while self._background:
            await asyncio.gather(*self._background)

    def _model(self, model_id: str) -> ServedModel:
        model = self._models.get(model_id)
        if model is None:
            raise ModelNotFound(model=model_id, served=", ".join(sorted(self._models)) or "none")
        return model

    def _ready(self, model: ServedModel) -> tuple[Engine, EngineInfo]:
        engine, info = self._manager.ready()
        running = self._manager.status().model_id
        if running is not None and running != model.id:
            raise ModelNotReady(reason=f"'{running}' is loaded, not '{model.id}'.")
        return engine, info


def _check(request: ChatRequest) -> None:
    if not request.messages:
        raise InvalidRequest("A conversation has at least one message.", param="messages")
    for number, message in enumerate(request.messages):
        if message.role not in ROLES:
            raise InvalidRequest(
                f"messages[{number}] has the role '{message.role:.40}'; known are {', '.join(sorted(ROLES))}.",
                param="messages",
            )
        for text in _texts(message):
            try:
                if not text.isascii():
                    text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InvalidRequest(
                    f"messages[{number}] holds half a surrogate pair, which is not text.", param="messages"
                ) from error
    check_stop_strings(request.stop)
    reserved_tokens(request.max_tokens)


def _texts(message: ChatMessage) -> Iterator[str]:
    yield message.content
    yield from (text for text in (message.reasoning, message.tool_call_id, message.name) if text)
    for call in message.tool_calls or ():
        yield from (call.id, call.name, call.arguments)
