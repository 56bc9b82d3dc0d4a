"""The message tree: any that people can make has one path to each message, and the newest branch is the last begun."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.chats.tree import by_id, may_stand_below, newest_leaf, path_to


@dataclass(frozen=True)
class Message:
    id: int
    parent_id: int | None
    role: str


@st.composite
def trees(draw: st.DrawFn) -> dict[int, Message]:
    """Built as a chat is: each message below nothing, or below one that may have it."""
    messages: list[Message] = []
    for number in range(1, draw(st.integers(1, 40)) + 1):
        parent = draw(st.sampled_from([None, *messages]))
        role = "user" if parent is None or parent.role == "assistant" else "assistant"
        messages.append(Message(number * 3, None if parent is None else parent.id, role))
    return by_id(messages)


@given(trees())
def test_a_path_goes_from_a_beginning_to_its_message_in_turns(tree: dict[int, Message]) -> None:
    for message in tree.values():
        path = path_to(tree, message.id)
        assert path[0].parent_id is None
        assert path[-1] == message
        assert [one.parent_id for one in path[1:]] == [one.id for one in path[:-1]]
        assert [one.id for one in path] == sorted({one.id for one in path})
        assert [one.role for one in path] == ["user", "assistant"] * (len(path) // 2) + ["user"] * (len(path) % 2)


@given(trees())
def test_the_newest_leaf(tree: dict[int, Message]) -> None:
    parents = {message.parent_id for message in tree.values()}
    for start_id in tree:
        leaf_id = newest_leaf(tree, start_id)
        assert leaf_id is not None
        assert leaf_id not in parents, "nothing stands below a leaf"
        assert tree[start_id] in path_to(tree, leaf_id)
        below = [one.id for one in tree.values() if tree[start_id] in path_to(tree, one.id)[:-1]]
        assert leaf_id == start_id or leaf_id in below
    newest = newest_leaf(tree)
    assert newest is not None
    first = path_to(tree, newest)[0]
    assert first.id == max(one.id for one in tree.values() if one.parent_id is None)


def test_no_messages_no_leaf() -> None:
    assert newest_leaf({}) is None
    with pytest.raises(KeyError):
        path_to({}, 1)


@pytest.mark.parametrize(
    ("role", "parent", "may"),
    [
        ("user", None, True),
        ("user", "assistant", True),
        ("user", "user", False),
        ("assistant", "user", True),
        ("assistant", None, False),
        ("assistant", "assistant", False),
    ],
)
def test_who_stands_below_whom(role: str, parent: str | None, may: bool) -> None:
    assert may_stand_below(role, parent) is may
