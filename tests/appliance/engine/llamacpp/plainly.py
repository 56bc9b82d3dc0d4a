"""What a model says with everything that the engine does to be quick, against one plain request after the other.

*Plain* is a whole prompt in one step on an empty cache, then a token in each step: no scheduler, nothing shared or
guessed. *Everything* is all requests at once: prefixes shared and waited for, prompts in chunks of many sizes beside
those who are being answered, guesses of which any number is right, and every ended request thrown out of the cache, so
that what comes after it finds its beginning in the host's memory or on disk.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from collections.abc import Sequence as Run
from dataclasses import dataclass, field
from typing import Any

from appliance.engine.llamacpp.messages import Sampling
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.sampler import Draw
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.speculation import Speculation
from appliance.engine.llamacpp.step import DecodeStatus, Measured, SlotTokens, SlotTrim, StepPlan, TokenChance
from appliance.engine.llamacpp.tier_blocks import TierLimits

GREEDY = Sampling(seed=1, temperature=0.0)
CHUNK_TOKENS = 512


@dataclass
class Answer:
    """An answer's tokens, and the likeliest at each place with their log probabilities."""

    tokens: list[int] = field(default_factory=list)
    chances: list[TokenChance] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """The first place where two answers part: how much likelier the plain one's token was there than the other's, in
    natural logarithms; None when that was not among the eight likeliest."""

    name: str
    place: int
    gap: float | None


@dataclass(frozen=True)
class Comparison:
    """``moved`` is the largest change of a token's log probability at places that both answers reach alike."""

    total: int
    differences: tuple[Difference, ...]
    moved: float

    def __str__(self) -> str:
        gaps = sorted(one.gap if one.gap is not None else float("inf") for one in self.differences)
        parted = f"; the others part where two tokens were at most {gaps[-1]:.3f} apart" if gaps else ""
        same = self.total - len(self.differences)
        return (
            f"{same} of {self.total} answers are identical{parted}; log probabilities moved by {self.moved:.3f} at most"
        )

    @property
    def largest_gap(self) -> float:
        """0 without differences, infinite when one took a token that was not among the likeliest."""
        return max((float("inf") if one.gap is None else one.gap for one in self.differences), default=0.0)


def alone(runner: Runner, prompt: list[int], max_tokens: int) -> Answer:
    """One greedy request, plainly."""
    answer = Answer()
    memory, held, tokens = [SlotTrim(0, 0)], 0, list(prompt)
    while len(answer.tokens) < max_tokens:
        work = SlotTokens("plain", 0, held, tokens, sample=True, sampling=Draw(sampling=GREEDY, logprobs=8))
        result = runner.run(StepPlan(memory=list(memory), work=[work]))
        assert result.status is DecodeStatus.DONE
        memory = []
        ((token, ends),) = result.sampled[0]
        answer.chances += result.chances["plain"]
        if ends:
            break
        held += len(tokens)
        tokens = [token]
        answer.tokens.append(token)
    runner.run(StepPlan(memory=[SlotTrim(0, 0)], ended=["plain"]))
    return answer


class Prophet(Speculation):
    """The engine's own guesses, and for every other request what it is going to say, with a mistake now and then."""

    def __init__(self, longest: int, says: Mapping[str, list[int]]) -> None:
        super().__init__(longest)
        self._says = {name: said for number, (name, said) in enumerate(says.items()) if number % 2}
        self._random = random.Random(5)

    def guesses(self, decoding: Run[Sequence], rooms: Run[int], limit: int) -> list[list[int]]:
        found = super().guesses(decoding, rooms, limit)
        left = limit - sum(map(len, found))
        for index, (sequence, room) in enumerate(zip(decoding, rooms, strict=True)):
            said = self._says.get(sequence.request_id, [])[sequence.generated :]
            guess = said[: self._random.randint(0, max(0, min(room, left, len(said))))]
            if guess and not found[index]:
                if self._random.random() < 0.5:
                    guess[self._random.randrange(len(guess))] = 300
                found[index] = guess
                left -= len(guess)
        return found


@dataclass
class Everything:
    """All answers, and the scheduler that they came from."""

    answers: dict[str, Answer]
    scheduler: Scheduler
    disk: dict[bytes, Any] = field(default_factory=dict)
    chunks: set[int] = field(default_factory=set)
    """Sizes of the chunks that prompts were computed in."""


def together(
    runner: Runner,
    prompts: Mapping[str, list[int]],
    max_tokens: int,
    limits: SchedulerLimits,
    tiers: TierLimits,
    says: Mapping[str, list[int]],
) -> Everything:
    """All requests with everything. Steps take times that change, so that chunks are of many sizes; rows are said to
    cost next to nothing, so that guesses pay."""
    scheduler = Scheduler(limits, tiers=tiers)
    scheduler.speculation = Prophet(limits.draft, says)
    scheduler.begin_with([Measured(1, 0, 0.01), Measured(1, 0, 0.0101, 15)])
    made = Everything({name: Answer() for name in prompts}, scheduler)
    for name, prompt in prompts.items():
        draw = Draw(sampling=GREEDY, logprobs=8)
        assert scheduler.add(Sequence(name, list(prompt), max_tokens, sampling=draw)) is None
    steps = 0
    while scheduler.has_work:
        plan = scheduler.schedule()
        steps += 1
        made.chunks |= {len(entry.tokens) for entry in plan.work[plan.decode_rows :]}
        duration_s = 0.004 * plan.decode_rows + 0.0003 * (plan.token_count - plan.decode_rows) * (1 + steps % 5)
        result = runner.run(plan)
        for name, chances in result.chances.items():
            made.answers[name].chances += chances
        for event in scheduler.update(dataclasses.replace(result, duration_s=duration_s)):
            assert not event.message
            if event.token is not None:
                made.answers[event.request_id].tokens.append(event.token)
        while scheduler.slots.evict_one():
            pass
        _move_blocks(runner, made)
        scheduler.check_integrity()
    runner.run(scheduler.schedule())
    runner.blocks.clear()
    return made


def _move_blocks(runner: Runner, made: Everything) -> None:
    """What the worker's disk does, at once."""
    work = made.scheduler.tiers.take_work()
    index = made.scheduler.tiers.index
    for block in work.write:
        made.disk[block.key] = runner.blocks[block.key]
        index.was_written(block.key, good=True)
    for key in work.read:
        if made.scheduler.block_was_read(key, 0.0001, good=True):
            runner.blocks[key] = made.disk[key]
    for key in work.delete:
        del made.disk[key]
    for key in work.forget:
        del runner.blocks[key]
    if work.write or work.read:
        _move_blocks(runner, made)


def compare(plain: Mapping[str, Answer], other: Mapping[str, Answer]) -> Comparison:
    """Each request's answers against each other, up to the first place where they part."""
    differences: list[Difference] = []
    moved = 0.0
    for name, one in plain.items():
        another = other[name]
        place = next(
            (i for i, (a, b) in enumerate(zip(one.tokens, another.tokens, strict=False)) if a != b),
            min(len(one.tokens), len(another.tokens)),
        )
        for before, after in zip(one.chances[:place], another.chances[:place], strict=True):
            moved = max(moved, abs(before.logprob - after.logprob))
        if one.tokens == another.tokens:
            continue
        chances = dict(one.chances[place].top)
        taken = another.chances[place].token
        gap = one.chances[place].logprob - chances[taken] if taken in chances else None
        differences.append(Difference(name, place, gap))
    return Comparison(len(plain), tuple(differences), moved)
