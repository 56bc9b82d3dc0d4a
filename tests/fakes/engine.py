"""An engine without a model: it says what a test scripts, as slowly as the test wants, and dies when told to.

Time is never slept: ``hold_after`` stops every sequence after so many tokens until ``let_go`` or ``resume``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence

from appliance.engine.base import (
    Engine,
    EngineInfo,
    EngineState,
    EngineStats,
    EngineStatus,
    Feature,
    ProgressCallback,
)
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    TextSegment,
    ThinkingEnd,
    TokenDelta,
    TokenLogprob,
)
from appliance.errors import EngineLost, ModelNotReady

TOKEN_BYTES = 4
BOS_TOKEN = 0

FAKE_INFO = EngineInfo(
    engine="fake",
    build="1",
    backends=("CPU",),
    seats=2,
    context_tokens=512,
    vocabulary_size=2**40,
    longest_token_bytes=TOKEN_BYTES,
    features=frozenset({Feature.STRUCTURE, Feature.LOGPROBS, Feature.THINKING}),
)

THINK_CLOSE = "</think>"

Script = Callable[[str], Sequence[str | TokenDelta]]
"""From the prompt's text to what the model writes, token by token."""


class FakeEngine:
    """Implements ``appliance.engine.base.Engine``.

    A token is ``TOKEN_BYTES`` bytes of a segment's UTF-8 (the last one of a segment may be shorter), and can be turned
    back into text, so a script sees the prompt. After ``die`` the object is of no more use, like a real engine.
    ``structure`` is the script's matter.

    A request with ``thinking`` whose prompt opens the thought: at its budget, or after ``answer_now``, the landing
    comes in place of what is left of the scripted thought, and the script goes on after its ``</think>``.
    """

    def __init__(
        self,
        reply: Sequence[str | TokenDelta] | Script = ("Hello", "."),
        *,
        info: EngineInfo = FAKE_INFO,
        hold_after: int | None = None,
        cached_tokens: int = 0,
        start_error: Exception | None = None,
    ) -> None:
        self.info = info
        self.cached_tokens = cached_tokens
        self.started = False
        self.stopped = False
        self.requests: list[GenerationRequest] = []
        self.prompts: list[str] = []
        self.tokenized: list[tuple[tuple[TextSegment, ...], bool]] = []
        self.aborted: list[str] = []
        self.asked: list[str] = []
        self.peak_active = 0
        self._reply = reply
        self._hold_after = hold_after
        self._start_error = start_error
        self._lost: str | None = None
        self._endings: dict[str, Finished | None] = {}
        self._changed = asyncio.Condition()
        self._generated = 0

    # -- the Engine protocol ----------------------------------------------------------------------------------------

    async def start(self, timeout_s: float, on_progress: ProgressCallback | None = None) -> EngineInfo:
        if self._start_error is not None:
            raise self._start_error
        for fraction in (0.0, 0.5, 1.0):
            if on_progress is not None:
                on_progress(fraction)
        self.started = True
        return self.info

    async def tokenize(self, segments: Sequence[TextSegment], *, add_bos: bool) -> list[int]:
        if self._lost is not None:
            raise EngineLost
        self.tokenized.append((tuple(segments), add_bos))
        tokens = [BOS_TOKEN] if add_bos else []
        for segment in segments:
            tokens += tokens_of(segment.text)
        return tokens

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self.requests.append(request)
        prompt = text_of(request.prompt_tokens)
        self.prompts.append(prompt)
        count = 0
        reason = FinishReason.STOP
        error: Exception | None = EngineLost() if self._lost is not None else None
        thought = _FakeThought(request)
        if error is None:
            self._endings[request.request_id] = None
            self.peak_active = max(self.peak_active, len(self._endings))
            await self._notify()
            try:
                for item in self._reply(prompt) if callable(self._reply) else self._reply:
                    delta = item if isinstance(item, TokenDelta) else TokenDelta(item)
                    ending = await self._may_go_on(request.request_id, count)
                    if ending is not None:
                        reason, error = ending.reason, ending.error
                        break
                    if count + delta.count > request.max_tokens:
                        reason = FinishReason.LENGTH
                        break
                    for said in thought.shown(delta, asked=request.request_id in self.asked):
                        count += said.count
                        self._generated += said.count
                        yield with_logprobs(said, request.logprobs)
            finally:
                self._endings.pop(request.request_id, None)
                await self._notify()
        if error is not None:
            yield Finished(reason=FinishReason.ERROR, error=error)
            return
        yield Finished(
            reason=reason,
            prompt_tokens=len(request.prompt_tokens),
            cached_tokens=self.cached_tokens,
            completion_tokens=count,
            thinking_end=thought.end,
        )

    async def answer_now(self, request_id: str) -> None:
        self.asked.append(request_id)
        await self._notify()

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)
        if request_id in self._endings:
            self._endings[request_id] = Finished(reason=FinishReason.ABORTED)
        await self._notify()

    async def wait_lost(self) -> str:
        async with self._changed:
            await self._changed.wait_for(lambda: self._lost is not None)
        assert self._lost is not None
        return self._lost

    async def drain(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: not self._endings)
        except TimeoutError:
            return

    async def stop(self, timeout_s: float) -> None:
        self.stopped = True
        for request_id in self._endings:
            self._endings[request_id] = Finished(reason=FinishReason.ABORTED)
        await self._notify()

    def stats(self) -> EngineStats:
        return EngineStats(active=len(self._endings), generated_tokens=self._generated)

    # -- for the test -----------------------------------------------------------------------------------------------

    @property
    def active(self) -> frozenset[str]:
        """Ids of the sequences that are being generated."""
        return frozenset(self._endings)

    async def die(self, cause: str = "killed by signal 9") -> None:
        """End as a killed worker does: every sequence ends with EngineLost, ``wait_lost`` returns."""
        self._lost = cause
        for request_id in self._endings:
            self._endings[request_id] = Finished(reason=FinishReason.ERROR, error=EngineLost())
        await self._notify()

    async def let_go(self, tokens: int = 1) -> None:
        """Move the holding point ``tokens`` further."""
        assert self._hold_after is not None
        self._hold_after += tokens
        await self._notify()

    async def resume(self) -> None:
        """Hold no sequence any more."""
        self._hold_after = None
        await self._notify()

    async def wait_active(self, count: int) -> None:
        """Return when exactly ``count`` sequences are being generated."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._endings) == count)

    async def _may_go_on(self, request_id: str, count: int) -> Finished | None:
        """Wait at the holding point. Returns the sequence's ending when it has one."""
        await asyncio.sleep(0)  # a real engine lets others run between tokens
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    self._endings.get(request_id) is not None or self._hold_after is None or count < self._hold_after
                )
            )
        return self._endings.get(request_id)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class _FakeThought:
    """The thought of one request: what is shown of the script, and how it ended."""

    def __init__(self, request: GenerationRequest) -> None:
        self._control = request.thinking
        self._open = self._control is not None and self._control.opened
        self._text = ""
        self._tokens = 0
        self._landed = False
        self.end: ThinkingEnd | None = None

    def shown(self, delta: TokenDelta, *, asked: bool) -> list[TokenDelta]:
        """What comes of the script's next piece."""
        control = self._control
        if control is None or not self._open:
            return [delta]
        self._text += delta.text
        closed = THINK_CLOSE in self._text
        over = control.budget_tokens is not None and self._tokens + delta.count > control.budget_tokens
        shown: list[TokenDelta] = [] if self._landed else [delta]
        if not closed and not self._landed and (asked or over):
            self._landed = True
            self.end = ThinkingEnd.ASKED if asked else ThinkingEnd.BUDGET
            shown = [TokenDelta(text_of(control.landing_tokens), len(control.landing_tokens))]
        if closed:
            self._open = False
            self.end = self.end or ThinkingEnd.NATURAL
        self._tokens += delta.count
        return shown


