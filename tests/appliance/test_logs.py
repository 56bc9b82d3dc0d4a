from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from appliance.logs import configure_logging

KEY = "r1b_" + "aB3-_" * 8 + "xyz"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def output() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    return stream


def test_json_lines_with_request_id(output: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(request_id="req_1")
    structlog.get_logger("box").info("request", status=200, path="/é")
    line = json.loads(output.getvalue())
    assert line["event"] == "request"
    assert (line["status"], line["path"], line["request_id"]) == (200, "/é", "req_1")
    assert (line["level"], line["logger"]) == ("info", "box")
    assert line["timestamp"].endswith("Z")


def test_standard_library_records_take_the_same_way(output: io.StringIO) -> None:
    logging.getLogger("other").warning("got %s", KEY)
    line = json.loads(output.getvalue())
    assert line["event"] == "got r1b_***"
    assert line["level"] == "warning"


def test_level_is_respected(output: io.StringIO) -> None:
    structlog.get_logger("box").debug("unseen")
    logging.getLogger("other").debug("unseen")
    assert output.getvalue() == ""


def test_keys_never_appear(output: io.StringIO) -> None:
    log = structlog.get_logger("box")
    leaked = f"event {KEY}"
    log.info(leaked, authorization="anything", headers={"Authorization": "x-y-z", "Accept": "a"})
    log.info("e", argv=["curl", "-H", f"Authorization: Bearer {KEY}"], header="bearer other.token.here, next")
    log.info("e", error=ValueError(KEY), X_API_KEY="plain")
    try:
        raise RuntimeError(f"failed with {KEY}")
    except RuntimeError:
        log.exception("crash")
    text = output.getvalue()
    for secret in (KEY, KEY[4:], "anything", "x-y-z", "other.token.here", "plain"):
        assert secret not in text
    assert "RuntimeError: failed with r1b_***" in text
    assert '"Accept": "a"' in text


def test_tracebacks_show_no_local_variables(output: io.StringIO) -> None:
    def work(prompt: str) -> None:
        raise RuntimeError("broken")

    question = "my secret question"
    try:
        work(question)
    except RuntimeError:
        structlog.get_logger("box").exception("crash")
    assert "broken" in output.getvalue()
    assert "my secret question" not in output.getvalue()


def test_lines_for_people() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream, human=True)
    structlog.get_logger("box").info("model_loaded", key=KEY, seconds=2)
    assert "model_loaded" in stream.getvalue()
    assert "seconds=2" in stream.getvalue()
    assert KEY not in stream.getvalue()
    assert not stream.getvalue().startswith("{")
