"""Divides what the box has once among the workers of all its models: processor cores, and room for idle chats.

*Cores* go to models that compute on the processor and are busy (answer somebody, or load): equal parts, the earlier
ones get what is left over, nobody less than one. A model that is busy alone has all of them. Threads of two models that
wait for each other's cores would make both slower than taking turns: OpenMP's threads meet after every operation.

*Memory and disk for idle chats* go to all models that are loaded, in equal parts, busy or not. When what is free
allows a later model less than an earlier one, the least is what all together may use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may use: ``threads``, and bytes of the host's memory and of disk that keep idle chats."""

    threads: int
    chat_memory_bytes: int = 0
    chat_disk_bytes: int = 0


@dataclass(slots=True)
class _Member:
    alone: Share
    on_processor: bool
    tell: Callable[[Share], None]
    told: Share
    busy: bool = True


class BoxShares:
    """Who is there and what each has. One per daemon; not for several threads."""

    def __init__(self) -> None:
        self._members: dict[int, _Member] = {}
        self._joined = 0

    def join(self, alone: Share, tell: Callable[[Share], None], *, on_processor: bool) -> tuple[int, Share]:
        """A worker is about to load, which counts as busy. ``alone`` is what it would have without others; ``tell`` is
        called with each other share that it gets later. The result is its name here, and its share now.

        Who computes on cards alone (not ``on_processor``) keeps its threads: they hardly run.
        """
        self._joined += 1
        self._members[self._joined] = _Member(alone, on_processor, tell, alone)
        self._divide(quiet=self._joined)
        return self._joined, self._members[self._joined].told

    def leave(self, name: int) -> None:
        """The worker has ended. Idempotent."""
        if self._members.pop(name, None) is not None:
            self._divide()

    def set_busy(self, name: int, *, busy: bool) -> None:
        """The worker has something to compute, or nothing any more. Nothing happens for one that has left."""
        member = self._members.get(name)
        if member is not None and member.busy != busy:
            member.busy = busy
            self._divide()

    def _divide(self, quiet: int | None = None) -> None:
        members = self._members
        memory = _parts([one.alone.chat_memory_bytes for one in members.values()])
        disk = _parts([one.alone.chat_disk_bytes for one in members.values()])
        computing = [name for name, one in members.items() if one.busy and one.on_processor]
        cores = max((members[name].alone.threads for name in computing), default=0)
        for (name, member), memory_bytes, disk_bytes in zip(members.items(), memory, disk, strict=True):
            share = replace(member.told, chat_memory_bytes=memory_bytes, chat_disk_bytes=disk_bytes)
            if name in computing:
                place = computing.index(name)
                threads = cores // len(computing) + (place < cores % len(computing))
                share = replace(share, threads=max(1, min(threads, member.alone.threads)))
            if share != member.told:
                member.told = share
                if name != quiet:
                    member.tell(share)


def _parts(wanted: list[int]) -> list[int]:
    """The smallest wish is what all may have together; who wishes nothing gets nothing and takes nothing."""
    wishes = [one for one in wanted if one > 0]
    return [min(wishes) // len(wishes) if one > 0 else 0 for one in wanted]
