"""A chat's messages as a tree. Pure: ids and parents in, paths out.

A message's parent is None (a first message; there may be several, after an edit of the first question) or a message of
the same chat with a smaller id, so there is no cycle. Below a user's message stand answers, below an answer stand
questions: a regenerated answer and an edited question are siblings of what they replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar


class Node(Protocol):
    """What a tree is made of."""

    @property
    def id(self) -> int: ...

    @property
    def parent_id(self) -> int | None: ...


AnyNode = TypeVar("AnyNode", bound=Node)


def by_id(nodes: Iterable[AnyNode]) -> dict[int, AnyNode]:
    """The nodes by their ids."""
    return {node.id: node for node in nodes}


def path_to(nodes: Mapping[int, AnyNode], leaf_id: int) -> tuple[AnyNode, ...]:
    """The branch from its first message to ``leaf_id``. Raises KeyError for a node that is not there."""
    path = [nodes[leaf_id]]
    while (parent_id := path[-1].parent_id) is not None:
        path.append(nodes[parent_id])
    return tuple(reversed(path))


def newest_leaf(nodes: Mapping[int, AnyNode], start_id: int | None = None) -> int | None:
    """The end of the branch through ``start_id`` that was begun last: from each node on to its newest child. None for
    an empty tree. ``start_id`` None begins above all."""
    newest: dict[int | None, int] = {}
    for node in nodes.values():
        newest[node.parent_id] = max(node.id, newest.get(node.parent_id, node.id))
    leaf_id = start_id
    while leaf_id in newest:
        leaf_id = newest[leaf_id]
    return leaf_id


def may_stand_below(role: str, parent_role: str | None) -> bool:
    """Whether a message of this role may have a parent of that one (None: no parent)."""
    return role == "user" if parent_role in (None, "assistant") else role == "assistant"
