"""Which tokens a piece of an answer came from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from appliance.engine.request import TokenLogprob


@dataclass(slots=True)
class _Tokens:
    """Tokens that together made the characters ``start`` to ``end`` of the output."""

    start: int
    end: int
    logprobs: tuple[TokenLogprob, ...]


@dataclass(slots=True)
class TokenAligner:
    """Follows an output from its tokens to the text of it that is passed on, by counting characters.

    A token belongs to the text as soon as one of its characters does: of a token whose end is a stop string the
    beginning was said. Tokens that hold a part of a character go with the one that completes it. Each is given out
    once, in order; those between pieces of text (tags, calls) are not.
    """

    position: int = 0
    """Characters of the output so far."""
    _tokens: deque[_Tokens] = field(default_factory=deque)
    _parts: tuple[TokenLogprob, ...] = ()
    _unsaid: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        """The output goes on with ``text``, which these tokens made."""
        start, self.position = self.position, self.position + len(text)
        self._parts += logprobs
        if text and self._parts:
            self._tokens.append(_Tokens(start, self.position, self._parts))
            self._parts = ()

    def forget(self) -> None:
        """No token so far made any text that will be passed on."""
        self._tokens.clear()
        self._parts = ()

    def expect(self, start: int, length: int) -> None:
        """So many characters from ``start`` on are text, which will be passed on in their order, if at all."""
        self._unsaid.append((start, length))

    def pass_on(self, length: int) -> tuple[TokenLogprob, ...]:
        """The next ``length`` of the expected characters are passed on; log probabilities of their tokens."""
        logprobs: tuple[TokenLogprob, ...] = ()
        while length > 0 and self._unsaid:
            start, expected = self._unsaid.popleft()
            taken = min(length, expected)
            if taken < expected:
                self._unsaid.appendleft((start + taken, expected - taken))
            length -= taken
            logprobs += self._take(start, start + taken)
        return logprobs

    def _take(self, start: int, end: int) -> tuple[TokenLogprob, ...]:
        logprobs: tuple[TokenLogprob, ...] = ()
        while self._tokens and self._tokens[0].start < end:
            tokens = self._tokens.popleft()
            if tokens.end > start:
                logprobs += tokens.logprobs
        return logprobs
