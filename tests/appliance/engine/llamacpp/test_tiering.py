"""Chats kept outside of the KV cache: what is saved, taken over and dropped, by the scheduler with a cache."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from appliance.engine.llamacpp.scheduler import SchedulerLimits
from appliance.engine.llamacpp.step import DecodeStatus, SlotRestore
from appliance.engine.llamacpp.tier_blocks import TierLimits
from appliance.engine.llamacpp.tier_index import IDLE_TICKS, PAUSE_TICKS
from appliance.engine.llamacpp.tiering import SMALLEST_END_TOKENS, WORTH_TOKENS
from tests.appliance.engine.llamacpp.test_sharing import CONTEXT, SEATS, Box, Everything, document
from tests.appliance.engine.llamacpp.unified_cache import BYTES_PER_TOKEN

PLENTY = TierLimits(memory_bytes=10**6, block_tokens=32, bytes_per_token=BYTES_PER_TOKEN)
FEW_SLOTS = SchedulerLimits(seats=1, slots=1, seat_context=CONTEXT, step=40, chunk_beside_decode=12)


def chat(number: int, length: int = 100) -> list[int]:
    return [(number >> n % 4 & 1) + 1 + (n * number) % 3 for n in range(length)]


def box_with(tiers: TierLimits = PLENTY, limits: SchedulerLimits = FEW_SLOTS) -> Box:
    return Box(limits, tiers=tiers)


def turns(box: Box, chats: int = 4, max_tokens: int = 3) -> None:
    """A first turn of so many chats, one after the other, each to its end and until nothing is left to save."""
    for number in range(chats):
        box.add(f"first{number}", chat(number), max_tokens=max_tokens)
        box.run()


def test_a_chat_that_lost_its_slot_is_taken_over_and_not_computed_again() -> None:
    box = box_with()
    turns(box)
    computed = box.cache.computed
    second = box.add("second", [*box.sequences["first0"].tokens, 4, 4, 4], max_tokens=1)
    box.run()
    first = len(box.sequences["first0"].tokens)
    # The answer's last token was never computed, and an end of a few tokens is not worth a block.
    assert first - SMALLEST_END_TOKENS < second.cached < first
    assert box.cache.computed - computed <= len(second.prompt) - second.cached + 1
    tiers = box.scheduler.tiers
    assert (tiers.hits, tiers.hit_tokens, tiers.failures) == (1, second.cached, 0)


def test_without_memory_nothing_is_kept() -> None:
    box = box_with(TierLimits())
    turns(box)
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=1)
    box.run()
    assert second.cached < WORTH_TOKENS
    assert (box.cache.blocks, box.scheduler.tiers.hits) == ({}, 0)


def test_a_beginning_that_chats_share_is_kept_once() -> None:
    box = box_with()
    for number in range(6):
        box.add(f"r{number}", [*document(0, 96), *chat(number + 1, 40)], max_tokens=1)
        box.run()
    whole = [block for block in box.scheduler.tiers.index.all() if block.end <= 96]
    assert [block.end for block in sorted(whole, key=lambda one: one.end)] == [32, 64, 96]


def test_a_longer_end_replaces_the_shorter_one() -> None:
    box = box_with()
    box.add("a", document(0, 41), max_tokens=1)
    box.run()
    box.add("b", document(0, 90), max_tokens=1)
    box.run()
    spans = sorted((block.start, block.end) for block in box.scheduler.tiers.index.all())
    # The end of "a", of 9 tokens, is part of the second block of "b".
    assert spans == [(0, 32), (32, 64), (64, 90)]
    box = box_with(TierLimits(memory_bytes=10**6, block_tokens=64, bytes_per_token=BYTES_PER_TOKEN))
    for name, length in (("a", 40), ("b", 60), ("c", 130)):
        box.add(name, document(0, length), max_tokens=1)
        box.run()
    # The last 2 tokens of "c" are not worth a block.
    assert sorted((block.start, block.end) for block in box.scheduler.tiers.index.all()) == [(0, 64), (64, 128)]


def test_part_of_a_block_is_enough() -> None:
    """R1's next turn leaves the thought away: it goes another way in the middle of a block."""
    box = box_with(TierLimits(memory_bytes=10**6, block_tokens=64, bytes_per_token=BYTES_PER_TOKEN))
    turns(box)
    other = box.add("other", [*chat(0)[:90], 4, 4, 4, 4], max_tokens=1)
    box.run()
    assert other.cached == 90


