"""No load is slower with guesses than without: many streams or one, guesses that are right or wrong, steps that cost a
card's time or a processor's. Time is what the steps are said to take."""

from __future__ import annotations

import random

import pytest

from appliance.engine.llamacpp.scheduler import SchedulerLimits
from appliance.engine.llamacpp.step import Measured
from tests.appliance.engine.llamacpp.test_speculation import CARD, PATTERN, PROCESSOR, Copier

TOKENS = 300
SMOLLM2 = [Measured(1, 0, 0.0086), *(Measured(1, 0, 0.0086 + 0.0046 * n, n) for n in (1, 3, 7, 15))]
"""Two cores, SmolLM2-135M: 8.6 ms, and 4.6 ms for each row more."""

COSTS = {"card": CARD, "smollm2": SMOLLM2, "processor": PROCESSOR}


def seconds(costs: list[Measured], streams: int, right: float, *, draft: int) -> tuple[float, int]:
    """What so many streams take whose next token is the repeated one so often, and how many tokens were guessed."""
    limits = SchedulerLimits(8, 16, 4096, 512, 128, outputs=17, draft=draft)
    copier = Copier(costs, limits)
    chances = [random.Random(position).random() for position in range(4096)]

    def said(position: int) -> int:
        return PATTERN[position % len(PATTERN)] if chances[position] < right else 20_000 + position

    copier.said = said
    for number in range(streams):
        copier.add(f"s{number}", max_tokens=TOKENS)
    while copier.scheduler.has_work:
        copier.step()
    return copier.seconds, copier.scheduler.speculation.drafted


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("streams", [1, 4, 8])
def test_guesses_never_cost_more_than_they_give(costs: str, streams: int) -> None:
    told = []
    for right in (0.0, 0.3, 0.6, 0.9, 1.0):
        plain, none = seconds(COSTS[costs], streams, right, draft=0)
        guessed, drafted = seconds(COSTS[costs], streams, right, draft=24)
        assert none == 0
        told.append((right, round(plain / guessed, 2), drafted))
        # What is learned costs something first: a few guesses that are wrong.
        assert guessed <= 1.03 * plain, told
    print(f"{costs}, {streams} streams: {told}")
    if costs == "card":
        assert told[-1][1] > 1.5
    if costs == "processor":
        # Where each row costs as much as the first nothing is ever guessed.
        assert all(drafted == 0 for _, _, drafted in told)
