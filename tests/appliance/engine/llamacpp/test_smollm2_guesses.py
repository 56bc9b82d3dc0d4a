"""Greedy answers of SmolLM2 with and without guesses: the same, or apart only where two tokens were all but level.

Rows that are computed together may be added up in another order than a lone one. On this build that happens from 512
cells on, where llama.cpp's flash attention splits a lone row among threads; single logits then moved by up to 0.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Run
from dataclasses import dataclass, field

import pytest

from appliance.demo import demo_file
from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.sampler import Draw
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.speculation import Speculation
from appliance.engine.llamacpp.step import Measured, TokenChance

LEVEL = 1.0
"""Logarithms of the probabilities of two tokens that may change places are no further apart."""

CONTEXT = 1024
MAX_TOKENS = 28
PROMPTS = (
    "Repeat this line five times: the quick brown fox jumps over the lazy dog",
    "Why is the sky blue?",
    "Write the numbers 1 to 20, one per line.",
    f"Text: {'The keeper of the lighthouse wrote down the weather and the ships. ' * 40}\nRepeat the text.",
)
"""The last one has more than 512 cells."""


@dataclass
class Answer:
    """An answer's tokens, and what was likeliest at each place."""

    tokens: list[int] = field(default_factory=list)
    chances: list[TokenChance] = field(default_factory=list)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    config = WorkerConfig(model_path=str(demo_file()), seats=1, seat_context=CONTEXT, threads=1, cache_slots=15)
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


class Prophet(Speculation):
    """Guesses what was said the last time, with a mistake at every seventh place."""

    def __init__(self, said: list[int]) -> None:
        super().__init__(longest=1)
        self._said = [token if place % 7 != 6 else 100 for place, token in enumerate(said)]

    def guesses(self, decoding: Run[Sequence], rooms: Run[int], limit: int) -> list[list[int]]:
        (sequence,), (room,) = decoding, rooms
        start = sequence.generated
        return [self._said[start : start + min(room, limit, 1 + start % 9)]]


def say(runner: Runner, text: str, guess: list[int] | None = None) -> tuple[Answer, Speculation]:
    """One greedy answer; ``guess`` is guessed ahead, None for what the engine guesses itself, nothing for an empty one.
    Rows are said to cost nothing."""
    limits = SchedulerLimits(1, runner.slots, CONTEXT, 512, 128, outputs=runner.outputs, draft=15)
    scheduler = Scheduler(limits)
    if guess is not None:
        scheduler.speculation = Prophet(guess)
    scheduler.begin_with([Measured(1, 0, 0.01), Measured(1, 0, 0.0101, 15)])
    prompt = runner.tokenize([(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", True)], add_bos=False)
    draw = Draw(sampling=Sampling(seed=1, temperature=0.0), logprobs=2)
    scheduler.add(Sequence("one", prompt, MAX_TOKENS, sampling=draw))
    answer = Answer()
    while scheduler.has_work:
        result = runner.run(scheduler.schedule())
        answer.chances += result.chances.get("one", [])
        answer.tokens += [event.token for event in scheduler.update(result) if event.token is not None]
    scheduler.slots.clear(scheduler.slots.slots[0])
    runner.run(scheduler.schedule())
    return answer, scheduler.speculation


@pytest.mark.parametrize("text", PROMPTS)
def test_guesses_change_a_greedy_answer_at_most_where_two_tokens_are_level(runner: Runner, text: str) -> None:
    plain, unguessed = say(runner, text, [])
    assert unguessed.drafted == 0
    for guess in (plain.tokens, None):
        guessed, speculation = say(runner, text, guess)
        assert guess is None or speculation.drafted > speculation.accepted > 4
        for place, (one, other) in enumerate(zip(plain.tokens, guessed.tokens, strict=False)):
            if one != other:
                chances = dict(plain.chances[place].top)
                assert other in chances, "a token that was not even the second likeliest"
                assert chances[one] - chances[other] < LEVEL
                break
            assert abs(plain.chances[place].logprob - guessed.chances[place].logprob) < LEVEL
        else:
            assert plain.tokens == guessed.tokens
