"""One request on its way through a server: what is asked for, what comes of it, when it is asked for again. Pure.

A server generates; everything else that the box promises is done here, on the token ids that come back, by the same
watch that the box's own worker uses:

1. Each token goes through ``ThoughtWatch``. Where a thought has to land, the token and what follows it are dropped, the
   landing is written, and the server is asked to go on after it. Its prefix cache makes that cheap.
2. A form binds the answer alone: while a thought may still come nothing is bound; at the answer's first token that
   token is dropped and the server is asked again with the form, after what there is.
3. Tokens are counted here. What the server says of its own counts is compared, never taken over.
"""

from __future__ import annotations

from enum import Enum, auto

from appliance.engine.external.dialect import Call, Chance, Piece
from appliance.engine.external.vocabulary import Vocabulary
from appliance.engine.llamacpp.answer import AnswerWatch, Marks, Part
from appliance.engine.llamacpp.detokenizer import Detokenizer
from appliance.engine.llamacpp.thought import ThoughtRules, ThoughtWatch, Verdict
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    TextSegment,
    ThinkingControl,
    ThinkingEnd,
    TokenDelta,
    TokenLogprob,
)
from appliance.errors import GenerationFailed


class Then(Enum):
    """What follows a piece: more of the same call, another call, or nothing."""

    GO_ON = auto()
    ASK_AGAIN = auto()
    END = auto()


