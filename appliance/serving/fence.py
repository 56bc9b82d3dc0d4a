"""Keeps a client's text from forging the model's control tokens.

A rendered prompt is tokenised with control tokens recognised, so ``<｜User｜>`` inside a message would become a real
turn. Before rendering, each control token's text in what the client wrote is replaced by a sentinel of private-use
characters that nobody can guess; after rendering, each sentinel becomes an untrusted ``TextSegment`` with the token's
own text again. A template sees everything else unchanged.

The untrusted text is cut inside the token ("<", "｜User｜>"): llama.cpp finds USER_DEFINED tokens such as ``</think>``
even in text it was told not to parse for special tokens, but never across two segments.

The other way round, ``Fence.trust`` gives a sentinel for a token that the box itself writes into a message (a tool
call's marks, say): templates and later guards see none of it, and it comes out as trusted text.
"""

from __future__ import annotations

import re
import secrets

from appliance.engine.request import TextSegment

MAX_TOKENS = 20_000
MAX_TOKEN_CHARS = 256
_PRIVATE_FIRST, _PRIVATE_COUNT = 0xE000, 0xF8FF - 0xE000 + 1
_NONCE_CHARS = 12  # 12 of 6,400 characters: 151 bits
_WINDOW_CHARS = 65_536


class ControlTokens:
    """Finds control tokens in text, the longest at the leftmost place; linear in the text for any vocabulary.

    Tokens of one character or of white space alone are left out: some vocabularies declare line breaks as
    USER_DEFINED, and they forge nothing. Raises ValueError when the vocabulary's own set is out of bounds.
    """

    def __init__(self, tokens: frozenset[str]) -> None:
        wanted = sorted(token for token in tokens if len(token) > 1 and not token.isspace())
        if len(wanted) > MAX_TOKENS or any(len(token) > MAX_TOKEN_CHARS for token in wanted):
            raise ValueError("too many or too long control tokens")
        self._longest = max(map(len, wanted), default=0)
        try:
            self._pattern = re.compile(_trie(wanted)) if wanted else None
        except RecursionError as error:
            raise ValueError("control tokens are nested too deeply") from error

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each token. Goes window by window: one regex call over a huge text would hold Python's
        lock, and with it the event loop, for its whole length."""
        found: list[tuple[int, int]] = []
        if self._pattern is None:
            return found
        position = 0
        while position < len(text):
            window_end = position + _WINDOW_CHARS
            match_end = window_end + self._longest - 1
            for match in self._pattern.finditer(text, position, match_end):
                if match.start() >= window_end:
                    break
                found.append(match.span())
                position = match.end()
            position = max(position, window_end)
        return found

    def pieces(self, token: str) -> list[str]:
        """``token`` cut so that no piece holds a control token."""
        pieces = []
        while self._pattern is not None and (match := self._pattern.search(token)):
            pieces.append(token[: match.start() + 1])
            token = token[match.start() + 1 :]
        return [*pieces, token]


class Fence:
    """The sentinels of one rendering."""

    def __init__(self, tokens: ControlTokens) -> None:
        self._tokens = tokens
        self._nonce: str | None = None
        self._kept: list[tuple[str, bool]] = []
        """Texts behind sentinels, and whether they are trusted."""
        self._numbers: dict[tuple[str, bool], int] = {}

    def guard(self, text: str) -> str:
        """``text`` with a sentinel in place of each control token."""
        spans = self._tokens.spans(text)
        if not spans:
            return text
        parts, done = [], 0
        for start, end in spans:
            parts += [text[done:start], self._sentinel(text[start:end], trusted=False)]
            done = end
        return "".join([*parts, text[done:]])

    def trust(self, text: str) -> str:
        """A sentinel that comes out as ``text``, a part of the trusted text around it."""
        return self._sentinel(text, trusted=True)

    def segments(self, rendered: str) -> list[TextSegment]:
        """The rendered text cut at its untrusted sentinels; one trusted segment when there are none. Empty ones are
        left out."""
        if self._nonce is None:
            return [TextSegment(rendered)] if rendered else []
        first, last = _private(0), _private(_PRIVATE_COUNT - 1)
        sentinel = re.compile(f"{self._nonce}([{first}-{last}])([{first}-{last}])")
        segments: list[TextSegment] = []
        trusted: list[str] = []
        done = 0
        for match in sentinel.finditer(rendered):
            number = _number(match[1]) * _PRIVATE_COUNT + _number(match[2])
            if number >= len(self._kept):
                continue
            trusted.append(rendered[done : match.start()])
            done = match.end()
            text, is_trusted = self._kept[number]
            if is_trusted:
                trusted.append(text)
                continue
            segments += _joined(trusted)
            segments += [TextSegment(piece, trusted=False) for piece in self._tokens.pieces(text)]
            trusted = []
        return [*segments, *_joined([*trusted, rendered[done:]])]

    def _sentinel(self, text: str, *, trusted: bool) -> str:
        if self._nonce is None:
            self._nonce = "".join(_private(secrets.randbelow(_PRIVATE_COUNT)) for _ in range(_NONCE_CHARS))
        number = self._numbers.setdefault((text, trusted), len(self._kept))
        if number == len(self._kept):
            self._kept.append((text, trusted))
        return f"{self._nonce}{_private(number // _PRIVATE_COUNT)}{_private(number % _PRIVATE_COUNT)}"


def _joined(parts: list[str]) -> list[TextSegment]:
    text = "".join(parts)
    return [TextSegment(text)] if text else []


def _private(number: int) -> str:
    return chr(_PRIVATE_FIRST + number)


def _number(character: str) -> int:
    return ord(character) - _PRIVATE_FIRST


def _common_start(first: str, last: str) -> str:
    for index, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:index]
    return first if len(first) <= len(last) else last


def _trie(tokens: list[str]) -> str:
    """A pattern for sorted ``tokens`` that never tries a shared beginning twice and takes the longest of them."""
    groups: dict[str, list[str]] = {}
    for token in tokens:
        groups.setdefault(token[:1], []).append(token)
    branches = []
    for group in groups.values():
        prefix = _common_start(group[0], group[-1])  # sorted, so it is common to all between
        rests = [token[len(prefix) :] for token in group]
        longer = [rest for rest in rests if rest]
        branch = re.escape(prefix)
        if longer:
            branch += f"(?:{_trie(longer)})" + ("?" if len(longer) < len(rests) else "")
        branches.append(branch)
    return "|".join(branches)
