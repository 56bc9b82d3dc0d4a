"""Logging: lines for people on a terminal, JSON otherwise, always to stderr; keys never, prompts never.

Prompts and answers stay out because nothing passes them to a logger; redaction is for what slips into texts that
others write: an exception's message, a header, a command line.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import structlog

_HIDDEN = "***"
_API_KEY = re.compile(r"\br1b_[A-Za-z0-9_-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+")
_SECRET_NAMES = frozenset({"authorization", "x-api-key", "x_api_key", "api_key", "apikey", "cookie", "password"})


def configure_logging(level: str, *, stream: TextIO | None = None, human: bool | None = None) -> None:
    """Send structlog's and the standard library's records through one set of processors to ``stream`` (stderr).

    ``level`` is debug, info, warning or error. ``human`` None asks the stream whether it is a terminal. May be called
    again. Servers below must not configure logging themselves: start uvicorn with ``log_config=None`` and
    ``access_log=False`` (``appliance.api.context`` writes one line per request).
    """
    target = sys.stderr if stream is None else stream
    for_people = target.isatty() if human is None else human
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
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
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty())
        if for_people
        else structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # Their INFO lines repeat what our own lines say.
    for chatty in ("uvicorn.error", "uvicorn.access", "alembic", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))


def redact(logger: Any, method: str, event: Any) -> Any:
    """structlog processor: hide API keys, bearer tokens and values under names such as ``authorization``."""
    del logger, method
    # "_record" and "_from_structlog" are the formatter's own and are taken out before rendering.
    return {
        key: value if key.startswith("_") else (_HIDDEN if key.lower() in _SECRET_NAMES else _clean(value))
        for key, value in event.items()
    }


def redact_text(text: str) -> str:
    """``text`` without API keys and bearer tokens."""
    return _BEARER.sub(rf"\1 {_HIDDEN}", _API_KEY.sub(f"r1b_{_HIDDEN}", text))


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
