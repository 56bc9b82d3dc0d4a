"""Chats that nobody has on a seat leave the cells that would cost the others time, once they are kept elsewhere."""

from __future__ import annotations

from dataclasses import replace

from appliance.engine.llamacpp.pace import Pace
from appliance.engine.llamacpp.scheduler import SchedulerLimits
from appliance.engine.llamacpp.slots import Slot, SlotTable
from appliance.engine.llamacpp.tier_blocks import TierLimits
from tests.appliance.engine.llamacpp.test_sharing import CONTEXT, Box
from tests.appliance.engine.llamacpp.test_tiering import PLENTY, chat, turns

LIMITS = SchedulerLimits(seats=2, slots=8, seat_context=CONTEXT, step=40, chunk_beside_decode=12)
BOUND = 150


def idle_cells(box: Box) -> int:
    slots = box.scheduler.slots
    return slots.tree.cells - slots.tree.cells_of({slot.index for slot in slots.slots if slot.owner is not None})


def after_four_chats(limits: SchedulerLimits, tiers: TierLimits) -> Box:
    """Four chats of 102 tokens were answered on a box whose cache holds two of that length; a fifth is running."""
    box = Box(limits, tiers=tiers)
    turns(box)
    box.add("running", [5, *chat(9, 20)], max_tokens=9)
    box.step()
    return box


def test_idle_chats_leave_the_cache_for_the_memory_and_come_back_from_there() -> None:
    box = after_four_chats(replace(LIMITS, idle_cells=BOUND), PLENTY)
    assert 0 < idle_cells(box) <= BOUND
    second = box.add("second", [*box.sequences["first0"].tokens, 4, 4], max_tokens=1)
    box.run()
    assert second.cached >= 96
    assert box.scheduler.tiers.hits == 1


def test_the_more_sequences_run_the_less_the_idle_ones_may_cost_them() -> None:
    box = after_four_chats(replace(LIMITS, idle_cells=BOUND), PLENTY)
    assert idle_cells(box) > BOUND // 2
    box.add("another", [6, *chat(6, 20)], max_tokens=40)
    seen = []
    while box.scheduler.has_work:
        seen.append((box.scheduler.running_count, idle_cells(box)))
        box.step()
    assert seen[0][0] == 1
    assert seen[0][1] > BOUND // 2
    assert [idle for running, idle in seen if running == 2][-1] <= BOUND // 2


def test_without_a_bound_or_another_place_they_stay() -> None:
    assert idle_cells(after_four_chats(LIMITS, PLENTY)) > BOUND
    assert idle_cells(after_four_chats(replace(LIMITS, idle_cells=BOUND), TierLimits())) > BOUND


def test_what_a_running_sequence_shares_is_not_counted_and_what_may_not_go_stays() -> None:
    table = SlotTable(4, 1000)
    first = table.take("a", list(range(100)))
    table.append(first, list(range(100)))
    table.take("b", [*range(100), 7])
    other = table.take("c", [50] * 60)
    table.append(other, [50] * 60)
    for slot in (first, other):
        table.release(slot)
    asked: list[int] = []

    def may_go(slot: Slot) -> bool:
        asked.append(slot.index)
        return slot is not other

    table.evict_idle(60, may_go)
    assert asked == [], "100 tokens are held by b too, so 60 are idle"
    table.evict_idle(10, may_go)
    assert (first.tokens, other.tokens) == ([], [50] * 60)
    assert asked == [first.index, other.index]
    table.check_integrity()


def test_chunks_without_flash_attention_are_as_small_as_the_prompts_speed_allows() -> None:
    """Both learn the same steps of a slow processor: where small chunks cost no more, and middle ones can be had, they
    are taken."""
    chunks = []
    for even in (False, True):
        pace = Pace(128, 512, even=even)
        pace.learn(4, 0, 0.03)
        for size in (32, 48, 64, 128):
            pace.learn(4, size, 0.03 + size * 0.0035)
        chunks.append(pace.prompt_tokens(4))
    assert chunks == [64, 48]
