"""Reads a server's log while it starts: how far it is, and in the end why it failed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.engine.external.launch import LogWords

MAX_CAUSE_CHARS = 400


class StartLog:
    """One start. Give it every line; ``fraction`` never falls."""

    def __init__(self, words: LogWords) -> None:
        self.fraction = 0.0
        self._steps = [(re.compile(pattern), low, high) for pattern, low, high in words.steps]
        self._causes = [re.compile(pattern) for pattern in words.causes]
        self._echoes = [re.compile(pattern) for pattern in words.echoes]

    def take(self, line: str) -> None:
        """A new line of the log."""
        for pattern, low, high in self._steps:
            found = pattern.search(line)
            if found is not None:
                part = float(found["part"]) / 100 if high is not None and found["part"] else 1.0
                share = low if high is None else low + (high - low) * min(max(part, 0.0), 1.0)
                self.fraction = max(self.fraction, share)

    def cause(self, lines: Sequence[str]) -> str | None:
        """The server's own reason, in its own words: of the most telling kind that is there the last one, for what
        comes after a first failure is what follows from it. ``None`` when the log gives none."""
        for pattern in self._causes:
            found = [match for line in lines if (match := pattern.search(line)) and not self._is_echo(line)]
            if found:
                return found[-1]["cause"].strip()[:MAX_CAUSE_CHARS]
        return None

    def _is_echo(self, line: str) -> bool:
        return any(pattern.search(line) for pattern in self._echoes)


def without_secrets(lines: Sequence[str], secrets: Sequence[str]) -> tuple[str, ...]:
    """The lines with every secret blacked out."""
    hidden = [secret for secret in secrets if secret]
    found = []
    for line in lines:
        for secret in hidden:
            line = line.replace(secret, "[redacted]")
        found.append(line)
    return tuple(found)
