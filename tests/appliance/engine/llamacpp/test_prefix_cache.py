"""The tree and the table over it: what is found, what is shared, what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.engine.llamacpp.prefix_cache import Match, PrefixCache, common_prefix
from appliance.engine.llamacpp.slots import SlotTable
from appliance.engine.llamacpp.step import SlotCopy, SlotTrim

TOKENS = st.lists(st.integers(0, 2), max_size=12)


@given(TOKENS, TOKENS)
def test_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]


def test_shared_cells_count_once_and_stay_for_the_last_who_holds_them() -> None:
    tree = PrefixCache()
    tree.append(0, [1, 2, 3, 4])
    tree.share(0, 1, 3)
    tree.append(1, [9, 9])
    assert (tree.cells, tree.tokens(1), tree.own_cells(0), tree.own_cells(1)) == (6, [1, 2, 3, 9, 9], 1, 2)
    tree.trim(0, 0)
    assert (tree.cells, tree.tokens(0), tree.own_cells(1)) == (5, [], 5)
    tree.check_integrity()


def test_slots_that_computed_the_same_have_cells_of_their_own() -> None:
    tree = PrefixCache()
    tree.append(0, [1, 2, 3])
    tree.append(1, [1, 2, 3])
    assert tree.cells == 6
    assert tree.longest([1, 2, 3, 4]).tokens == 3
    tree.check_integrity()


def test_the_longest_prefix_is_found_across_branches() -> None:
    tree = PrefixCache()
    tree.append(0, [1, 2, 3, 4, 5])
    tree.share(0, 1, 3)
    tree.append(1, [7, 8])
    assert tree.longest([1, 2, 3, 7, 9]) == Match(4, frozenset({1}))
    assert tree.longest([1, 2, 3]) == Match(3, frozenset({0, 1}))
    assert tree.longest([5]) == Match()


def test_sharing_onto_a_slot_that_holds_something_is_refused() -> None:
    tree = PrefixCache()
    tree.append(0, [1])
    tree.append(1, [2])
    with pytest.raises(ValueError, match="slot 1 is not empty"):
        tree.share(0, 1, 1)


class AnyTree(RuleBasedStateMachine):
    """Appends, shares and trims in any order, beside lists of numbered cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = PrefixCache()
        self.held: list[list[tuple[int, int]]] = [[] for _ in range(4)]
        self.made = 0

    @rule(slot=st.integers(0, 3), tokens=TOKENS)
    def append(self, slot: int, tokens: list[int]) -> None:
        self.tree.append(slot, tokens)
        for token in tokens:
            self.made += 1
            self.held[slot].append((self.made, token))

    @precondition(lambda self: not all(self.held))
    @rule(source=st.integers(0, 3), data=st.data())
    def share(self, source: int, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from([slot for slot in range(4) if not self.held[slot]]))
        count = data.draw(st.integers(0, len(self.held[source])))
        self.tree.share(source, target, count)
        self.held[target] = self.held[source][:count]

    @rule(slot=st.integers(0, 3), data=st.data())
    def trim(self, slot: int, data: st.DataObject) -> None:
        keep = data.draw(st.integers(0, len(self.held[slot]) + 2))
        self.tree.trim(slot, keep)
        self.held[slot] = self.held[slot][:keep]

    @rule(prompt=TOKENS)
    def longest(self, prompt: list[int]) -> None:
        tokens = [[token for _, token in held] for held in self.held]
        longest = max(common_prefix(prompt, one) for one in tokens)
        match = self.tree.longest(prompt)
        assert match.tokens == longest
        assert bool(match.slots) == (longest > 0)
        assert all(tokens[slot][:longest] == prompt[:longest] for slot in match.slots)

    @invariant()
    def is_whole(self) -> None:
        self.tree.check_integrity()
        assert self.tree.cells == len({cell for held in self.held for cell in held})
        for slot, held in enumerate(self.held):
            assert self.tree.tokens(slot) == [token for _, token in held]
            others = {cell for other, cells in enumerate(self.held) if other != slot for cell in cells}
            assert self.tree.own_cells(slot) == len(set(held) - others)
        assert self.tree.cells_of({0, 1}) == len({*self.held[0], *self.held[1]})


