"""The budget of one chat template's rendering: steps, characters and CPU time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

MAX_DEPTH = 64
CHARS_PER_STEP = 64
_CPU_CHECK_EVERY_STEPS = 256


class RenderLimitExceeded(Exception):
    """The template worked more than any honest one needs."""


class RenderMeter:
    """The budget of one rendering. ``max_cpu_s`` is the rendering thread's own CPU time, so a busy machine is no fault.

    Raises RenderLimitExceeded from ``step`` and ``chars``.
    """

    def __init__(self, *, max_steps: int, max_chars: int, max_cpu_s: float) -> None:
        self._steps_left = max_steps
        self._chars_left = max_chars
        self._max_cpu_s = max_cpu_s
        self._cpu_end_s: float | None = None
        self._next_cpu_check = max_steps - _CPU_CHECK_EVERY_STEPS

    def step(self, count: int = 1) -> None:
        self._steps_left -= count
        if self._steps_left < 0:
            raise RenderLimitExceeded("it takes too many steps")
        if self._steps_left <= self._next_cpu_check:
            self._next_cpu_check = self._steps_left - _CPU_CHECK_EVERY_STEPS
            now_s = time.thread_time()
            if self._cpu_end_s is None:
                # Begun here: the clock is a call into the system, which most renderings are too short to need.
                self._cpu_end_s = now_s + self._max_cpu_s
            elif now_s > self._cpu_end_s:
                raise RenderLimitExceeded(f"it takes more than {self._max_cpu_s:g} s")

    def chars(self, count: int) -> None:
        """Text of ``count`` characters is about to be made."""
        self.step()
        self._chars_left -= count
        if self._chars_left < 0:
            raise RenderLimitExceeded("it makes too much text")

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield item

    def measure(self, value: Any, *, plain: bool = False) -> None:
        """Walk ``value`` as a tree, so that a list holding the same list twice counts twice, as printing it would.

        With ``plain`` anything but JSON's types is refused (SecurityError): its text could be of any size.
        """
        stack: list[tuple[Any, int]] = [(value, 0)]
        while stack:
            item, depth = stack.pop()
            if depth > MAX_DEPTH:
                raise RenderLimitExceeded("its values are nested too deeply")
            if isinstance(item, str):
                self.step(1 + len(item) // CHARS_PER_STEP)
                continue
            self.step()
            if isinstance(item, dict):
                self.step(len(item))
                stack.extend((key, depth + 1) for key in item)
                stack.extend((part, depth + 1) for part in item.values())
            elif isinstance(item, (list, tuple, set, frozenset)):
                self.step(len(item))
                stack.extend((part, depth + 1) for part in item)
            elif plain and not isinstance(item, (int, float, Undefined, type(None))):
                raise SecurityError(f"a {type(item).__name__} cannot be printed")

    def account(self, value: Any) -> Any:
        """Count what a call or filter gave; an iterator comes back counted."""
        if isinstance(value, str):
            self.chars(len(value))
        elif isinstance(value, (list, tuple, dict, set)):
            self.measure(value)
        elif isinstance(value, Iterator):
            return self.counted(value)
        return value

    def text_of(self, value: Any) -> str:
        """``str(value)`` as Jinja2 prints it, of bounded size."""
        if not isinstance(value, str):
            self.measure(value, plain=True)
        text = str(value)
        self.chars(len(text))
        return text
