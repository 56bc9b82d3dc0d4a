"""What the person who waits sees: one line redrawn in place on a terminal, plain lines everywhere else.

On a terminal: `[3/5] packages  [####............] 58/193  1 min 12 s, about 3 min left  building llama.cpp`.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from typing import TextIO

_BAR_CELLS = 16
_REDRAW_S = 0.2
_PLAIN_HEARTBEAT_S = 15.0
_MIN_FRACTION_FOR_ESTIMATE = 0.1


def duration(seconds: float) -> str:
    """`7 s`, `1 min 12 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


class Progress:
    """Shows numbered steps. Calls come in this order for each step: `begin`, any of the others, then `end`."""

    def __init__(
        self,
        stream: TextIO,
        interactive: bool,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._stream = stream
        self._interactive = interactive
        self._steps = steps
        self._clock = clock
        self._columns = columns
        self._number = 0
        self._title = ""
        self._begun_s = 0.0
        self._detail = ""
        self._bar: tuple[int, int, float] | None = None  # done, total, when it began
        self._drawn_s = -math.inf
        self._spoke_s = 0.0
        self._tenth = 0

    def begin(self, title: str) -> None:
        self._number += 1
        self._title = title
        self._begun_s = self._spoke_s = self._clock()
        self._detail = ""
        self._bar = None
        self._tenth = 0
        self._drawn_s = -math.inf
        if self._interactive:
            self.tick()
        else:
            self._line(f"{self._head()} ...")

    def note(self, text: str) -> None:
        """What is going on inside the step, in a few words; replaces the last note and the bar."""
        self._detail = text
        self._bar = None
        self.tick()

    def say(self, text: str) -> None:
        """A whole line that stays."""
        if self._interactive:
            self._stream.write(f"\r\x1b[K{text}\n")
            self._drawn_s = -math.inf
            self.tick()
        else:
            self._line(text)

    def bar(self, done: int, total: int, what: str) -> None:
        """`done` of `total` steps of `what`; the time left is reckoned from the bar's own beginning."""
        begun_s = self._bar[2] if self._bar else self._clock()
        self._bar = (done, total, begun_s)
        self._detail = what
        if not self._interactive and (tenth := done * 10 // total) > self._tenth:
            self._tenth = tenth
            self._speak()
        self.tick()

    def tick(self) -> None:
        """Let time pass on the screen; cheap enough to be called after every line of output."""
        now_s = self._clock()
        if self._interactive:
            if now_s - self._drawn_s >= _REDRAW_S:
                self._drawn_s = now_s
                text = "  ".join(part for part in (self._head(), self._drawn_bar(), self._time(), self._detail) if part)
                self._stream.write(f"\r\x1b[K{text[: max(20, self._columns() - 1)]}")
                self._stream.flush()
        elif now_s - self._spoke_s >= _PLAIN_HEARTBEAT_S:
            self._speak()

    def end(self, result: str = "done") -> None:
        took = f"{self._head()}: {result}, {duration(self._clock() - self._begun_s)}"
        if self._interactive:
            self._stream.write(f"\r\x1b[K{took}\n")
            self._stream.flush()
        else:
            self._line(took)

    def _head(self) -> str:
        return f"[{self._number}/{self._steps}] {self._title}"

    def _speak(self) -> None:
        self._spoke_s = self._clock()
        detail = f"{self._detail}, " if self._detail else ""
        if self._bar:
            detail = f"{self._bar[0]} of {self._bar[1]}, {detail}"
        self._line(f"{self._head()}: {detail}{self._time()}")

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _drawn_bar(self) -> str:
        if self._bar is None:
            return ""
        done, total, _ = self._bar
        filled = done * _BAR_CELLS // total
        return f"[{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {done}/{total}"

    def _time(self) -> str:
        now_s = self._clock()
        elapsed = duration(now_s - self._begun_s)
        if self._bar is None:
            return elapsed
        done, total, begun_s = self._bar
        if done / total < _MIN_FRACTION_FOR_ESTIMATE or done == total:
            return elapsed
        left_s = (now_s - begun_s) * (total - done) / done
        return f"{elapsed}, about {duration(left_s) if left_s < 60 else f'{math.ceil(left_s / 60)} min'} left"