def test_memory_is_bounded_and_the_chat_unused_for_longest_goes_first() -> None:
    bound = 7 * 32 * BYTES_PER_TOKEN
    box = box_with(TierLimits(memory_bytes=bound, block_tokens=32, bytes_per_token=BYTES_PER_TOKEN))
    turns(box, chats=3)
    index = box.scheduler.tiers.index
    assert 0 < index.memory_bytes <= bound
    assert index.counts.drops == 2
    last = box.add("last", [*chat(1), 4], max_tokens=1)
    box.run()
    assert last.cached >= 96


def test_what_computing_does_sooner_is_not_taken_over() -> None:
    box = box_with()
    turns(box)
    # A token takes a nanosecond here, 10 bytes 5 ns by the usual rate.
    box.scheduler.pace.learn(0, 40, 40e-9)
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=1)
    box.run()
    assert (second.cached < WORTH_TOKENS, box.scheduler.tiers.hits) == (True, 0)


def test_a_slot_that_is_lost_before_it_was_saved_is_saved_at_once() -> None:
    box = box_with()
    box.add("a", chat(5), max_tokens=1)
    box.add("b", chat(9), max_tokens=1)
    # "b" gets the slot of "a" in the very step after "a" ended.
    while "a" not in box.endings:
        box.step()
    plan = box.step()
    assert [(save.start, save.end) for save in plan.saves] == [(0, 32), (32, 64), (64, 96)]
    again = box.add("again", [*chat(5), 4], max_tokens=1)
    box.run()
    assert again.cached >= 96


def test_a_block_that_cannot_be_taken_over_is_dropped_and_the_prompt_computed() -> None:
    box = box_with()
    turns(box)
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=3)
    box.cache._restore = lambda _restore: False  # type: ignore[method-assign]
    box.run()
    assert (box.scheduler.tiers.failures, second.cached < WORTH_TOKENS) == (1, True)
    assert box.endings["second"] is not None


def test_a_chat_of_many_blocks_is_taken_over_and_answered_in_one_step() -> None:
    """Steps beside long prompts are long: one block in each would keep a chat waiting that is all there."""
    box = box_with()
    turns(box)
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=1)
    plan = box.step()
    assert [(one.start, one.end) for one in plan.restores] == [(0, 32), (32, 64), (64, 96)]
    assert (second.cached, second.blocks, len(box.said["second"])) == (96, [], 1)


def test_after_a_block_that_fails_no_other_leaves_a_gap() -> None:
    box = box_with()
    turns(box)
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=3)
    restores, restore = [0], box.cache._restore

    def fails_once(one: SlotRestore) -> bool:
        restores[0] += 1
        return restores[0] != 2 and restore(one)

    box.cache._restore = fails_once  # type: ignore[method-assign]
    box.step()
    assert (restores[0], second.computed, second.blocks) == (2, 32, [])
    box.run()
    assert (box.scheduler.tiers.failures, box.endings["second"] is not None) == (1, True)


def test_an_aborted_request_leaves_nothing_behind() -> None:
    box = box_with()
    turns(box)
    box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=3)
    plan = box.step()
    assert {type(restore) for restore in plan.restores} == {SlotRestore}
    box.scheduler.abort("second")
    box.run()
    box.scheduler.check_integrity()


@pytest.mark.parametrize("status", [DecodeStatus.NO_KV_SLOT, DecodeStatus.ABORTED, DecodeStatus.INVALID_BATCH])
def test_a_step_that_fails_keeps_what_was_taken_over(status: DecodeStatus) -> None:
    box = Box(SchedulerLimits(seats=2, slots=2, seat_context=CONTEXT, step=40, chunk_beside_decode=12), tiers=PLENTY)
    turns(box)
    box.add("other", [3, 3, 3, 3], max_tokens=30)
    box.step()
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=1)
    plan = box.step(fail=status)
    assert plan.restores
    box.run()
    assert second.cached >= 96


