"""Which seats x context to try: from what was asked for, or from what R1 needs in practice.

R1 thinks in thousands of tokens before it answers, so 8,192 tokens a seat are the least that serves people, and four
seats the usual wish; less is offered only when that does not fit, more when there is room. Evaluations of R1 allow
32,768 tokens (DeepSeek-R1 README).
"""

from __future__ import annotations

from dataclasses import dataclass

USUAL_SEATS = 4
USUAL_CONTEXT_TOKENS = 8192
SHORTEST_CONTEXT_TOKENS = 2048
MAX_SEATS = 1024

_LADDER = ((1, 4096), (1, 8192), (2, 8192), (4, 8192), (4, 16384), (8, 16384), (8, 32768), (16, 32768))
_SEATS = (1, 2, 4, 8, 16)
_CONTEXTS = (4096, 8192, 16384, 32768)
_SMALL_SEATS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Seating:
    """``levels`` of (seats, context tokens), each asking for more than the one before; from ``usual`` on a level is
    not a reduction."""

    levels: tuple[tuple[int, int], ...]
    usual: int

    def reduced(self, level: int) -> bool:
        return level < self.usual


def seating(seats: int | None, context_tokens: int | None, trained_tokens: int) -> Seating:
    """Levels for a wish; what was named is kept exactly, what was not is tried from small to large.

    Contexts above ``trained_tokens`` are cut to it (the caller refuses such a wish before). Raises ``ValueError`` for
    numbers below one.
    """
    check_wish(seats, context_tokens)
    if seats is not None and context_tokens is not None:
        levels: tuple[tuple[int, int], ...] = ((seats, context_tokens),)
        usual = levels[0]
    elif seats is not None:
        levels = tuple((seats, c) for c in _CONTEXTS)
        usual = (seats, USUAL_CONTEXT_TOKENS)
    elif context_tokens is not None:
        levels = tuple((s, context_tokens) for s in _SEATS)
        usual = (USUAL_SEATS, context_tokens)
    else:
        levels = _LADDER
        usual = (USUAL_SEATS, USUAL_CONTEXT_TOKENS)
    cut = tuple(dict.fromkeys((s, min(c, trained_tokens)) for s, c in levels))
    return Seating(levels=cut, usual=cut.index((usual[0], min(usual[1], trained_tokens))))


def check_wish(seats: int | None, context_tokens: int | None) -> None:
    """Raises ``ValueError`` when seats or context are not positive or beyond all sense."""
    if seats is not None and not 1 <= seats <= MAX_SEATS:
        raise ValueError(f"seats must be between 1 and {MAX_SEATS}, not {seats}")
    if context_tokens is not None and context_tokens < 1:
        raise ValueError(f"the context must have at least one token, not {context_tokens}")


def small_model_seating(trained_tokens: int) -> Seating:
    """For a model trained on a short context (demo and test models): up to eight seats of at most 4,096 tokens."""
    context = min(trained_tokens, 4096)
    shorter = [(1, context // 2)] if context // 2 >= SHORTEST_CONTEXT_TOKENS else []
    levels = (*shorter, *((s, context) for s in _SMALL_SEATS))
    return Seating(levels=levels, usual=levels.index((USUAL_SEATS, context)))


def smaller_wishes(seats: int, context_tokens: int) -> list[tuple[int, int]]:
    """What to offer instead of (seats, context), the largest first: fewer seats, then half the context with all seats,
    and so on down to one seat of ``SHORTEST_CONTEXT_TOKENS``."""
    offers: list[tuple[int, int]] = []
    context = context_tokens
    while context >= min(SHORTEST_CONTEXT_TOKENS, context_tokens) and context > 0:
        count = seats if context < context_tokens else seats // 2
        while count >= 1:
            offers.append((count, context))
            count //= 2
        context //= 2
    return sorted(set(offers), key=lambda o: (-o[0] * o[1], -o[1]))