class RequestRun:
    """One request. Ask what ``next_call`` says, give every piece to ``take``, and take the ending from ``close``.

    When the server ends it (``ended``) more may come that tells its counts; END means that nothing more is wanted.
    """

    def __init__(
        self, request: GenerationRequest, vocabulary: Vocabulary, *, seed: int, model: str, with_text: bool = False
    ) -> None:
        """``with_text``: calls say the prompt as text too, for a server that takes no ids."""
        self.ended = False
        self.cached_tokens = 0
        self.prompt_differs: int | None = None
        """What the server counted for the prompt, where that is not what was sent."""
        self._request = request
        self._vocabulary = vocabulary
        self._seed = seed
        self._model = model
        self._with_text = with_text
        self._written: list[int] = []
        """Tokens after the prompt, landings included."""
        self._text = Detokenizer()
        self._most = request.max_tokens
        self._watch: ThoughtWatch | None = None
        self._bound = request.structure is not None
        self._answer = AnswerWatch(None)
        self._calls = 0
        self._counted = 0
        self._reason = FinishReason.ERROR
        self._error: Exception | None = None
        thinking = request.thinking
        if thinking is None:
            if request.answer_tokens is not None:
                self._most = min(self._most, request.answer_tokens)
            return
        self._watch = ThoughtWatch(_rules(thinking, request.answer_tokens), vocabulary.marks)
        if request.structure is not None:
            self._answer = AnswerWatch(
                Marks(
                    opened=thinking.opened,
                    open_tokens=thinking.open_tokens,
                    close_tokens=thinking.close_tokens,
                    breaks=vocabulary.breaks,
                )
            )
            self._bound = self._answer.part is Part.ANSWER

    @property
    def written_tokens(self) -> int:
        """Tokens that were delivered."""
        return self._counted

    def ask(self) -> None:
        """The reader wants the answer now."""
        if self._watch is not None:
            self._watch.ask()

    def next_call(self) -> Call:
        """What to ask the server for now."""
        self._calls += 1
        request = self._request
        tokens = (*request.prompt_tokens, *self._written)
        return Call(
            # A server may refuse two calls of one name while the first is still being ended.
            request_id=f"{request.request_id}-{self._calls}",
            model=self._model,
            tokens=tokens,
            text=self._vocabulary.text(tokens) if self._with_text else "",
            max_tokens=self._most - self._counted,
            sampling=request.sampling,
            seed=self._seed,
            priority=request.priority,
            structure=request.structure if self._bound else None,
            logprobs=request.logprobs,
            sequence_id=request.request_id,
            owner=request.owner,
        )

    def take(self, piece: Piece) -> tuple[list[TokenDelta], Then]:
        """What the piece gives to the reader, and what comes after it. Nothing after the end but counts."""
        self._note_counts(piece)
        if self.ended:
            return [], Then.GO_ON
        if piece.ending is FinishReason.ERROR:
            return [], self._fail(piece.error or "the engine gave no reason")
        if piece.tokens is None:
            return self._take_text(piece)
        given: list[TokenDelta] = []
        for place, token in enumerate(piece.tokens):
            is_last = piece.ending is FinishReason.STOP and place == len(piece.tokens) - 1
            if is_last and self._vocabulary.ends(token):
                break
            if self._counted >= self._most:
                self._end(FinishReason.LENGTH, given)
                return given, Then.END
            chance = piece.chances[place] if place < len(piece.chances) else None
            then = self._take_token(token, chance, given)
            if then is not Then.GO_ON:
                return given, then
        if piece.ending is FinishReason.STOP:
            return given, self._server_stopped(given)
        if piece.ending is FinishReason.LENGTH:
            self._end(FinishReason.LENGTH, given)
        return given, Then.GO_ON

    def close(self, reason: FinishReason, error: Exception | None = None) -> Finished:
        """The one ending: its own, or ``reason`` and ``error`` where it has none yet."""
        if self.ended:
            reason, error = self._reason, self._error
        watch = self._watch
        return Finished(
            reason=reason,
            prompt_tokens=len(self._request.prompt_tokens),
            cached_tokens=min(self.cached_tokens, len(self._request.prompt_tokens)),
            completion_tokens=self._counted,
            error=error,
            thinking_end=None if watch is None or watch.end is None else ThinkingEnd(watch.end.value),
            answer_looped=watch is not None and watch.answer_looped,
        )

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _take_token(self, token: int, chance: Chance | None, given: list[TokenDelta]) -> Then:
        if not self._bound and self._request.structure is not None:
            self._answer.accept(token)
            if self._answer.part is Part.ANSWER:
                return self._bind()
        verdict = Verdict.TAKE if self._watch is None else self._watch.take(token, self._most - self._counted)
        if verdict is Verdict.LAND:
            assert self._watch is not None
            for landing in self._watch.land():
                self._deliver(landing, None, given)
                if not self._bound:
                    self._answer.accept(landing)
            if self._request.structure is not None and self._answer.part is Part.ANSWER:
                self._bound = True
            if self._counted < self._most:
                return Then.ASK_AGAIN
            self._end(FinishReason.LENGTH, given)
            return Then.END
        self._deliver(token, chance, given)
        if verdict is Verdict.TAKE:
            return Then.GO_ON
        self._end(FinishReason.LENGTH, given)
        return Then.END

    def _bind(self) -> Then:
        self._bound = True
        return Then.ASK_AGAIN

    def _server_stopped(self, given: list[TokenDelta]) -> Then:
        """The model ended its text. A bound answer that has not begun is still owed."""
        owed = self._request.structure is not None and not self._bound and self._answer.part is not Part.THOUGHT
        if owed and self._counted < self._most:
            return self._bind()
        self._end(FinishReason.STOP, given)
        return Then.GO_ON

    def _deliver(self, token: int, chance: Chance | None, given: list[TokenDelta]) -> None:
        self._written.append(token)
        self._counted += 1
        text = self._text.add(self._vocabulary.piece(token))
        chances = () if self._request.logprobs is None else (self._logprob(token, chance),)
        if given:
            before = given.pop()
            given.append(TokenDelta(before.text + text, before.count + 1, (*before.logprobs, *chances)))
        else:
            given.append(TokenDelta(text, 1, chances))

    def _logprob(self, token: int, chance: Chance | None) -> TokenLogprob:
        """Of a token that was written for the model it is 0: nothing else could have come."""
        name = self._vocabulary.name
        if chance is None or chance.token != token:
            return TokenLogprob(name(token), 0.0)
        wanted = self._request.logprobs or 0
        return TokenLogprob(
            name(token), chance.logprob, tuple((name(one), value) for one, value in chance.top[:wanted])
        )

    def _take_text(self, piece: Piece) -> tuple[list[TokenDelta], Then]:
        given: list[TokenDelta] = []
        if piece.text:
            count = max(1, len(self._vocabulary.encode([TextSegment(piece.text)])))
            self._counted += count
            given.append(TokenDelta(piece.text, count))
        if piece.ending is not None:
            self._end(piece.ending, given)
        return given, Then.GO_ON

    # -- ends -------------------------------------------------------------------------------------------------------

    def _end(self, reason: FinishReason, given: list[TokenDelta]) -> None:
        rest = self._text.finish()
        if rest:
            given.append(TokenDelta(rest, 0))
        self.ended, self._reason = True, reason

    def _fail(self, cause: str) -> Then:
        self.ended, self._error = True, GenerationFailed(cause=cause)
        return Then.END

    def _note_counts(self, piece: Piece) -> None:
        if piece.cached_tokens is not None and self._calls == 1:
            self.cached_tokens = max(0, piece.cached_tokens)
        sent = len(self._request.prompt_tokens)
        if piece.prompt_tokens is not None and self._calls == 1 and piece.prompt_tokens != sent:
            self.prompt_differs = piece.prompt_tokens


def _rules(thinking: ThinkingControl, answer_tokens: int | None) -> ThoughtRules:
    return ThoughtRules(
        opened=thinking.opened,
        open_tokens=thinking.open_tokens,
        close_tokens=thinking.close_tokens,
        landing_tokens=thinking.landing_tokens,
        budget_tokens=thinking.budget_tokens,
        breaks_loops=thinking.breaks_loops,
        answer_tokens=answer_tokens,
    )