TestAnyTree = AnyTree.TestCase
TestAnyTree.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def table(*held: list[int], slots: int = 3, shares: bool = True) -> SlotTable:
    """A table whose first slots hold these tokens and have no owner."""
    made = SlotTable(slots, 100, shares=shares)
    for slot, tokens in zip(made.slots, held, strict=False):
        made.append(slot, tokens)
    return made


def test_a_chats_next_turn_takes_its_own_slot_over() -> None:
    subject = table([1, 2, 3], [1, 2, 9])
    slot = subject.take("a", [1, 2, 3, 4])
    assert (slot.index, slot.tokens, subject.take_memory()) == (0, [1, 2, 3], [])


def test_a_prefix_of_another_chat_is_shared_and_that_chat_is_kept() -> None:
    subject = table([1, 2, 3, 4])
    slot = subject.take("a", [1, 2, 3, 9])
    assert (slot.index, slot.tokens) == (1, [1, 2, 3])
    assert subject.take_memory() == [SlotTrim(1, 0), SlotCopy(0, 1, 3)]
    assert (subject.slots[0].tokens, subject.tree.cells, subject.shared_tokens) == ([1, 2, 3, 4], 4, 3)
    subject.check_integrity()


def test_without_a_prefix_an_empty_slot_goes_first_then_the_one_unused_for_longest() -> None:
    subject = table([1, 2], [3, 4])
    assert [subject.take(name, [7, 7]).index for name in "abc"] == [2, 0, 1]
    with pytest.raises(LookupError):
        subject.take("d", [1])


def test_a_slot_whose_tokens_others_hold_too_goes_before_one_that_alone_holds_them() -> None:
    subject = table([5, 6], slots=3)
    first = subject.take("a", [1, 2, 3])
    subject.append(first, [1, 2, 3])
    second = subject.take("b", [1, 2, 3, 4])
    assert second.tokens == [1, 2, 3]
    subject.release(first)
    assert subject.take("c", [8]).index == first.index
    assert subject.slots[0].tokens == [5, 6]


def test_at_least_one_token_is_left_to_compute() -> None:
    subject = table([1, 2, 3], slots=1)
    assert subject.held([1, 2, 3]) == 2
    slot = subject.take("a", [1, 2, 3])
    assert (slot.tokens, subject.take_memory()) == ([1, 2], [SlotTrim(0, 2)])


def test_a_memory_that_cannot_share_is_reused_as_a_whole_or_not_at_all() -> None:
    subject = table([1, 2, 3], [1, 2], slots=2, shares=False)
    assert (subject.held([1, 2, 9]), subject.held([1, 2, 3, 4]), subject.held([1, 2, 3])) == (2, 3, 2)
    assert (subject.take("a", [1, 2, 9]).index, subject.take_memory()) == (1, [])
    assert (subject.take("b", [1, 9]).tokens, subject.take_memory()) == ([], [SlotTrim(0, 0)])


def test_room_is_made_of_what_was_unused_for_longest_and_no_more_than_is_needed() -> None:
    subject = table([1] * 30, [2] * 30, [3] * 30)
    subject.touch(subject.slots[0])
    subject.make_room(35)
    assert [len(slot.tokens) for slot in subject.slots] == [30, 0, 30]
    assert (subject.evictions, subject.evicted_tokens, subject.free_cells) == (1, 30, 40)
    assert subject.take_memory() == [SlotTrim(1, 0)]


def test_owned_slots_are_never_given_back() -> None:
    subject = table(slots=1)
    slot = subject.take("a", [1, 2])
    subject.append(slot, [1, 2])
    subject.make_room(100)
    assert (slot.tokens, subject.evictions) == ([1, 2], 0)