def test_requests_with_one_kept_beginning_take_it_over_once() -> None:
    limits = SchedulerLimits(seats=4, slots=4, seat_context=CONTEXT, step=40, chunk_beside_decode=12)
    box = Box(limits, tiers=PLENTY)
    box.add("first", document(0, 128), max_tokens=1)
    box.run()
    box.scheduler.slots.make_room(limits.seats * CONTEXT)
    for number in range(4):
        box.add(f"r{number}", [*document(0, 128), number + 1], max_tokens=1)
    box.run()
    assert box.scheduler.tiers.hits == 1
    assert [box.sequences[f"r{number}"].cached for number in range(4)] == [128] * 4


def full_disk_box() -> Box:
    """A box whose memory holds eight blocks and whose disk holds a lot, after four chats of four blocks."""
    box = box_with(TierLimits(8 * 32 * BYTES_PER_TOKEN, 10**6, 32, BYTES_PER_TOKEN))
    turns(box)
    return box


def test_what_memory_cannot_hold_goes_to_disk_and_comes_back() -> None:
    box = full_disk_box()
    index = box.scheduler.tiers.index
    assert 0 < index.disk_bytes == sum(len(block) for block in box.disk.values()) * BYTES_PER_TOKEN
    assert index.memory_bytes <= index.memory_bound_bytes
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=1)
    box.step()
    # It waits for the disk, and nobody has anything to do meanwhile.
    assert (box.scheduler.has_work, bool(box.on_its_way)) == (False, True)
    box.run()
    assert second.cached >= 96


def test_who_waits_for_the_disk_holds_nobody_up() -> None:
    limits = SchedulerLimits(seats=2, slots=2, seat_context=CONTEXT, step=40, chunk_beside_decode=12)
    few = 8 * 32 * BYTES_PER_TOKEN
    box = Box(limits, tiers=TierLimits(few, 10**6, 32, BYTES_PER_TOKEN))
    turns(box, chats=6)
    box.add("waits", [*box.sequences["first0"].tokens, 4], max_tokens=1)
    box.step()
    assert box.on_its_way
    box.add("runs", [3, 3, 3], max_tokens=3)
    while "runs" not in box.endings:
        box.step()
    assert "waits" not in box.endings
    box.run()
    assert box.sequences["waits"].cached >= 96


def test_a_file_that_is_no_good_is_dropped_and_the_prompt_computed() -> None:
    box = full_disk_box()
    second = box.add("second", [*box.sequences["first0"].tokens, 4], max_tokens=2)
    box.step()
    while box.on_its_way:
        box.arrive(good=False)
    box.run()
    # What lies before the lost block, in memory, is taken over.
    assert second.cached == 96 - 32 * box.scheduler.tiers.failures < 96
    assert box.endings["second"] is not None


def test_what_was_not_used_for_a_while_is_written_although_memory_has_room() -> None:
    box = box_with(TierLimits(10**6, 10**6, 32, BYTES_PER_TOKEN))
    turns(box, chats=1)
    for _ in range(IDLE_TICKS):
        assert not box.on_its_way
        box.scheduler.tiers.index.tick()
        box.do_tier_work()
    box.run()
    index = box.scheduler.tiers.index
    assert index.disk_bytes == index.memory_bytes > 0


def test_after_a_write_that_failed_nothing_is_written_for_a_while() -> None:
    box = box_with(TierLimits(10**6, 10**6, 32, BYTES_PER_TOKEN))
    turns(box, chats=1)
    index = box.scheduler.tiers.index
    assert all(index.write(block) for block in index.unwritten()[:1])
    box.do_tier_work()
    box.arrive(good=False)
    assert not index.write(index.unwritten()[0])
    for _ in range(PAUSE_TICKS):
        index.tick()
    assert index.unwritten() == []


