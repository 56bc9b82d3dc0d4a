"""The values of what is kept outside of the KV cache: blocks, their names, bounds and what is to be done. Pure."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field

KEY_BYTES = 16


def block_key(parent: bytes, tokens: list[int]) -> bytes:
    """The name of a block after ``parent`` (``b""`` at the beginning)."""
    return hashlib.blake2b(parent + array("i", tokens).tobytes(), digest_size=KEY_BYTES).digest()


@dataclass(slots=True, eq=False)
class Block:
    """A run of tokens after those of ``parent``; ``start`` is the position of its first one.

    ``moving`` while it is read from the disk or written to it; ``pins`` sequences are about to take it over. It was
    used last in the time of ``used_tick``.
    """

    key: bytes
    parent: Block | None
    start: int
    tokens: list[int]
    size_bytes: int = 0
    in_memory: bool = False
    on_disk: bool = False
    moving: bool = False
    pins: int = 0
    used_tick: int = 0
    children: dict[bytes, Block] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Kept:
    """The first ``tokens`` tokens of a prompt are in ``blocks``, of which the last may hold more."""

    tokens: int = 0
    blocks: tuple[Block, ...] = ()


@dataclass(slots=True)
class TierWork:
    """What has to be done with blocks outside of the KV cache: forget their bytes in memory, write them to disk, read
    them, delete their files."""

    forget: list[bytes] = field(default_factory=list)
    write: list[Block] = field(default_factory=list)
    read: list[bytes] = field(default_factory=list)
    delete: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class TierCounts:
    """Totals: blocks saved and their bytes, blocks dropped from memory for good and from disk."""

    saves: int = 0
    saved_bytes: int = 0
    drops: int = 0
    disk_drops: int = 0


@dataclass(frozen=True, slots=True)
class TierLimits:
    """How much is kept outside of the KV cache: nothing without ``memory_bytes``, through which the disk is reached.

    Blocks are ``block_tokens`` long, of which each takes about ``bytes_per_token``.
    """

    memory_bytes: int = 0
    disk_bytes: int = 0
    block_tokens: int = 256
    bytes_per_token: float = 0.0


LARGEST_BLOCK_BYTES = 16 * 1024 * 1024
MOST_BLOCK_TOKENS, FEWEST_BLOCK_TOKENS = 256, 32


def block_tokens_for(bytes_per_token: float) -> int:
    """How long blocks are: 256 tokens, fewer where these would take long to move, never fewer than 32."""
    tokens = MOST_BLOCK_TOKENS
    while tokens > FEWEST_BLOCK_TOKENS and tokens * bytes_per_token > LARGEST_BLOCK_BYTES:
        tokens //= 2
    return tokens
