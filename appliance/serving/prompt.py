"""From a conversation to the tokens of its prompt, counted against the seat; trimmed by whole turns when asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from appliance.engine.base import Engine, EngineInfo, Feature
from appliance.errors import ContextLengthExceeded
from appliance.serving.context import answer_tokens, refuse_if_surely_too_long, room_wanted
from appliance.serving.errors import ChatTemplateMissing
from appliance.serving.history import turns_to_drop, without_oldest
from appliance.serving.profile import open_thought
from appliance.serving.template import DEFAULT_STYLE, ChatTemplate, NotAtOnce, RenderedPrompt
from appliance.serving.thinking import close_thought
from appliance.serving.tools.format import format_of, markers
from appliance.serving.tools.plan import NO_TOOLS, ToolPlan, plan_tools, wants_grammar
from appliance.serving.tools.strict import MarkIds, MarkTokens
from appliance.serving.tools.support import ToolSupport, support_of
from appliance.serving.turns import prepared_turns
from appliance.serving.types import ChatMessage, ChatRequest, ServedModel, Trimmed


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPrompt:
    """A prompt that fits. ``changes`` as in ``serving.profile``; ``max_tokens`` is what the answer may take."""

    tokens: tuple[int, ...]
    max_tokens: int
    opens_reasoning: bool
    tools: ToolPlan = NO_TOOLS
    changes: tuple[str, ...] = ()
    trimmed: Trimmed | None = None


AT_ONCE_CHARS = 16_384
"""Conversations up to this size are rendered in the event loop. A thread costs more than the rendering itself, and on a
busy machine waits for Python's lock."""


@dataclass(slots=True)
class _Template:
    """A model's template, compiled and tried. ``is_quick`` until one rendering has shown that it is not."""

    compiled: ChatTemplate
    tools: ToolSupport
    is_quick: bool = True


@dataclass(frozen=True, slots=True)
class _Rendering:
    """One prompt to make. ``marks`` as in ``plan_tools``."""

    model: ServedModel
    request: ChatRequest
    messages: Sequence[ChatMessage]
    info: EngineInfo
    can_trim: bool
    without_turns: int
    marks: MarkIds | None

    @property
    def chars(self) -> int:
        """How much there is to render, in characters, some for each value."""
        messages, tools = self.messages, self.request.tools
        texts = sum(len(message.content) + len(message.reasoning or "") for message in messages)
        calls = sum(len(call.name) + len(call.arguments) for message in messages for call in message.tool_calls or ())
        described = sum(len(tool.description or "") + len(tool.parameters or "") for tool in tools)
        return texts + calls + described + 64 * (len(messages) + len(tools))


