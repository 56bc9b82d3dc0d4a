"""The real llama.cpp with the tiny R1: whatever is shared, waited for and cut into chunks, the texts stay the same."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from collections.abc import Sequence as Run
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.speculation import Speculation
from appliance.engine.llamacpp.step import SlotCopy
from appliance.engine.llamacpp.tier_blocks import TierLimits

TINY = Path(__file__).parents[3] / "fixtures" / "tiny_r1"
GOLDENS: list[dict[str, Any]] = json.loads((TINY / "prompts.json").read_text(encoding="utf-8"))["prompts"]
GREEDY = Sampling(seed=1, temperature=0.0)
SEATS, CONTEXT = 6, 1536
LOOP_TOKENS = 200
"""What is compared of an answer that never ends."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    config = WorkerConfig(
        model_path=str(TINY / "gguf" / "Tiny-R1-Q8_0.gguf"), seats=SEATS, seat_context=CONTEXT, threads=1
    )
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


@dataclass
class Outcome:
    """Texts by name, the scheduler they came from, and how many prompt and answer tokens were computed for them."""

    texts: dict[str, str]
    scheduler: Scheduler
    computed: int = 0
    copies: int = 0


class Prophet(Speculation):
    """Guesses what will be said, with a mistake somewhere: so guesses of all lengths are right in part."""

    def __init__(self, says: dict[str, list[int]]) -> None:
        super().__init__(longest=1)
        self._says = says
        self._random = random.Random(5)

    def guesses(self, decoding: Run[Sequence], rooms: Run[int], limit: int) -> list[list[int]]:
        result = []
        for sequence, room in zip(decoding, rooms, strict=True):
            said = self._says.get(sequence.request_id, [])[sequence.generated :]
            guess = said[: self._random.randint(0, max(0, min(room, limit, len(said))))]
            if guess and self._random.random() < 0.6:
                guess[self._random.randrange(len(guess))] = self._random.randrange(300, 1500)
            result.append(guess)
            limit -= len(guess)
        return result


def serve(
    runner: Runner,
    prompts: dict[str, list[int]],
    max_tokens: int,
    *,
    shares: bool = True,
    tiers: TierLimits | None = None,
    says: dict[str, list[int]] | None = None,
    draft: int = 0,
) -> Outcome:
    """All prompts at once, on empty slots. Steps take times that change, so that chunks are of many sizes.

    With ``tiers`` an ended request loses its place in the cache in the next step. ``says`` is guessed ahead, with
    mistakes; ``draft`` is how much the engine guesses by itself.
    """
    slots = SEATS if tiers else runner.slots
    limits = SchedulerLimits(SEATS, slots, CONTEXT, 512, chunk_beside_decode=48, outputs=runner.outputs, draft=draft)
    scheduler = Scheduler(limits, shares=shares, tiers=tiers)
    if says is not None:
        scheduler.speculation = Prophet(says)
    for name, prompt in prompts.items():
        assert scheduler.add(Sequence(name, prompt, max_tokens, sampling=GREEDY)) is None
    pieces: dict[str, bytes] = dict.fromkeys(prompts, b"")
    outcome = Outcome({}, scheduler)
    steps = 0
    while scheduler.has_work:
        plan = scheduler.schedule()
        steps += 1
        duration_s = 0.004 * plan.decode_rows + 0.0003 * (plan.token_count - plan.decode_rows) * (1 + steps % 5)
        result = runner.run(plan)
        outcome.computed += plan.token_count
        outcome.copies += sum(isinstance(change, SlotCopy) for change in plan.memory)
        for event in scheduler.update(dataclasses.replace(result, duration_s=duration_s)):
            assert not event.message
            if event.token is not None:
                pieces[event.request_id] += runner.piece(event.token)
        for key in scheduler.tiers.take_work().forget:
            del runner.blocks[key]
        while tiers and scheduler.slots.evict_one():
            pass
        scheduler.check_integrity()
    runner.run(scheduler.schedule())
    outcome.texts = {name: text.decode() for name, text in pieces.items()}
    return outcome


def render(golden: dict[str, Any]) -> str:
    environment = ImmutableSandboxedEnvironment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((TINY / "chat_template.jinja").read_text(encoding="utf-8").removesuffix("\n"))
    text: str = template.render(
        messages=golden["messages"],
        tools=golden.get("tools"),
        bos_token="<｜begin▁of▁sentence｜>",
        eos_token="<｜end▁of▁sentence｜>",
        add_generation_prompt=True,
    )
    return text


def tokens(runner: Runner, golden: dict[str, Any]) -> list[int]:
    prompt = runner.tokenize([(render(golden), True)], add_bos=False)
    assert len(prompt) == golden["prompt_tokens"]
    return prompt + runner.tokenize([(golden.get("prefill", ""), True)], add_bos=False)


