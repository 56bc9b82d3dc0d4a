"""Which tokens lie in the cells of a unified KV cache, and which slots hold them: a radix tree. Pure.

A node is a run of cells. The tokens from the root to a node are a prefix that every slot of the node holds, in the same
cells: ``llama_memory_seq_cp`` adds a slot to cells that are there, so a prefix that ten slots share is counted once.
Two slots that computed the same tokens each for itself have cells of their own; the tree then has two nodes with the
same tokens side by side. So ``cells`` is always what llama.cpp's cache holds, to the token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix. Compares whole lists first: in a running chat that is the usual case."""
    shortest = min(len(a), len(b))
    if a[:shortest] == b[:shortest]:
        return shortest
    low, high = 0, shortest
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(slots=True, eq=False)
class Node:
    """A run of cells; ``start`` is the position of its first token, ``slots`` hold all of it."""

    tokens: list[int]
    start: int
    parent: Node | None
    slots: set[int] = field(default_factory=set)
    children: list[Node] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Match:
    """The first ``tokens`` tokens of a prompt are in each of ``slots``; none are in any slot when both are empty."""

    tokens: int = 0
    slots: frozenset[int] = frozenset()


class PrefixCache:
    """The tree. A slot's path runs from the root to the node that ``_ends`` names; every part of it is the slot's."""

    def __init__(self) -> None:
        self._root = Node([], 0, None)
        self._ends: dict[int, Node] = {}
        self.cells = 0
        """Cells in use: tokens that slots share count once."""

    def longest(self, prompt: list[int]) -> Match:
        """The longest prefix of ``prompt`` that any slot holds, and the slots that hold it."""
        best = Match()
        paths = [(self._root, 0)]
        while paths:
            node, matched = paths.pop()
            for child in node.children:
                count = common_prefix(child.tokens, prompt[matched : matched + len(child.tokens)])
                if matched + count > best.tokens:
                    best = Match(matched + count, frozenset(child.slots))
                if count == len(child.tokens):
                    paths.append((child, matched + count))
        return best

    def append(self, slot: int, tokens: list[int]) -> None:
        """``slot`` computed ``tokens`` after those it holds: new cells, its alone."""
        if not tokens:
            return
        end = self._ends.get(slot, self._root)
        self.cells += len(tokens)
        if end is not self._root and len(end.slots) == 1 and not end.children:
            end.tokens.extend(tokens)
            return
        leaf = Node(list(tokens), end.end, end, {slot})
        end.children.append(leaf)
        self._ends[slot] = leaf

    def share(self, source: int, target: int, count: int) -> None:
        """``target``, which holds nothing, gets the first ``count`` tokens of ``source``."""
        if target in self._ends:
            raise ValueError(f"slot {target} is not empty")
        if count == 0:
            return
        path = self._path(source)
        last = next(node for node in path if node.end >= count)
        if last.end > count:
            self._split(last, count)
        for node in self._path(source):
            if node.end > count:
                break
            node.slots.add(target)
            self._ends[target] = node

    def trim(self, slot: int, keep: int) -> None:
        """``slot`` keeps its first ``keep`` tokens; cells that nobody else holds are free again."""
        while (end := self._ends.get(slot)) is not None and end.end > keep:
            if end.start < keep:
                self._split(end, keep)
                continue
            end.slots.remove(slot)
            assert end.parent is not None
            if end.parent is self._root:
                del self._ends[slot]
            else:
                self._ends[slot] = end.parent
            if not end.slots:
                end.parent.children.remove(end)
                self.cells -= len(end.tokens)

    def tokens(self, slot: int) -> list[int]:
        """What a slot holds, read from the tree."""
        return [token for node in self._path(slot) for token in node.tokens]

    def own_cells(self, slot: int) -> int:
        """Cells that no other slot holds: what forgetting the slot gives back."""
        return sum(len(node.tokens) for node in self._path(slot) if len(node.slots) == 1)

    def cells_of(self, slots: set[int]) -> int:
        """Cells that at least one of these slots holds."""
        return sum(len(node.tokens) for node in self._nodes() if node.slots & slots)

    def _path(self, slot: int) -> list[Node]:
        path: list[Node] = []
        node = self._ends.get(slot)
        while node is not None and node is not self._root:
            path.append(node)
            node = node.parent
        path.reverse()
        return path

    def _split(self, node: Node, position: int) -> None:
        """Cut a node in two at ``position``: the lower part is new, and those that ended at the node end there now."""
        cut = position - node.start
        lower = Node(node.tokens[cut:], position, node, set(node.slots), node.children)
        for child in lower.children:
            child.parent = lower
        for slot in node.slots:
            if self._ends[slot] is node:
                self._ends[slot] = lower
        node.tokens = node.tokens[:cut]
        node.children = [lower]

    def check_integrity(self) -> None:
        """Raise AssertionError when the tree contradicts itself. For tests, and for a worker that is idle."""
        cells = 0
        seen: dict[int, Node] = {}
        for node in self._nodes():
            cells += len(node.tokens)
            assert node.tokens, "a node without tokens"
            assert node.slots, "a node that no slot holds"
            assert node.parent is not None
            assert node.start == node.parent.end, "a node that does not follow its parent"
            below = set[int]()
            for child in node.children:
                assert child.parent is node, "a child with another parent"
                assert not below & child.slots, "a slot on two branches"
                below |= child.slots
            assert below <= node.slots, "a slot that holds an end without its beginning"
            for slot in node.slots - below:
                assert slot not in seen, "a slot with two ends"
                seen[slot] = node
        assert seen == self._ends, "the ends of the slots are not where they are said to be"
        assert cells == self.cells, f"{self.cells} cells are counted and the tree has {cells}"

    def _nodes(self) -> Iterator[Node]:
        stack = list(self._root.children)
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children)