class PromptMaker:
    """Renders and counts prompts. Keeps one compiled template per model."""

    def __init__(self) -> None:
        self._templates: dict[str, _Template] = {}
        self._marks = MarkTokens()

    async def fitting(
        self, model: ServedModel, request: ChatRequest, engine: Engine, info: EngineInfo
    ) -> CountedPrompt:
        """The prompt of the whole conversation, or, if the request allows it, without as many of its oldest turns as
        it takes to leave ``room_wanted`` for the answer.

        Raises ContextLengthExceeded, with the numbers of the whole conversation, or of what trimming cannot drop;
        also ChatTemplateMissing, ChatTemplateUnusable, InvalidRequest, EngineLost.
        """

        async def count(turns: int) -> CountedPrompt:
            return await self._count(model, request, engine, info, without_turns=turns)

        if not request.trim_turns:
            return await count(0)
        try:
            whole: CountedPrompt | ContextLengthExceeded = await count(0)
        except ContextLengthExceeded as too_long:
            whole = too_long
        room = room_wanted(request.max_tokens, context_tokens=info.context_tokens)
        most = turns_to_drop(request.messages)
        if isinstance(whole, CountedPrompt) and (most == 0 or len(whole.tokens) + room <= info.context_tokens):
            return whole
        if isinstance(whole, ContextLengthExceeded) and most == 0:
            raise whole
        turns, prompt = await _fewest_turns(count, most, info.context_tokens - room)
        return replace(prompt, trimmed=_trimmed(whole, prompt, turns))

    async def _count(
        self, model: ServedModel, request: ChatRequest, engine: Engine, info: EngineInfo, *, without_turns: int
    ) -> CountedPrompt:
        messages = without_oldest(request.messages, without_turns) if without_turns else request.messages
        can_trim = not request.trim_turns and turns_to_drop(request.messages) > 0
        marks: MarkIds | None = None
        if wants_grammar(request) and Feature.TOKEN_GRAMMAR in info.features:
            marks = await self._marks.of(engine)
        work = _Rendering(model, request, messages, info, can_trim, without_turns, marks)
        prompt, plan, changes = await self._prompted(work)
        tokens = await engine.tokenize(prompt.segments, add_bos=prompt.add_bos)
        max_tokens = answer_tokens(
            prompt_tokens=len(tokens),
            max_tokens=request.max_tokens,
            profile_tokens=model.profile.answer_tokens,
            context_tokens=info.context_tokens,
            can_trim=can_trim,
            without_turns=without_turns,
        )
        return CountedPrompt(
            tokens=tuple(tokens),
            max_tokens=max_tokens,
            opens_reasoning=prompt.opens_reasoning,
            tools=plan,
            changes=changes,
        )

    async def _prompted(self, work: _Rendering) -> tuple[RenderedPrompt, ToolPlan, tuple[str, ...]]:
        template = self._templates.get(work.model.id)
        known = template is not None and template.compiled.source == work.model.chat_template
        if template is not None and known and template.is_quick and work.chars <= AT_ONCE_CHARS:
            try:
                return self._prompt(work, at_once=True)
            except NotAtOnce:
                template.is_quick = False
        return await asyncio.to_thread(self._prompt, work)

    def _prompt(self, work: _Rendering, *, at_once: bool = False) -> tuple[RenderedPrompt, ToolPlan, tuple[str, ...]]:
        """Runs in a worker thread unless ``at_once``: a template is the model file's code, and a prompt may have
        megabytes. Raises NotAtOnce then."""
        model, request, info = work.model, work.request, work.info
        template = self._template(model)
        compiled, fence = template.compiled, template.compiled.fence()
        plan = plan_tools(request, template.tools, work.marks)
        turns = prepared_turns(model, request, work.messages, template.tools, plan, fence)

        def refuse(texts: list[str]) -> None:
            refuse_if_surely_too_long(
                texts,
                max_tokens=request.max_tokens,
                context_tokens=info.context_tokens,
                longest_token_bytes=info.longest_token_bytes,
                can_trim=work.can_trim,
                without_turns=work.without_turns,
            )

        size = sum(len(message.content) for message in turns.messages)
        if size >= info.context_tokens * info.longest_token_bytes and not at_once:
            # Too long unless the template leaves most of it out. Only rendering says so for sure, and without the
            # search for forged control tokens that takes milliseconds.
            refuse([compiled.render_unfenced(turns.messages, fence)])
        prompt = compiled.render(
            turns.messages,
            tools=plan.offered if template.tools.writes_tools else (),
            style=template.tools.style or DEFAULT_STYLE,
            fence=fence,
            continues=turns.continues,
            thinking=request.thinking.enabled,
            at_once=at_once,
        )
        opened: tuple[str, ...] = ()
        if turns.in_thought is not None:
            prompt = replace(prompt, opens_reasoning=turns.in_thought)
        elif not turns.continues:
            prompt, opened = open_thought(model.profile, prompt)
            if request.thinking.enabled is False and model.profile.splits_reasoning:
                prompt, opened = close_thought(model.profile, prompt)
        refuse([segment.text for segment in prompt.segments])
        return prompt, plan, turns.changes + opened

    def _template(self, model: ServedModel) -> _Template:
        if not model.chat_template:
            raise ChatTemplateMissing(model=model.id)
        template = self._templates.get(model.id)
        if template is None or template.compiled.source != model.chat_template:
            tool_format = format_of(model.chat_template, model.control_tokens)
            compiled = ChatTemplate(
                model.chat_template,
                control_tokens=model.control_tokens | markers(tool_format),
                bos_token=model.bos_token,
                eos_token=model.eos_token,
            )
            template = _Template(compiled, support_of(compiled, model.control_tokens))
            self._templates[model.id] = template
        return template


async def _fewest_turns(
    count: Callable[[int], Awaitable[CountedPrompt]], most: int, most_tokens: int
) -> tuple[int, CountedPrompt]:
    """The smallest number of dropped turns, 1 to ``most``, that leaves at most ``most_tokens``, and its prompt.

    Where none does, all of them are dropped, which has to do if it fits with less room. By halves: a client may send
    thousands of turns, and each try renders and counts. Raises ContextLengthExceeded when nothing fits.
    """
    low, high = 1, most
    found: tuple[int, CountedPrompt] | None = None
    while low < high or found is None:
        turns = (low + high) // 2 if low < high else high
        try:
            prompt = await count(turns)
        except ContextLengthExceeded:
            if turns == most:
                raise
            low = turns + 1
            continue
        if len(prompt.tokens) <= most_tokens or turns == most:
            found, high = (turns, prompt), turns
        else:
            low = turns + 1
    return found


def _trimmed(whole: CountedPrompt | ContextLengthExceeded, prompt: CountedPrompt, turns: int) -> Trimmed:
    if isinstance(whole, CountedPrompt):
        return Trimmed(turns, len(whole.tokens) - len(prompt.tokens))
    before = int(whole.details["prompt_tokens"])
    return Trimmed(turns, max(before - len(prompt.tokens), 0), tokens_is_minimum=bool(whole.details["is_minimum"]))
