"""What a model computes before its first user: a prompt, a token, and tokens with guesses behind them."""

from __future__ import annotations

from collections.abc import Callable

from appliance.engine.llamacpp.messages import Sampling
from appliance.engine.llamacpp.runner.errors import LoadError
from appliance.engine.llamacpp.step import (
    DecodeStatus,
    Measured,
    SlotCopy,
    SlotTokens,
    SlotTrim,
    StepPlan,
    StepResult,
)

PROMPT_TOKENS = 64

_ROWS = (2, 4, 8, 16, 32)
"""Tokens of one sequence whose step is measured, to know what guesses cost."""

_LONG_S = 1.0
"""After a step that long no larger one is measured."""


def warm_up(run: Callable[[StepPlan], StepResult], prompt: list[int], room: int) -> tuple[list[Measured], int]:
    """Compute ``prompt`` and a token in slot 0, and up to ``room`` rows of one sequence: how long each took, and how
    many tokens the slot holds at the end. Raises LoadError.

    Weights are paged in and kernels chosen now, not under the first user; and where the build's kernels crash on this
    processor (seen: AMX code built by gcc before 12.4, llama.cpp #20824) the worker dies during its start, which the
    daemon answers with a start without them.
    """
    held = len(prompt)

    def step(keep: int, tokens: list[int], draft: list[int]) -> float:
        greedy = Sampling(seed=0, temperature=0.0)
        entry = SlotTokens("warm-up", 0, keep, tokens, sample=True, sampling=greedy, draft=draft)
        memory: list[SlotTrim | SlotCopy] = [SlotTrim(0, keep)] if keep == 0 or draft else []
        result = run(StepPlan(memory=memory, work=[entry], ended=["warm-up"]))
        if result.status is not DecodeStatus.DONE:
            raise LoadError("warm_up_failed", f"the model loads but does not compute: {result.message}")
        return result.decode_s

    measured: list[Measured] = []
    # Twice: the first time is that of paging in, the second is measured.
    for _ in range(2):
        measured = [Measured(0, held, step(0, prompt, [])), Measured(1, 0, step(held, prompt[:1], []))]
    for rows in _ROWS:
        if rows <= min(room, held) and measured[-1].duration_s < _LONG_S:
            measured.append(Measured(1, 0, step(held, prompt[:1], prompt[1:rows]), rows - 1))
        else:
            break
    return measured, held + 1 + measured[-1].draft_tokens
