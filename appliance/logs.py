"""Logging: lines for people on a terminal, JSON otherwise, always to stderr; keys never, prompts never.

Prompts and answers stay out because nothing passes them to a logger; redaction is for what slips into texts that
others write: an exception's message, a header, a command line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import structlog

_HIDDEN = "***"
_API_KEY = re.compile(r"\br1b_[A-Za-z0-9_-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_SESSION = re.compile(r"\b((?:__Host-)?r1box_session)=[^\s;,'\"]+")
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@")
"""The user's part of an address: ``http://user:password@proxy``."""
_SECRET_NAMES = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "x_api_key",
        "api_key",
        "apikey",
        "cookie",
        "set-cookie",
        "csrf_token",
        "x-r1box-csrf",
        "password",
        "secret",
        "setup_token",
    }
)
_CHATTY = ("uvicorn.error", "uvicorn.access", "alembic", "httpx", "httpcore")
"""Their INFO lines repeat what our own lines say."""


class JsonLines(structlog.stdlib.ProcessorFormatter):
    """Renders a record as one line of JSON, once for all handlers that have it."""

    def format(self, record: logging.LogRecord) -> str:
        line: str | None = record.__dict__.get("r1box_json")
        if line is None:
            line = super().format(record)
            record.__dict__["r1box_json"] = line
        return line


def configure_logging(
    level: str,
    *,
    stream: TextIO | None = None,
    human: bool | None = None,
    sinks: Sequence[logging.Handler] = (),
) -> None:
    """Send structlog's and the standard library's records through one set of processors to ``stream`` (stderr).

    ``level`` is debug, info, warning or error. ``human`` None asks the stream whether it is a terminal. May be called
    again. ``sinks`` get the same records as lines of JSON. Servers below must not configure logging themselves: start
    uvicorn with ``log_config=None`` and ``access_log=False`` (``appliance.api.context`` writes one line per request).
    """
    target = sys.stderr if stream is None else stream
    for_people = target.isatty() if human is None else human
    shared = _processors()
    lines = json_lines()
    formatter: logging.Formatter = lines
    if for_people:
        console = structlog.dev.ConsoleRenderer(colors=target.isatty())
        stripped = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[stripped, console])
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    for sink in sinks:
        sink.setFormatter(lines)
    logging.getLogger().handlers[:] = [handler, *sinks]
    set_level(level)


def add_sink(sink: logging.Handler) -> None:
    """Send the records to one more handler as lines of JSON, from now on; after ``configure_logging``."""
    sink.setFormatter(json_lines())
    logging.getLogger().addHandler(sink)


def json_lines() -> JsonLines:
    """What makes lines of JSON of structlog's and everybody's records."""
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    stripped = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return JsonLines(foreign_pre_chain=_processors(), processors=[stripped, as_json])


def _processors() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Before redaction, so that it sees the traceback's text. Local variables are not shown: they hold prompts.
        structlog.processors.format_exc_info,
        redact,
    ]


def set_level(level: str) -> None:
    """Log from this severity on: debug, info, warning or error. At any time."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))


def is_in_journal(stream: TextIO | None = None) -> bool:
    """Whether systemd's journal takes what goes to ``stream`` (stderr): systemd.exec(5), ``$JOURNAL_STREAM``."""
    try:
        status = os.fstat((sys.stderr if stream is None else stream).fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def redact(logger: Any, method: str, event: Any) -> Any:
    """structlog processor: hide API keys, bearer tokens and values under names such as ``authorization``."""
    del logger, method
    # "_record" and "_from_structlog" are the formatter's own and are taken out before rendering.
    return {
        key: value if key.startswith("_") else (_HIDDEN if key.lower() in _SECRET_NAMES else _clean(value))
        for key, value in event.items()
    }


def redact_text(text: str) -> str:
    """``text`` without API keys, tokens, session cookies and passwords in addresses."""
    text = _BEARER.sub(rf"\1 {_HIDDEN}", _API_KEY.sub(f"r1b_{_HIDDEN}", text))
    text = _SESSION.sub(rf"\1={_HIDDEN}", _HUB_TOKEN.sub(f"hf_{_HIDDEN}", text))
    return _CREDENTIALS.sub(rf"\1{_HIDDEN}@", text)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: _HIDDEN if str(key).lower() in _SECRET_NAMES else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))
