"""Stop strings in a stream.

They end the answer, not the thought: a thought often holds a client's stop string (a blank line, a code fence, the word
it was told to end with), and stopping there would give no answer at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import InvalidRequest

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 500


def check_stop_strings(stops: Sequence[str]) -> None:
    """Raises InvalidRequest(param="stop") for more or longer ones than are taken, and for an empty one."""
    if len(stops) > MAX_STOP_STRINGS:
        raise InvalidRequest(f"At most {MAX_STOP_STRINGS} stop strings are taken; got {len(stops)}.", param="stop")
    if any(not 0 < len(stop) <= MAX_STOP_CHARS for stop in stops):
        raise InvalidRequest(f"A stop string has 1 to {MAX_STOP_CHARS} characters.", param="stop")


class StopFilter:
    """Passes text on until a stop string is complete; the string itself is left out.

    The first to be complete wins; of several that end at the same character the longest. That makes the result the same
    for any cut of the text. What is held back is never more than the longest end of the text that begins a stop string
    (the matching is Knuth-Morris-Pratt's, one automaton for each string: constant work for each character).
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._borders = [_borders(stop) for stop in self._stops]
        self._matched = [0] * len(self._stops)
        self._held = ""
        self.stop_string: str | None = None

    def feed(self, text: str) -> str:
        """The text that is certainly before any stop string. After a stop (``stop_string`` is set) always ``""``."""
        if self.stop_string is not None:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        for index in range(len(self._held), len(text)):
            if self._advance(text[index]):
                self._held = ""
                return text[: index + 1 - len(self.stop_string or "")]
        keep = max(self._matched)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, when the text has ended without a stop. A text after it is another one."""
        held, self._held = self._held, ""
        self._matched = [0] * len(self._stops)
        return held

    def _advance(self, character: str) -> bool:
        for number, stop in enumerate(self._stops):
            matched = self._matched[number]
            while matched and stop[matched] != character:
                matched = self._borders[number][matched - 1]
            if stop[matched] == character:
                matched += 1
            self._matched[number] = matched
            if matched == len(stop):
                self.stop_string = stop
                return True
        return False


def _borders(stop: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its end."""
    borders = [0] * len(stop)
    length = 0
    for index in range(1, len(stop)):
        while length and stop[index] != stop[length]:
            length = borders[length - 1]
        if stop[index] == stop[length]:
            length += 1
        borders[index] = length
    return borders
