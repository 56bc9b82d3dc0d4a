"""From a request on the wire to the sequence that the scheduler runs."""

from __future__ import annotations

from typing import Protocol

import msgspec

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.answer import Marks
from appliance.engine.llamacpp.sampler import REPEAT_TOKENS, Constraint, Draw
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.thought import ThoughtRules, ThoughtWatch


class Vocabulary(Protocol):
    """What is to be known of the model's tokens."""

    @property
    def marks(self) -> bytes:
        """``thought.word_marks`` of all tokens."""
        ...

    @property
    def breaks(self) -> frozenset[int]:
        """Those of line breaks alone."""
        ...


def sequence_for(message: wire.Generate, constraint: Constraint | None, vocabulary: Vocabulary) -> Sequence:
    """The sequence of a request, with its sampler's wishes and the watch over its thought."""
    thinking, max_tokens = message.thinking, message.max_tokens
    watch = marks = None
    if thinking is not None:
        rules = ThoughtRules(**msgspec.structs.asdict(thinking), answer_tokens=message.answer_tokens)
        watch = ThoughtWatch(rules, vocabulary.marks)
        marks = Marks(
            opened=thinking.opened,
            open_tokens=thinking.open_tokens,
            close_tokens=thinking.close_tokens,
            breaks=vocabulary.breaks,
        )
    elif message.answer_tokens is not None:
        max_tokens = min(max_tokens, message.answer_tokens)
    draw = Draw(
        sampling=message.sampling,
        logprobs=message.logprobs,
        marks=marks,
        constraint=constraint,
        recent=tuple(message.prompt[-REPEAT_TOKENS:]),
    )
    return Sequence(
        message.request_id,
        message.prompt,
        max_tokens,
        sampling=draw,
        owner=message.owner,
        priority=message.priority,
        watch=watch,
        repeatable=message.repeatable,
        keeps_answer=message.keeps_answer,
    )