class FakeEngineSource:
    """What chat needs of ``ModelHost``: the engine of a model, or none (``engine`` is ``None``). It loads nothing."""

    def __init__(self, engine: Engine | None, *, info: EngineInfo = FAKE_INFO, model_id: str | None = None) -> None:
        self.engine = engine
        self.info = info
        self.model_id = model_id

    def status(self, model_id: str | None = None) -> EngineStatus:
        state = EngineState.FAILED if self.engine is None else EngineState.READY
        return EngineStatus(state=state, model_id=self.model_id, info=None if self.engine is None else self.info)

    def ready(self, model_id: str | None = None) -> tuple[Engine, EngineInfo]:
        if self.engine is None:
            raise ModelNotReady(reason="the fake is away.")
        if None not in (model_id, self.model_id) and model_id != self.model_id:
            raise ModelNotReady(reason=f"'{model_id}' is not loaded.")
        return self.engine, self.info

    async def must_load(self, model_id: str) -> bool:
        return False

    def progress(self, model_id: str) -> float | None:
        return None

    async def bring_up(self, model_id: str) -> None:
        return


def with_logprobs(delta: TokenDelta, top: int | None) -> TokenDelta:
    """The delta with log probabilities for its tokens, if they are asked for: the last of them has all the text."""
    if top is None or delta.logprobs:
        return delta
    texts = [b""] * (delta.count - 1) + [delta.text.encode()]
    others = tuple((f"other {rank}".encode(), -2.0 - rank) for rank in range(top))
    logprobs = (TokenLogprob(text, -0.25, ((text, -0.25), *others)[:top]) for text in texts)
    return dataclasses.replace(delta, logprobs=tuple(logprobs))


def tokens_of(text: str) -> list[int]:
    """The fake's tokens of one segment; a leading 1 byte keeps a chunk's zero bytes."""
    data = text.encode("utf-8")
    return [
        int.from_bytes(b"\x01" + data[start : start + TOKEN_BYTES], "big") for start in range(0, len(data), TOKEN_BYTES)
    ]


def text_of(tokens: Sequence[int]) -> str:
    """The text of the fake's tokens, without BOS."""
    chunks = (token.to_bytes(TOKEN_BYTES + 1, "big").lstrip(b"\x00")[1:] for token in tokens if token != BOS_TOKEN)
    return b"".join(chunks).decode("utf-8")
