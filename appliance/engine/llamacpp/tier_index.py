"""Which parts of which chats are kept outside of the KV cache, and which are dropped when a bound is met. Pure.

What is kept are *blocks*: the keys and values of a run of tokens, ``block_tokens`` long, or less at a chat's end. A
block belongs to everything before it, so blocks form a tree: chats with the same beginning have the same blocks, once.
A block's name is a hash over its tokens and its parent's name. It lies in the host's memory, on disk, or both.

When memory is full, the blocks unused for longest go from there: to the disk when there is one, else away. When the
disk is full, they go from the disk. Only a block that nothing is kept after can go altogether: a chat loses its end
first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from appliance.engine.llamacpp.prefix_cache import common_prefix
from appliance.engine.llamacpp.tier_blocks import Block, Kept, TierCounts, TierLimits, TierWork, block_key

IDLE_TICKS = 6
"""What was not used for so many ticks is written to disk, so that a box that dies loses little."""

WRITES_PER_TICK = 8
MOST_CHECKED = 500
"""``check_integrity`` takes about 10 microseconds a block."""

PAUSE_TICKS = 12
"""After a write that failed (the disk is full) nothing is written for so many ticks."""


class TierIndex:
    """The tree of blocks with its two bounds."""

    def __init__(self, limits: TierLimits) -> None:
        self.block_tokens = limits.block_tokens
        self.bytes_per_token = limits.bytes_per_token
        self.memory_bound_bytes = limits.memory_bytes
        self.disk_bound_bytes = limits.disk_bytes
        self.memory_bytes = 0
        self.disk_bytes = 0
        self._writing: dict[bytes, Block] = {}
        # Of those that are still kept.
        self._writing_bytes = 0
        self._closed = False
        self._tick = self._writes_again_tick = 0
        self.counts = TierCounts()
        self._root = Block(b"", None, 0, [])
        # Unused for longest first; a block always after those that follow it in its chat.
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()
        self._work = TierWork()

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, key: bytes) -> Block | None:
        """The block of that name."""
        return self._blocks.get(key)

    def all(self) -> list[Block]:
        """Every block, the one unused for longest first."""
        return list(self._blocks.values())

    # -- looking up -------------------------------------------------------------------------------------------------

    def longest(self, prompt: list[int], most: int) -> Kept:
        """The longest beginning of ``prompt`` that is kept, ``most`` tokens of it at most. Marks it as used."""
        node, count = self._root, 0
        path: list[Block] = []
        while count < most:
            child, shared = self._best_child(node, prompt, count)
            if child is None:
                break
            path.append(child)
            count += shared
            if shared < len(child.tokens):
                break
            node = child
        self._touch(path)
        count = min(count, most)
        return Kept(count, tuple(block for block in path if block.start < count))

    def _best_child(self, node: Block, prompt: list[int], position: int) -> tuple[Block | None, int]:
        whole = prompt[position : position + self.block_tokens]
        exact = node.children.get(block_key(node.key, whole))
        if exact is not None:
            return exact, len(whole)
        best, best_rank = None, (0, False)
        for child in node.children.values():
            shared = common_prefix(child.tokens, prompt[position : position + len(child.tokens)])
            rank = (shared, bool(child.children))
            if shared and rank > best_rank:
                best, best_rank = child, rank
        return best, best_rank[0]

    def next_missing(self, parent: bytes, tokens: list[int], position: int) -> tuple[bytes, int]:
        """Walk down from ``parent``, which ends at ``position`` of ``tokens``, as far as blocks are kept.

        Gives the name of the last block that is kept and the position after it, where what is missing begins.
        """
        node = self._root if parent == b"" else self._blocks.get(parent)
        if node is None:
            return parent, position
        while position < len(tokens):
            wanted = tokens[position : position + self.block_tokens]
            child = node.children.get(block_key(node.key, wanted)) or self._near(node, wanted)
            if child is None:
                break
            node, position = child, min(child.end, len(tokens))
        self._touch(self._path(node))
        return node.key, position

    @staticmethod
    def _near(node: Block, wanted: list[int]) -> Block | None:
        """A child that holds all of ``wanted`` and more, or begins it and has blocks after it."""
        for child in node.children.values():
            shared = common_prefix(child.tokens, wanted)
            if shared == len(wanted) or (shared == len(child.tokens) and child.children):
                return child
        return None

    # -- keeping ----------------------------------------------------------------------------------------------------

    def keep(self, parent: bytes, tokens: list[int], size_bytes: int) -> None:
        """A block was saved to memory. Shorter ends of the same chat, which it holds too, go.

        Not kept, and its bytes are forgotten, when what it follows is not there any more.
        """
        node = self._root if parent == b"" else self._blocks.get(parent)
        key = block_key(parent, tokens)
        if node is None:
            self._work.forget.append(key)
            return
        there = self._blocks.get(key)
        if there is not None:
            # Found on disk meanwhile: that is where it is taken from.
            if not there.in_memory:
                self._work.forget.append(key)
            return
        self._drop_shorter(node, tokens)
        block = Block(key, node, node.end, tokens, size_bytes, in_memory=True)
        node.children[key] = block
        self._blocks[key] = block
        self._touch(self._path(block))
        self.memory_bytes += size_bytes
        self.counts.saves += 1
        self.counts.saved_bytes += size_bytes
        self._bound()

    def find_on_disk(self, parent: bytes, tokens: list[int], size_bytes: int) -> Block | None:
        """A file of an earlier run holds this block. None when it is of no use, and the file is deleted: what it
        follows is not there, the disk has no room for it, or nothing is kept any more."""
        node = self._root if parent == b"" else self._blocks.get(parent)
        key = block_key(parent, tokens)
        if node is None or not tokens or self._closed:
            self._work.delete.append(key)
            return None
        block = self._blocks.get(key)
        if block is None:
            block = Block(key, node, node.end, tokens, size_bytes)
            node.children[key] = block
            self._blocks[key] = block
            # Nobody has used it in this run: the first to go, but after what follows it.
            self._blocks.move_to_end(key, last=False)
        if not block.on_disk:
            block.on_disk = True
            self.disk_bytes += block.size_bytes
            self._bound()
        return block if key in self._blocks else None

    def _drop_shorter(self, node: Block, tokens: list[int]) -> None:
        for child in list(node.children.values()):
            shorter = len(child.tokens) < len(tokens) and child.tokens == tokens[: len(child.tokens)]
            if shorter and not (child.children or child.pins or child.moving):
                self._remove(child)

    def pin(self, block: Block) -> None:
        """Somebody is about to take it over: it stays where it is."""
        block.pins += 1

    def unpin(self, block: Block) -> None:
        """The other end of ``pin``."""
        if self._blocks.get(block.key) is not block:
            return
        block.pins -= 1
        assert block.pins >= 0, "a block was given up more often than it was asked for"
        self._bound()

    def discard(self, block: Block) -> None:
        """Its bytes are no good: nothing of it, or of what follows it, is used again."""
        for below in [*self._below(block), block]:
            below.pins = 0
            if below.key in self._blocks:
                self._remove(below)

    def clear(self) -> None:
        """Keep nothing from now on: what is in memory is forgotten, files are deleted, those too that are found or
        complete later."""
        self._closed = True
        for block in self._blocks.values():
            if block.in_memory:
                self._work.forget.append(block.key)
            if block.on_disk:
                self._work.delete.append(block.key)
        self._blocks.clear()
        self._root.children.clear()
        self.memory_bytes = self.disk_bytes = self._writing_bytes = 0
        self.memory_bound_bytes = self.disk_bound_bytes = 0

    # -- memory and disk --------------------------------------------------------------------------------------------

    def resize(self, memory_bytes: int, disk_bytes: int) -> None:
        """Other bounds from now on; nothing where nothing is kept any more."""
        if not self._closed:
            self.memory_bound_bytes, self.disk_bound_bytes = memory_bytes, disk_bytes
            self._bound()

    def read(self, block: Block) -> None:
        """Have it read from the disk."""
        if block.on_disk and not block.in_memory and not block.moving:
            block.moving = True
            self._work.read.append(block.key)

    def was_read(self, key: bytes, *, good: bool) -> bool:
        """It is in memory now, or its file was no good and is gone. False when nobody wants it any more."""
        block = self._blocks.get(key)
        if block is None or not block.moving or key in self._writing:
            return False
        block.moving = False
        if not good:
            self.discard(block)
            return False
        block.in_memory = True
        self.memory_bytes += block.size_bytes
        self._bound()
        return block.in_memory

    def write(self, block: Block) -> bool:
        """Have it written to disk, when it is not there already and the disk has room for it."""
        if block.on_disk or block.moving or not block.in_memory or block.size_bytes > self.disk_bound_bytes:
            return False
        if self._tick < self._writes_again_tick or block.key in self._writing:
            return False
        block.moving = True
        self._writing[block.key] = block
        self._writing_bytes += block.size_bytes
        self._work.write.append(block)
        return True

    def was_written(self, key: bytes, *, good: bool) -> None:
        """Its file is complete, or could not be written."""
        written = self._writing.pop(key, None)
        block = self._blocks.get(key)
        if block is None or block is not written:
            # Dropped since; what is kept again under that name may have other bytes.
            if good:
                self._work.delete.append(key)
            return
        block.moving = False
        self._writing_bytes -= block.size_bytes
        if good:
            if not block.on_disk:
                block.on_disk = True
                self.disk_bytes += block.size_bytes
            self._bound()
            return
        self._writes_again_tick = self._tick + PAUSE_TICKS
        if self.memory_bytes > self.memory_bound_bytes:
            self._leave_memory(block)
        self._bound()

    def tick(self) -> None:
        """Some seconds have gone: what was not used for a few of these times is written to disk, a little at once."""
        self._tick += 1
        idle = [block for block in self.unwritten() if self._tick - block.used_tick >= IDLE_TICKS]
        for block in idle[:WRITES_PER_TICK]:
            self.write(block)

    def unwritten(self) -> list[Block]:
        """What is in memory alone, the one that was used last first."""
        return [b for b in reversed(self._blocks.values()) if b.in_memory and not b.on_disk and not b.moving]

    def take_work(self) -> TierWork:
        """What has to be done; asked for once per step."""
        work, self._work = self._work, TierWork()
        return work

    def _bound(self) -> None:
        """Make both bounds hold, as far as pinned blocks and those on their way allow it."""
        if self.memory_bytes - self._writing_bytes > self.memory_bound_bytes:
            for block in list(self._blocks.values()):
                if self.memory_bytes - self._writing_bytes <= self.memory_bound_bytes:
                    break
                if not block.in_memory or block.pins or block.moving:
                    continue
                # What is being written stays until it is on disk: no more than a quarter of the memory waits so.
                waits = self._writing_bytes + block.size_bytes <= self.memory_bound_bytes // 4
                if not (waits and self.write(block)):
                    self._leave_memory(block)
        if self.disk_bytes > self.disk_bound_bytes:
            for block in list(self._blocks.values()):
                if self.disk_bytes <= self.disk_bound_bytes:
                    break
                if block.on_disk and not (block.pins or block.moving):
                    self._leave_disk(block)

    def _leave_memory(self, block: Block) -> None:
        if block.on_disk:
            block.in_memory = False
            self.memory_bytes -= block.size_bytes
            self._work.forget.append(block.key)
        elif not block.children:
            self.counts.drops += 1
            self._remove(block)

    def _leave_disk(self, block: Block) -> None:
        if block.in_memory:
            block.on_disk = False
            self.disk_bytes -= block.size_bytes
            self._work.delete.append(block.key)
            self.counts.disk_drops += 1
        elif not block.children:
            self.counts.disk_drops += 1
            self._remove(block)

    def _remove(self, block: Block) -> None:
        assert block.parent is not None
        del block.parent.children[block.key]
        del self._blocks[block.key]
        if block.in_memory:
            self.memory_bytes -= block.size_bytes
            self._work.forget.append(block.key)
            if block.moving:
                self._writing_bytes -= block.size_bytes
        block.moving = False
        if block.on_disk:
            self.disk_bytes -= block.size_bytes
            self._work.delete.append(block.key)

    # -- the tree ---------------------------------------------------------------------------------------------------

    def _touch(self, path: list[Block]) -> None:
        for block in reversed(path):
            block.used_tick = self._tick
            self._blocks.move_to_end(block.key)

    def _path(self, block: Block) -> list[Block]:
        path: list[Block] = []
        node: Block | None = block
        while node is not None and node is not self._root:
            path.append(node)
            node = node.parent
        path.reverse()
        return path

    def _below(self, block: Block) -> list[Block]:
        """Everything that follows a block, the last first."""
        found: list[Block] = []
        stack = list(block.children.values())
        while stack:
            child = stack.pop()
            found.append(child)
            stack.extend(child.children.values())
        found.reverse()
        return found

    def _all(self) -> Iterator[Block]:
        return iter(reversed(self._below(self._root)))

    def check_integrity(self) -> None:
        """Raise AssertionError when tree, order and sums disagree.

        Not looked at where there are many: an idle worker checks itself and must be ready at once all the same.
        """
        if len(self) > MOST_CHECKED:
            return
        found = list(self._all())
        assert {block.key for block in found} == set(self._blocks), "the tree and the list hold different blocks"
        assert len(found) == len(self._blocks), "a block twice in the tree"
        order = {key: number for number, key in enumerate(self._blocks)}
        for block in found:
            assert block.parent is not None
            assert block.tokens, "a block without tokens"
            assert block.start == block.parent.end, "a block that does not follow its parent"
            assert block.key == block_key(block.parent.key, block.tokens), "a block with another's name"
            assert block.in_memory or block.on_disk, "a block that lies nowhere"
            assert block.pins >= 0
            if block.parent is not self._root:
                assert order[block.key] < order[block.parent.key], "a block that would go after its parent"
        writing = [block for block in found if self._writing.get(block.key) is block]
        assert sum(block.size_bytes for block in writing) == self._writing_bytes, "bytes on their way are counted wrong"
        assert all(block.in_memory and block.moving for block in writing), "a block is written that is not there"
        memory = sum(block.size_bytes for block in found if block.in_memory)
        disk = sum(block.size_bytes for block in found if block.on_disk)
        assert (memory, disk) == (self.memory_bytes, self.disk_bytes), "bytes are counted wrong"
        held = sum(b.size_bytes for b in found if b.in_memory and (b.pins or b.moving or b.children))
        assert memory <= self.memory_bound_bytes + held, "more is kept in memory than its bound"
