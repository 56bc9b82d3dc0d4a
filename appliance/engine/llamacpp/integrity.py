"""What must hold of slots, cells and sequences between two steps, whatever happened before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.engine.llamacpp.sequence import Phase, Sequence
from appliance.engine.llamacpp.slots import SlotTable


def check(
    seats: int, seat_context: int, slots: SlotTable, running: Mapping[str, Sequence], waiting: Iterable[Sequence]
) -> None:
    """Raise AssertionError when slots, cells and sequences disagree."""
    slots.check_integrity()
    owners = {slot.owner: slot for slot in slots.slots if slot.owner is not None}
    assert set(owners) == set(running), "slots and running sequences disagree"
    assert len(running) <= seats, "more sequences run than there are seats"
    for request_id, sequence in running.items():
        slot = owners[request_id]
        assert sequence.slot == slot.index, "a sequence and its slot disagree"
        assert sequence.phase is Phase.RUNNING, "a sequence with a slot is not running"
        assert slot.tokens == sequence.tokens[: sequence.computed], "a slot does not hold its sequence's tokens"
        assert sequence.pending > 0, "a running sequence has nothing to compute"
        assert sequence.forced <= sequence.generated, "more was written for a sequence than it has"
        assert sequence.generated < sequence.max_tokens, "a sequence has all its tokens and goes on"
        assert len(sequence.tokens) < seat_context, "a running sequence fills its seat"
        leader = running.get(sequence.leader or "")
        assert leader is None or leader.turn < sequence.turn, "a sequence waits for a later one"
    for one in waiting:
        assert one.phase is Phase.WAITING, "a queued sequence is not waiting"
        assert one.slot is None, "a queued sequence has a slot"
    for slot in slots.slots:
        assert len(slot.tokens) <= seat_context, "a slot holds more than a seat"
    promised = sum(seat_context - len(slot.tokens) for slot in owners.values())
    used = slots.tree.cells_of({slot.index for slot in owners.values()})
    assert slots.cells - used >= promised, "an admitted sequence could not get its whole seat"