def test_all_goldens_together_twice(runner: Runner) -> None:
    """The second of each pair finds what the first left or is computing."""
    ending = [golden for golden in GOLDENS if golden["completion_tokens"] is not None]
    prompts = {f"{golden['id']}/{turn}": tokens(runner, golden) for golden in ending for turn in (1, 2)}
    outcome = serve(runner, prompts, CONTEXT)
    expected = {f"{golden['id']}/{turn}": golden["text"] for golden in ending for turn in (1, 2)}
    assert outcome.texts == expected
    assert outcome.copies > 0


def test_all_goldens_say_the_same_when_their_chats_come_back_from_the_hosts_memory(runner: Runner) -> None:
    """Twice, each of the second half finding what the first left outside of the cache, in pieces of 16 tokens."""
    ending = [golden for golden in GOLDENS if golden["completion_tokens"] is not None]
    prompts = {f"{golden['id']}/{turn}": tokens(runner, golden) for turn in (1, 2) for golden in ending}
    tiers = TierLimits(memory_bytes=2**30, block_tokens=16, bytes_per_token=runner.bytes_per_token)
    outcome = serve(runner, prompts, CONTEXT, tiers=tiers)
    assert outcome.texts == {f"{golden['id']}/{turn}": golden["text"] for golden in ending for turn in (1, 2)}
    found = outcome.scheduler.tiers
    # Most goldens are too short to be worth it.
    assert (found.hits > 20, found.failures) == (True, 0)
    runner.blocks.clear()


def test_goldens_stay_the_same_with_guesses_that_are_right_in_part(runner: Runner) -> None:
    """Over two hundred requests, sharing and chunked, in steps with many rows of guesses of which any number holds."""
    ending = [golden for golden in GOLDENS if golden["completion_tokens"] is not None]
    prompts = {f"{golden['id']}/{turn}": tokens(runner, golden) for golden in ending for turn in (1, 2)}
    assert len(prompts) > 200
    expected = {f"{golden['id']}/{turn}": golden["text"] for golden in ending for turn in (1, 2)}
    says = {name: runner.tokenize([(text, True)], add_bos=False) for name, text in expected.items()}
    outcome = serve(runner, prompts, CONTEXT, says=says)
    assert outcome.texts == expected
    assert outcome.copies > 0
    speculation = outcome.scheduler.speculation
    assert speculation.accepted > 1000
    assert speculation.drafted - speculation.accepted > 1000


def test_endless_goldens_stay_the_same_with_prompt_lookup(runner: Runner) -> None:
    endless = [golden for golden in GOLDENS if golden["completion_tokens"] is None]
    prompts = {golden["id"]: tokens(runner, golden) for golden in endless}
    plain = serve(runner, prompts, LOOP_TOKENS)
    guessed = serve(runner, prompts, LOOP_TOKENS, draft=8)
    assert guessed.texts == plain.texts
    assert guessed.scheduler.speculation.accepted > LOOP_TOKENS // 2


def test_endless_goldens_go_on_as_they_should(runner: Runner) -> None:
    endless = [golden for golden in GOLDENS if golden["completion_tokens"] is None]
    prompts = {f"{golden['id']}/{turn}": tokens(runner, golden) for golden in endless for turn in (1, 2)}
    outcome = serve(runner, prompts, LOOP_TOKENS)
    for golden in endless:
        for turn in (1, 2):
            said = outcome.texts[f"{golden['id']}/{turn}"]
            assert said
            assert (golden["reasoning"] + golden["repeats"] * LOOP_TOKENS).startswith(said)


def test_sixteen_requests_with_one_long_prefix_say_the_same_with_and_without_sharing(runner: Runner) -> None:
    known = [golden for golden in GOLDENS if golden["kind"] in ("fact", "capital")]
    history = [
        message
        for golden in known[16:32]
        for message in (golden["messages"][0], {"role": "assistant", "content": golden["content"]})
    ]
    prompts = {
        golden["id"]: runner.tokenize([(render({"messages": [*history, *golden["messages"]]}), True)], add_bos=False)
        for golden in known[:16]
    }
    shared = min(map(len, prompts.values()))
    assert shared > 300
    plain = serve(runner, prompts, 100, shares=False)
    sharing = serve(runner, prompts, 100)
    assert sharing.texts == plain.texts
    assert len(set(plain.texts.values())) > 10
    assert plain.computed - sharing.computed > 14 * (shared - 30)
    # The seats but one wait for the first; those that come later find it there.
    assert (sharing.scheduler.prefix_waits, sharing.copies) == (SEATS - 1, 15)
    assert (plain.scheduler.prefix_waits, plain.copies) == (0, 0)
