"""From token pieces to text that is never cut inside a character. Pure."""

from __future__ import annotations

import codecs


class Detokenizer:
    """One sequence's text. A token may hold part of a character (byte-level vocabularies): its bytes wait for the rest.

    Bytes that can never become a character are shown as U+FFFD, as every client expects of UTF-8 text.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, piece: bytes) -> str:
        """Text that is complete with ``piece``; empty while a character is not."""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)
