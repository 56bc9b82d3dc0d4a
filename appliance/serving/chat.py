"""The chat service: one door for every protocol.

Over 400 lines because what is refused, and in which order, stands in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from appliance.engine.base import Engine, EngineInfo, Feature
from appliance.engine.request import FinishReason, GenerationRequest, TextSegment, ThinkingControl
from appliance.engine.structure_check import StructureChecker
from appliance.errors import ContextLengthExceeded, ModelNotFound, ModelNotReady
from appliance.serving.admission_book import AdmissionBook
from appliance.serving.charge import Bill, Charge, Gate, OpenGate, admitted, charged
from appliance.serving.choices import MAX_CHOICES, ChoiceStream, open_all
from appliance.serving.completion import CompletionRequest, check_completion, completion_plan
from appliance.serving.context import fewest_tokens
from appliance.serving.errors import EngineCannot, RequestNotFound
from appliance.serving.live import LiveStreams
from appliance.serving.profile import sampling_for
from appliance.serving.prompt import PromptMaker
from appliance.serving.request_check import check_chat, check_features, check_output
from appliance.serving.stream import ChatPlan, ChatStream
from appliance.serving.structured import check_calls, check_structure
from appliance.serving.thinking import ThinkingControls, ThinkingDefaults, plan_thinking
from appliance.serving.thought_counts import ThoughtCounts
from appliance.serving.times import ServingTimes
from appliance.serving.transcript import asked_text
from appliance.serving.types import (
    ChatFinished,
    ChatRequest,
    ModelProfile,
    PromptCount,
    RequestState,
    SamplingPolicy,
    ServedModel,
    Usage,
)


class EngineSource(Protocol):
    """The part of ``ModelHost`` that chat needs."""

    def ready(self, model_id: str) -> tuple[Engine, EngineInfo]:
        """The engine of a model. Raises ModelNotReady."""
        ...

    async def must_load(self, model_id: str) -> bool:
        """Whether ``bring_up`` would wait for a load."""
        ...

    def progress(self, model_id: str) -> float | None:
        """How much of a load under way is done, 0..1."""
        ...

    async def bring_up(self, model_id: str) -> None:
        """Return when an installed model is loaded, if requests may load it. Raises what keeps it from being loaded."""
        ...


class ChatService:
    """Takes chat requests for the served models.

    ``models`` is read anew for each request, by id; ``manager`` says which of them runs and with what.
    ``sampling_policy`` and ``thinking`` hold for requests that bring nothing of their own. ``thoughts`` counts what
    became of their thoughts; ``live`` knows the streams of this moment.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        manager: EngineSource,
        admissions: AdmissionBook,
        *,
        sampling_policy: SamplingPolicy = SamplingPolicy.CLAMP,
        thinking: ThinkingDefaults | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._models = models
        self._manager = manager
        self._admissions = admissions
        self._sampling_policy = sampling_policy
        self._gate = gate or OpenGate()
        self._prompts = PromptMaker()
        self._structures = StructureChecker()
        self._thinking = thinking or ThinkingDefaults()
        self._controls = ThinkingControls()
        self._streams: WeakValueDictionary[str, ChatStream] = WeakValueDictionary()
        self.thoughts = ThoughtCounts()
        self.live = LiveStreams()
        self.times = ServingTimes()
        self._background: set[asyncio.Task[None]] = set()

    def retune(self, *, sampling_policy: SamplingPolicy, thinking: ThinkingDefaults) -> None:
        """Others, for requests that come from now on."""
        self._sampling_policy = sampling_policy
        self._thinking = thinking

    async def open(self, request: ChatRequest) -> ChatStream:
        """Check everything that can be refused, then take a seat or a place in the queue.

        Whoever pays is asked first by ``gate``, which knows them, and hears how it went.
        1. the request's values, 2. the model and its engine, which may have to be loaded first, 3. the form of the
        answer, 4. the prompt by profile and template, 5. its tokens against the seat, without the oldest turns if the
        client allows that, 6. admission. The stream, which must be closed, only waits for its turn and generates.

        Raises InvalidRequest, ModelNotFound, ModelNotReady, ChatTemplateMissing, ChatTemplateUnusable,
        ContextLengthExceeded, EngineLost, GenerationFailed, QueueFull, QueueShareFull.
        """
        charge = self._gate.begin(request.request_id, request.model)
        if charge.keeps_text:
            charge.asked(asked_text(request.messages))
        try:
            return await self._open(charged(request, charge), charge)
        except BaseException as error:
            charge.refuse(error)
            raise

    async def _open(self, request: ChatRequest, charge: Charge) -> ChatStream:
        check_chat(request)
        await self._manager.bring_up(request.model)
        model = self._model(request.model)
        policy = request.sampling_policy or self._sampling_policy
        sampling, changes = sampling_for(model.profile, request.sampling, policy)
        engine, info = self._ready(model)
        check_features(request, info)
        thinking = plan_thinking(model.profile, request.thinking, self._thinking)
        request = replace(request, thinking=replace(request.thinking, enabled=thinking.enabled))
        if request.structure is not None:
            await check_structure(self._structures, request.structure)
        self._refuse_if_full(model, info, request)
        prompt = await self._prompts.fitting(model, request, engine, info)
        if prompt.tools.structure is not None:
            await check_calls(self._structures, prompt.tools.structure, prompt.tools.offered)
        control: ThinkingControl | None = None
        if model.profile.splits_reasoning and Feature.THINKING in info.features:
            control = await self._controls.control(
                thinking, engine, request.messages, opened=prompt.opens_reasoning, max_tokens=prompt.max_tokens
            )
        plan = ChatPlan(
            model_id=model.id,
            generation=GenerationRequest(
                request_id=request.request_id,
                prompt_tokens=prompt.tokens,
                max_tokens=prompt.max_tokens,
                sampling=sampling,
                owner=request.owner,
                priority=request.priority,
                structure=request.structure or prompt.tools.structure,
                logprobs=request.logprobs,
                thinking=control,
                answer_tokens=thinking.answer_tokens,
                keeps_answer=not model.profile.strips_history,
            ),
            splits_reasoning=model.profile.splits_reasoning,
            opens_reasoning=prompt.opens_reasoning,
            stop=request.stop,
            tools=prompt.tools,
            changes=changes + thinking.changes + prompt.changes,
            trimmed=prompt.trimmed,
            deadline_s=request.deadline_s,
        )
        asked = request.max_tokens is not None
        stream = self._enter(model, plan, info, charge, asked, lambda finished: self.thoughts.add(model, finished))
        self._streams[request.request_id] = stream
        return stream

    async def count_tokens(self, request: ChatRequest) -> PromptCount:
        """``count``, for a model that may have to be loaded first. It is a request like any other to whoever pays, of
        no tokens. Raises as ``open``, but for ContextLengthExceeded."""
        async with self._free_of_tokens(request.request_id, request.model):
            return await self.count(request)

    async def warm_up(self, request_id: str, model_id: str) -> None:
        """Return when the model can be asked; it is loaded if need be and allowed. A request of no tokens, as above.
        Raises ModelNotFound, ModelNotReady."""
        async with self._free_of_tokens(request_id, model_id):
            self._ready(self._model(model_id))

    @asynccontextmanager
    async def _free_of_tokens(self, request_id: str, model_id: str) -> AsyncIterator[None]:
        charge = self._gate.begin(request_id, model_id)
        try:
            await self._manager.bring_up(model_id)
            yield
        except BaseException as error:
            charge.refuse(error)
            raise
        Bill(charge, ()).pay(Usage(), ChatFinished(reason=FinishReason.STOP, usage=Usage()))

    def check(self, request: ChatRequest | CompletionRequest) -> None:
        """Refuse what needs no model to be refused: before ``open`` waits for a load, which may take minutes and end
        other models. Raises InvalidRequest, and what ``gate`` refuses with because of the model."""
        if isinstance(request, ChatRequest):
            check_chat(request)
        else:
            check_completion(request)
        self._gate.check(request.request_id, request.model)

    async def answer_now(self, request_id: str, *, owner: str | None) -> RequestState:
        """End the thought of a running request of this owner, all its choices, so that the answer begins; what it was
        at. Idempotent. Raises RequestNotFound, EngineCannot."""
        names = (request_id, *(f"{request_id}-{index}" for index in range(1, MAX_CHOICES)))
        streams = [stream for name in names if (stream := self._streams.get(name)) is not None and stream.state]
        streams = [stream for stream in streams if stream.owner == owner]
        if not streams:
            raise RequestNotFound(request_id=request_id)
        _, info = self._manager.ready(streams[0].model_id)
        if Feature.THINKING not in info.features:
            raise EngineCannot(what="end a thought before the model does", engine=info.engine, param="answer_now")
        states = [stream.state for stream in streams]
        for stream in streams:
            await stream.answer_now()
        return next(state for state in RequestState if state in states)

    def check_answer_now(self, model_id: str) -> None:
        """Raises EngineCannot where a thought cannot be ended before the model does; says nothing of a model that is
        not running."""
        with suppress(ModelNotReady):
            _, info = self._manager.ready(model_id)
            if Feature.THINKING not in info.features:
                raise EngineCannot(what="end a thought before the model does", engine=info.engine, param="answer_now")

    async def count(self, request: ChatRequest) -> PromptCount:
        """What ``open`` would count, for a model that is loaded; nothing is generated and nobody pays.

        Raises InvalidRequest, ModelNotFound, ModelNotReady, ChatTemplateMissing, ChatTemplateUnusable, EngineLost.
        """
        check_chat(request)
        model = self._model(request.model)
        engine, info = self._ready(model)
        thinking = plan_thinking(model.profile, request.thinking, self._thinking)
        request = replace(request, thinking=replace(request.thinking, enabled=thinking.enabled))
        try:
            prompt = await self._prompts.fitting(model, request, engine, info)
        except ContextLengthExceeded as too_long:
            tokens, is_minimum = int(too_long.details["prompt_tokens"]), bool(too_long.details["is_minimum"])
            context_tokens = info.context_tokens
            return PromptCount(
                prompt_tokens=tokens, context_tokens=context_tokens, answer_tokens=0, is_minimum=is_minimum
            )
        return PromptCount(
            prompt_tokens=len(prompt.tokens), context_tokens=info.context_tokens, answer_tokens=prompt.max_tokens
        )

    async def count_text(self, model_id: str, text: str) -> int | None:
        """The tokens of a text alone; None when the model is not loaded, or the text surely fills more than a seat, and
        counting it would hold up everybody."""
        try:
            engine, info = self._manager.ready(model_id)
        except ModelNotReady:
            return None
        limits = {"longest_token_bytes": info.longest_token_bytes, "limit_tokens": info.context_tokens}
        if await asyncio.to_thread(lambda: fewest_tokens([text], **limits)) > info.context_tokens:
            return None
        return len(await engine.tokenize([TextSegment(text, trusted=False)], add_bos=False))

    def served(self, model_id: str) -> ServedModel | None:
        """What is known of a model; None for one that is not loaded."""
        return self._models.get(model_id)

    def profile_of(self, model_id: str) -> ModelProfile | None:
        """How a model wants to be asked; None for one that is not loaded."""
        model = self.served(model_id)
        return None if model is None else model.profile

    async def must_load(self, model_id: str) -> bool:
        """Whether ``open`` would first wait until the model is loaded, which may take minutes."""
        return await self._manager.must_load(model_id)

    def load_progress(self, model_id: str) -> float:
        """How much of a load under way is done, 0..1."""
        return self._manager.progress(model_id) or 0.0

    async def open_choices(self, request: ChatRequest, count: int) -> ChoiceStream:
        """``count`` answers to the same request, 1 to ``MAX_CHOICES``, each with a seat of its own. With a seed they
        have that and the next ones. Raises as ``open``; then none is open."""

        def opening(index: int) -> Callable[[], Awaitable[ChatStream]]:
            if index == 0:
                return lambda: self.open(request)
            seed = request.sampling.seed
            sampling = request.sampling if seed is None else replace(request.sampling, seed=seed + index)
            another = replace(request, request_id=f"{request.request_id}-{index}", sampling=sampling)
            return lambda: self.open(another)

        return await open_all([opening(index) for index in range(count)])

    async def open_completions(self, requests: Sequence[CompletionRequest]) -> ChoiceStream:
        """One text for each request, all or none. Raises as ``open`` does, ContextLengthExceeded above all."""

        def opening(request: CompletionRequest) -> Callable[[], Awaitable[ChatStream]]:
            return lambda: self.open_completion(request)

        return await open_all([opening(request) for request in requests])

    async def aclose(self) -> None:
        """Wait until every closed stream's engine request has ended."""
        while self._background:
            await asyncio.gather(*self._background)

    async def open_completion(self, request: CompletionRequest) -> ChatStream:
        """One text. Raises as ``open`` does."""
        charge = self._gate.begin(request.request_id, request.model)
        if charge.keeps_text:
            charge.asked(str(request.prompt))
        try:
            return await self._open_charged_completion(charged(request, charge), charge)
        except BaseException as error:
            charge.refuse(error)
            raise

    async def _open_charged_completion(self, request: CompletionRequest, charge: Charge) -> ChatStream:
        check_completion(request)
        await self._manager.bring_up(request.model)
        model = self._model(request.model)
        engine, info = self._ready(model)
        check_output(request, info)
        if request.structure is not None:
            await check_structure(self._structures, request.structure)
        policy = request.sampling_policy or self._sampling_policy
        self._refuse_if_full(model, info, request)
        plan = await completion_plan(request, model, engine, info, policy)
        return self._enter(model, plan, info, charge, request.max_tokens is not None)

    def _refuse_if_full(self, model: ServedModel, info: EngineInfo, request: ChatRequest | CompletionRequest) -> None:
        """Before the prompt is counted: who is sent away costs nothing more."""
        admission = self._admissions.of(model.id)
        admission.resize(info.seats)
        admission.check(request.owner, request.priority)

    def _enter(
        self,
        model: ServedModel,
        plan: ChatPlan,
        info: EngineInfo,
        charge: Charge,
        is_asked: bool,
        ended: Callable[[ChatFinished], None] = lambda _finished: None,
    ) -> ChatStream:
        """The last step of every protocol: tokens are set aside, then comes the queue. ``is_asked``: the client named
        the answer's length."""
        admission = self._admissions.of(model.id)
        admission.resize(info.seats)
        plan = admitted(plan, charge, is_asked=is_asked)
        generation = plan.generation
        ticket = admission.enter(
            request_id=generation.request_id,
            owner=generation.owner,
            priority=generation.priority,
            prompt_tokens=len(generation.prompt_tokens),
            most_tokens=generation.max_tokens,
        )
        times = self.times.of(model.id)
        stream = ChatStream(plan, ticket, lambda: self._ready(model)[0], self._background, ended, charge, times)
        self.live.add(stream)
        return stream

    def _model(self, model_id: str) -> ServedModel:
        model = self._models.get(model_id)
        if model is None:
            raise ModelNotFound(model=model_id, served=", ".join(sorted(self._models)) or "none")
        return model

    def _ready(self, model: ServedModel) -> tuple[Engine, EngineInfo]:
        return self._manager.ready(model.id)
