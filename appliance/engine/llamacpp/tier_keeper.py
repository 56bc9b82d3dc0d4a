"""The worker's hand in the tiers: does what the scheduler decided about blocks, and tells it what came of it."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.llamacpp.scheduler import Scheduler
from appliance.engine.llamacpp.tier_disk import (
    BlockRead,
    BlocksFound,
    BlockWritten,
    DiskMessage,
    DiskRoom,
    DiskTick,
    DiskTier,
)
from appliance.engine.llamacpp.tier_files import BlockHeader

READ_TIMEOUT_S = 10.0
"""Who waits for a disk that long computes its prompt instead."""

T = TypeVar("T")


def open_disk(config: WorkerConfig, identity: bytes | None, post: Callable[[DiskMessage], None]) -> DiskTier | None:
    """The disk tier that the configuration asks for, None for none. ``identity`` None: bytes fit nothing later."""
    if identity is None or not (config.tier_disk_bytes and config.tier_dir and config.tier_key_file):
        return None
    return DiskTier(Path(config.tier_dir), Path(config.tier_key_file), identity, config.tier_disk_bytes, post)


class TierKeeper:
    """``blocks`` are the bytes in memory by the blocks' names, shared with the runner; only the main thread changes it.

    Everything here is called by the worker's main thread and returns at once, but for ``wait`` and ``close``.
    """

    def __init__(self, scheduler: Scheduler, blocks: dict[bytes, Any], disk: DiskTier | None) -> None:
        self._scheduler = scheduler
        self._tiers = scheduler.tiers
        self._blocks = blocks
        self._disk = disk if self._tiers.enabled else None
        self._reading: dict[bytes, float] = {}
        if self._disk is not None:
            self._disk.start()

    @property
    def has_disk(self) -> bool:
        """Whether chats are kept over the worker's end."""
        return self._disk is not None

    def do_work(self) -> None:
        """What was decided since the last call."""
        work = self._tiers.take_work()
        if self._disk is not None:
            for block in work.write:
                assert block.parent is not None
                header = BlockHeader(block.parent.key, block.tokens, block.size_bytes)
                self._disk.write(block.key, header, self._blocks[block.key])
            for key in work.read:
                self._reading[key] = time.monotonic()
                self._disk.read(key)
            for key in work.delete:
                self._disk.delete(key)
        for key in work.forget:
            self._blocks.pop(key, None)
        if self._reading:
            self._give_up_slow_reads()

    def wait(self, inbox: queue.SimpleQueue[T]) -> T | DiskTick:
        """The next message; not longer than a read may take when one is under way."""
        if not self._reading:
            return inbox.get()
        try:
            return inbox.get(timeout=READ_TIMEOUT_S)
        except queue.Empty:
            return DiskTick()

    def take(self, message: DiskMessage) -> None:
        """Something that the disk's thread did."""
        match message:
            case BlocksFound():
                self._tiers.index.resize(self._tiers.index.memory_bound_bytes, message.bound_bytes)
                for header in message.headers:
                    self._tiers.index.find_on_disk(header.parent, header.tokens, header.size_bytes)
            case BlockRead():
                self._reading.pop(message.key, None)
                good = message.data is not None
                if self._scheduler.block_was_read(message.key, message.seconds, good=good):
                    self._blocks[message.key] = message.data
            case DiskRoom():
                self._tiers.index.resize(self._tiers.index.memory_bound_bytes, message.bound_bytes)
            case BlockWritten():
                self._tiers.index.was_written(message.key, good=message.good)
            case DiskTick(wiped=True):
                self._scheduler.forget_tiers()
            case DiskTick():
                self._tiers.index.tick()
        self.do_work()

    def resize(self, memory_bytes: int, disk_bytes: int) -> None:
        """Other models take their part, or have left theirs. The disk's is known when what lies there was counted; less
        than before holds at once."""
        if not self._tiers.enabled:
            return
        index = self._tiers.index
        index.resize(memory_bytes, min(index.disk_bound_bytes, disk_bytes))
        if self._disk is not None:
            self._disk.resize(disk_bytes)
        self.do_work()

    def _give_up_slow_reads(self) -> None:
        late = [key for key, since in self._reading.items() if time.monotonic() - since > READ_TIMEOUT_S]
        for key in late:
            sys.stderr.write(f"a chat on disk was not read within {READ_TIMEOUT_S:.0f} s; its prompt is computed\n")
            del self._reading[key]
            self._scheduler.block_was_read(key, 0.0, good=False)

    def close(self, step: Callable[[], None], save_s: float) -> None:
        """Write what is kept in memory alone, and what idle slots hold, as far as ``save_s`` seconds go.

        ``step`` runs one step of the scheduler, in which nothing but saves is left to do.
        """
        assert self._disk is not None
        deadline = time.monotonic() + save_s
        while self._tiers.has_work and time.monotonic() < deadline:
            step()
        for block in self._tiers.index.unwritten():
            self._tiers.index.write(block)
        self.do_work()
        left = self._disk.close(max(0.0, deadline - time.monotonic()))
        if left:
            sys.stderr.write(f"{left} blocks of chats could not be written in {save_s:.1f} s and are lost\n")
