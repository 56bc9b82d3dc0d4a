"""Does a conversation fit in a seat? Counted before anything is generated; nothing is ever cut in silence."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.errors import ContextLengthExceeded, InvalidRequest


def reserved_tokens(max_tokens: int | None) -> int:
    """What the answer must have room for: what the client asked for, or one token.

    Raises InvalidRequest when ``max_tokens`` is below 1.
    """
    if max_tokens is None:
        return 1
    if max_tokens < 1:
        raise InvalidRequest(f"max_tokens must be at least 1; got {max_tokens}.", param="max_tokens")
    return max_tokens


def fewest_tokens(texts: Iterable[str], *, longest_token_bytes: int, limit_tokens: int) -> int:
    """A sure lower bound on the texts' token count: no token is longer than ``longest_token_bytes`` of UTF-8.

    Exact bytes are only counted when they can matter: characters alone are a bound, and quick for 10 MB.
    """
    parts = list(texts)
    chars = sum(map(len, parts))
    if chars > limit_tokens * longest_token_bytes or 4 * chars <= limit_tokens * longest_token_bytes:
        size = chars
    else:
        size = sum(len(part.encode("utf-8", "replace")) for part in parts)
    return -(-size // longest_token_bytes)


def refuse_if_surely_too_long(
    texts: Iterable[str],
    *,
    max_tokens: int | None,
    context_tokens: int,
    longest_token_bytes: int,
    can_trim: bool = False,
    without_turns: int = 0,
) -> None:
    """Spares the tokenizer a text that cannot fit even alone. Raises ContextLengthExceeded(prompt_is_minimum=True).

    One that only leaves too little room for ``max_tokens`` is worth counting exactly.
    """
    fewest = fewest_tokens(texts, longest_token_bytes=longest_token_bytes, limit_tokens=context_tokens - 1)
    if fewest >= context_tokens:
        raise ContextLengthExceeded(
            prompt_tokens=fewest,
            reserved_tokens=reserved_tokens(max_tokens),
            context_tokens=context_tokens,
            prompt_is_minimum=True,
            can_trim=can_trim,
            without_turns=without_turns,
        )


def room_wanted(max_tokens: int | None, *, context_tokens: int) -> int:
    """What trimming keeps free for the answer: ``max_tokens``, or a quarter of the seat. With less, a conversation that
    was just made to fit would leave R1 no room to think."""
    return context_tokens // 4 if max_tokens is None else max_tokens


def answer_tokens(
    *,
    prompt_tokens: int,
    max_tokens: int | None,
    profile_tokens: int | None,
    context_tokens: int,
    can_trim: bool = False,
    without_turns: int = 0,
) -> int:
    """How long the answer may become: ``max_tokens``, or what the seat has left, at most ``profile_tokens``.

    Raises ContextLengthExceeded when prompt and ``max_tokens`` (or one token) do not fit together.
    """
    reserved = reserved_tokens(max_tokens)
    left = context_tokens - prompt_tokens
    if reserved > left:
        raise ContextLengthExceeded(
            prompt_tokens=prompt_tokens,
            reserved_tokens=reserved,
            context_tokens=context_tokens,
            can_trim=can_trim,
            without_turns=without_turns,
        )
    if max_tokens is not None:
        return max_tokens
    return left if profile_tokens is None else min(left, profile_tokens)
