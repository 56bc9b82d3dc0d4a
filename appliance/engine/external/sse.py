"""Server-sent events out of a byte stream that may be cut anywhere. Pure.

Source: HTML Living Standard 9.2, "Server-sent events". Only ``data`` and ``event`` matter here.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Longest event; a longer one is no answer of a model."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``name`` is empty when the server gave none."""

    data: bytes
    name: str = ""


class SseError(Exception):
    """What came is no stream of events."""


class SseReader:
    """``feed`` every chunk in order; the events that are complete with it come out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises SseError for an event that is too long, or a line that is no field."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise SseError(f"a line of more than {MAX_EVENT_BYTES:,} bytes")
        events = []
        for line in lines:
            event = self._take(line.removesuffix(b"\r"))
            if event is not None:
                events.append(event)
        return events

    def finish(self) -> Event | None:
        """At the end of the stream: an event without its closing empty line, which MindIE's last one may be."""
        self._take(self._rest.removesuffix(b"\r")) if self._rest else None
        self._rest = b""
        return self._close()

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._close()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._size += len(value)
                if self._size > MAX_EVENT_BYTES:
                    raise SseError(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
                self._data.append(value)
            case b"event":
                self._name = value.decode(errors="replace")
            case b"" | b"id" | b"retry":
                pass
            case _:
                raise SseError(f"a line that is no field: {line[:80].decode(errors='replace')!r}")
        return None

    def _close(self) -> Event | None:
        event = Event(b"\n".join(self._data), self._name) if self._data else None
        self._data, self._name, self._size = [], "", 0
        return event
