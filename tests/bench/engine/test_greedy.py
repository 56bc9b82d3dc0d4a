"""Greedy answers of SmolLM2 to 200 prompts, with everything that the engine does to be quick and plainly.

Prints how many are identical, and how far apart the two tokens were where the others part (``R1BOX_BENCH_PROMPTS`` asks
for fewer). On a processor llama.cpp adds floating-point numbers in another order for a lone row than for several, and
with other kernels for a prompt in one piece than in chunks.
"""

from __future__ import annotations

import os
import time

import pytest

from appliance.demo import demo_file
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.scheduler import SchedulerLimits
from appliance.engine.llamacpp.tier_blocks import TierLimits
from tests.appliance.engine.llamacpp.plainly import Comparison, alone, compare, together

pytestmark = pytest.mark.bench

PROMPTS = int(os.environ.get("R1BOX_BENCH_PROMPTS", "200"))
MAX_TOKENS = 24
SEATS, CONTEXT = 8, 768
LEVEL = 1.0

_THINGS = ("the sea", "bread", "clocks", "rain", "tea", "mountains", "trains", "bees", "salt", "glass")
_WISHES = (
    "Tell me a story about {}.",
    "Why do people like {}?",
    "Write a poem about {} in four lines.",
    "Explain {} to a child.",
    "List five facts about {}.",
    "What is the history of {}?",
    "Repeat this line five times: {} and the quick brown fox jump over the lazy dog",
    "Write a Python function that counts {}.",
    "Translate into French: I like {}.",
    "Give me ten names for a shop that sells {}.",
    "How would you describe {} to somebody who has never seen it?",
    'Complete the JSON list: [{{"id": 1, "name": "{0}"}}, {{"id": 2, "name": "{0}"}},',
    "Compare {} with the moon.",
    "What can go wrong with {}?",
    "Write a letter to a friend about {}.",
)
_DOCUMENT = "On day {} the keeper of the lighthouse wrote down the weather, {} ships and the names of the gulls. "


def texts() -> list[str]:
    """A quarter of them after one of three documents of about 250 tokens."""
    made: list[str] = []
    documents = ["".join(_DOCUMENT.format(day, day * 3 + n) for day in range(10)) for n in range(3)]
    for number in range(PROMPTS):
        wish = _WISHES[number % len(_WISHES)].format(_THINGS[number // len(_WISHES) % len(_THINGS)])
        begin = f"{documents[number // 4 % 3]}\n" if number % 4 == 3 else ""
        made.append(f"<|im_start|>user\n{begin}{wish} ({number})<|im_end|>\n<|im_start|>assistant\n")
    return made


@pytest.mark.parametrize("flash", [False, True])
def test_greedy_answers(flash: bool) -> None:
    config = WorkerConfig(
        model_path=str(demo_file()),
        seats=SEATS,
        seat_context=CONTEXT,
        threads=os.cpu_count() or 1,
        flash_attention=flash,
    )
    runner = Runner(config, lambda _fraction: None)
    try:
        runner.warm_up()
        prompts = {str(n): runner.tokenize([(text, True)], add_bos=False) for n, text in enumerate(texts())}
        started = time.perf_counter()
        plain = {name: alone(runner, prompt, MAX_TOKENS) for name, prompt in prompts.items()}
        plain_s = time.perf_counter() - started
        limits = SchedulerLimits(SEATS, SEATS, CONTEXT, 512, 128, outputs=runner.outputs, draft=8)
        block = 64 * runner.bytes_per_token
        tiers = TierLimits(int(30 * block), int(400 * block), 64, runner.bytes_per_token)
        started = time.perf_counter()
        made = together(runner, prompts, MAX_TOKENS, limits, tiers, {name: one.tokens for name, one in plain.items()})
        everything_s = time.perf_counter() - started
    finally:
        runner.close()
    found: Comparison = compare(plain, made.answers)
    scheduler = made.scheduler
    speculation = scheduler.speculation
    print(f"flash attention {flash}: {found}; plainly {plain_s:.0f} s, with everything {everything_s:.0f} s")
    for one in found.differences:
        print(f"  prompt {one.name} parts at token {one.place}, {one.gap} apart")
    print(
        f"  {scheduler.slots.shared_tokens} tokens shared, {scheduler.prefix_waits} waits, {scheduler.tiers.hits} hits "
        f"of {scheduler.tiers.hit_tokens} tokens from outside the cache, {speculation.accepted} of "
        f"{speculation.drafted} guesses right"
    )
    assert found.largest_gap < LEVEL
