"""What several models have of the box together: never more than there is, whoever comes, works and leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.request import GenerationRequest, SamplingParams
from appliance.engine.shares import BoxShares, Share

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tiny_r1"
GOLDENS = json.loads((FIXTURES / "prompts.json").read_text(encoding="utf-8"))["prompts"]


ON_ITS_WAY = 1.25
"""What is being written to disk is in memory beside the bound."""


class Workers:
    """Members of one box, and what each was told last."""

    def __init__(self) -> None:
        self.shares = BoxShares()
        self.has: dict[int, Share] = {}
        self.told = 0

    def join(self, alone: Share, *, on_processor: bool = True) -> int:
        name, share = self.shares.join(alone, lambda later: self._tell(name, later), on_processor=on_processor)
        self.has[name] = share
        return name

    def _tell(self, name: int, share: Share) -> None:
        self.has[name] = share
        self.told += 1

    def threads(self) -> list[int]:
        return [share.threads for share in self.has.values()]


def test_a_model_alone_has_everything() -> None:
    workers = Workers()
    name = workers.join(Share(8, 1000, 5000))
    workers.shares.set_busy(name, busy=False)
    workers.shares.set_busy(name, busy=True)
    assert (workers.has[name], workers.told) == (Share(8, 1000, 5000), 0)


def test_models_that_answer_together_divide_the_cores() -> None:
    workers = Workers()
    names = [workers.join(Share(8)) for _ in range(3)]
    assert workers.threads() == [3, 3, 2]
    workers.shares.set_busy(names[1], busy=False)
    assert [workers.has[names[0]].threads, workers.has[names[2]].threads] == [4, 4]
    workers.shares.leave(names[0])
    assert workers.has[names[2]].threads == 8
    workers.shares.set_busy(names[1], busy=True)
    assert [workers.has[names[1]].threads, workers.has[names[2]].threads] == [4, 4]
    # Somebody who is told what he has already is not told.
    told = workers.told
    workers.shares.set_busy(names[1], busy=True)
    workers.shares.leave(names[0])
    assert workers.told == told


def test_nobody_has_less_than_one_core_and_cards_take_none() -> None:
    workers = Workers()
    card = workers.join(Share(2), on_processor=False)
    for _ in range(3):
        workers.join(Share(2))
    assert workers.threads() == [2, 1, 1, 1]
    workers.shares.leave(card)
    assert workers.threads() == [2, 1, 1, 1]


def test_room_for_idle_chats_is_divided_among_all_that_are_loaded() -> None:
    workers = Workers()
    first = workers.join(Share(2, 800, 6000))
    workers.join(Share(2, 0, 0))
    assert workers.has[first] == Share(1, 800, 6000)
    # When the second came less was free: that is what both may have together.
    second = workers.join(Share(2, 300, 6000))
    found = [(workers.has[name].chat_memory_bytes, workers.has[name].chat_disk_bytes) for name in (first, second)]
    assert found == [(150, 3000), (150, 3000)]
    workers.shares.leave(second)
    assert workers.has[first].chat_memory_bytes == 800


class Box(RuleBasedStateMachine):
    """Models come, work, rest and leave in any order."""

    CORES, MEMORY, DISK = 6, 1000, 9000

    def __init__(self) -> None:
        super().__init__()
        self.workers = Workers()
        self.alive: dict[int, bool] = {}
        self.cards: set[int] = set()

    @rule(on_processor=st.booleans(), keeps=st.booleans())
    def join(self, on_processor: bool, keeps: bool) -> None:
        alone = Share(self.CORES, self.MEMORY if keeps else 0, self.DISK if keeps else 0)
        name = self.workers.join(alone, on_processor=on_processor)
        self.alive[name] = True
        if not on_processor:
            self.cards.add(name)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), busy=st.booleans())
    def set_busy(self, data: st.DataObject, busy: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.alive)))
        self.workers.shares.set_busy(name, busy=busy)
        self.alive[name] = busy

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.alive)))
        self.workers.shares.leave(name)
        del self.alive[name]

    @invariant()
    def nothing_is_given_twice(self) -> None:
        has = {name: self.workers.has[name] for name in self.alive}
        computing = [has[name].threads for name, busy in self.alive.items() if busy and name not in self.cards]
        assert sum(computing) == max(self.CORES, len(computing)) or not computing
        assert max(computing, default=0) - min(computing, default=0) <= 1
        assert sum(share.chat_memory_bytes for share in has.values()) <= self.MEMORY
        assert sum(share.chat_disk_bytes for share in has.values()) <= self.DISK


TestBox = Box.TestCase
TestBox.settings = settings(max_examples=50, deadline=None)


def config(folder: Path, name: str) -> WorkerConfig:
    return WorkerConfig(
        model_path=str(FIXTURES / "gguf" / "Tiny-R1-Q8_0.gguf"),
        seats=1,
        seat_context=512,
        threads=2,
        cache_slots=0,
        tier_memory_bytes=2_400_000,
        tier_disk_bytes=8_000_000,
        tier_dir=str(folder / "chats"),
        tier_key_file=str(folder / "key"),
        model_sha256=name,
    )


async def ask(engine: LlamaCppEngine, number: int) -> None:
    tokens = tuple(30 + (number * 37 + i * 7) % 900 for i in range(400))
    request = GenerationRequest(
        request_id=f"r{number}", prompt_tokens=tokens, max_tokens=2, sampling=SamplingParams(temperature=0.0)
    )
    async for _ in engine.generate(request):
        pass


async def test_two_workers_keep_no_more_chats_than_one_did(tmp_path: Path) -> None:
    """The first has filled the memory when the second comes: it gives half of it back at once, and answers on."""
    shares = BoxShares()
    first = LlamaCppEngine(config(tmp_path, "a"), shares=shares)
    second = LlamaCppEngine(config(tmp_path, "b"), shares=shares)
    try:
        await first.start(60)
        for number in range(8):
            await ask(first, number)
        assert 1_200_000 < first.stats().tier_memory_bytes <= 2_400_000 * ON_ITS_WAY
        await second.start(60)
        for number in range(8, 14):
            await asyncio.gather(ask(first, number), ask(second, number))
        for engine in (first, second):
            assert 0 < engine.stats().tier_memory_bytes <= 1_200_000 * ON_ITS_WAY
            assert engine.stats().tier_disk_bytes <= 4_000_000
            assert engine.stats().tier_failures == 0
        await second.stop(5)
        await ask(first, 30)
        assert first.stats().prompt_tokens == 400 * 15
    finally:
        await first.stop(5)
        await second.stop(5)
