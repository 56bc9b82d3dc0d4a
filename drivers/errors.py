"""Base of the errors that ``drivers`` raises: a stable code, a plain message, what to do next, an HTTP status."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` without control and direction characters: what tools and files say lands in logs and on terminals."""
    return "".join(character for character in text if character.isprintable())


class DriverError(Exception):
    """An error with everything a reader or an API envelope needs.

    ``code`` is stable snake_case for programs, ``message`` one plain sentence, ``hint`` what to do next (``None`` when
    there is nothing to do), ``http_status`` what an API answers with when the error reaches it, ``details`` the facts
    behind the message for programs.
    """

    def __init__(
        self, code: str, message: str, hint: str | None = None, *, http_status: int = 500, **details: object
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.http_status = http_status
        self.details: dict[str, object] = details


class MonitorFailed(DriverError):
    """A monitor could not sample: ``code`` is ``monitor_timed_out``, ``monitor_crashed``, ``monitor_refused`` (the
    library does not start) or ``monitor_unavailable`` (nothing to monitor with)."""