def test_blocks_of_an_earlier_run_are_found_and_taken_over() -> None:
    before = full_disk_box()
    for block in before.scheduler.tiers.index.unwritten():
        before.scheduler.tiers.index.write(block)
    before.do_tier_work()
    before.run()
    box = box_with(TierLimits(10**6, 10**6, 32, BYTES_PER_TOKEN))
    for block in reversed(before.scheduler.tiers.index.all()):
        assert block.parent is not None
        box.disk[block.key] = before.disk[block.key]
        assert box.scheduler.tiers.index.find_on_disk(block.parent.key, block.tokens, block.size_bytes)
    second = box.add("second", [*before.sequences["first0"].tokens, 4], max_tokens=1)
    box.run()
    assert second.cached >= 96


@pytest.mark.parametrize("on_its_way", [False, True])
def test_a_memory_that_refuses_later_leaves_no_file_behind(on_its_way: bool) -> None:
    """The blocks of such a model are never taken over again: neither those on disk stay nor those that get there."""
    box = Box(FEW_SLOTS, parts=False, tiers=TierLimits(10**6, 10**6, 32, BYTES_PER_TOKEN))
    box.add("first", document(0, 100), max_tokens=1)
    box.run()
    index = box.scheduler.tiers.index
    assert all(index.write(block) for block in index.unwritten())
    box.do_tier_work()
    while box.on_its_way and not on_its_way:
        box.arrive()
    assert (bool(box.disk), bool(box.on_its_way)) == (not on_its_way, on_its_way)
    box.add("second", [*document(0, 60), *[4] * 20], max_tokens=1)
    box.run()
    assert not box.scheduler.slots.shares
    assert (box.disk, box.on_its_way, box.cache.blocks, len(index)) == ({}, [], {}, 0)


class WithTiers(Everything):
    """Everything of ``test_sharing``, with tiers of several sizes: answers, cells and blocks stay right."""

    @initialize(
        memory=st.sampled_from(["shares", "shares", "shares", "refuses"]),
        slots=st.integers(SEATS, 5),
        tier_blocks=st.sampled_from([1, 4, 12, 1000]),
        disk_blocks=st.sampled_from([0, 1, 8, 1000]),
        block_tokens=st.sampled_from([8, 32, 64]),
        guesses=st.none() | st.integers(0, 1000),
    )
    def start(  # type: ignore[override]
        self, memory: str, slots: int, tier_blocks: int, disk_blocks: int, block_tokens: int, guesses: int | None
    ) -> None:
        limits = SchedulerLimits(SEATS, slots, CONTEXT, step=40, chunk_beside_decode=12, outputs=12)
        tiers = TierLimits(
            memory_bytes=tier_blocks * block_tokens * BYTES_PER_TOKEN,
            disk_bytes=disk_blocks * block_tokens * BYTES_PER_TOKEN,
            block_tokens=block_tokens,
            bytes_per_token=BYTES_PER_TOKEN,
        )
        self.box = Box(limits, parts=memory == "shares", tiers=tiers, guesses=guesses)
        self.memory = memory

    @rule()
    def forget_the_cache(self) -> None:
        """Nothing is left of idle chats but what is kept outside."""
        slots = self.box.scheduler.slots
        while slots.evict_one():
            pass

    @rule(cells=st.integers(0, 200))
    def few_idle_cells(self, cells: int) -> None:
        """As before a step where idle cells cost time."""
        self.box.scheduler.slots.evict_idle(cells, self.box.scheduler.tiers.is_saved)

    @rule(good=st.sampled_from([True, True, True, False]), number=st.integers(0, 20))
    def arrive(self, good: bool, number: int) -> None:
        if self.box.on_its_way:
            self.box.arrive(number, good=good)

    @rule()
    def tick(self) -> None:
        self.box.scheduler.tiers.index.tick()
        self.box.do_tier_work()

    @rule(forgets=st.sampled_from([False] * 20 + [True]))
    def wipe(self, forgets: bool) -> None:
        """The operator wants everything forgotten."""
        if forgets:
            self.box.scheduler.forget_tiers()
            self.box.do_tier_work()
            assert not self.box.disk


TestWithTiers = WithTiers.TestCase
TestWithTiers.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
