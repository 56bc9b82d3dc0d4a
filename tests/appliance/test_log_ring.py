"""The ring of log lines: bounds, filters, pages, followers; files that rotate; nothing secret in either."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from appliance.log_file import FILES, LogFile, open_log_file, read_lines
from appliance.log_ring import MOST_LINE_CHARS, LogEntry, LogFilter, LogGap, LogRing
from appliance.logs import add_sink, configure_logging, is_in_journal, set_level
from appliance.settings import Settings

KEY = "r1b_" + "aB3-_" * 8 + "xyz"
START = datetime(2026, 11, 20, 12, tzinfo=UTC)


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
def ring() -> LogRing:
    made = LogRing()
    configure_logging("debug", stream=sys.stderr, human=True, sinks=(made.handler,))
    return made


def put(
    ring: LogRing, event: str, *, level: int = logging.INFO, logger: str = "appliance.api.app", **more: object
) -> None:
    ring.add(START, level, logger, json.dumps({"event": event, **more}, ensure_ascii=False))


def events(entries: tuple[LogEntry, ...]) -> list[str]:
    return [entry.fields()["event"] for entry in entries]


def test_lines_come_with_number_part_and_fields(ring: LogRing) -> None:
    structlog.contextvars.bind_contextvars(request_id="req_1")
    structlog.get_logger("appliance.jobs.service").warning("job_interrupted", job="job_1", path="/é")
    logging.getLogger("uvicorn.error").error("broken %s", "pipe")
    first, second = ring.page().entries
    assert (first.seq, first.level, first.part) == (1, logging.WARNING, "jobs")
    assert first.fields()["job"] == "job_1"
    assert first.fields()["request_id"] == "req_1"
    assert (second.seq, second.part, second.fields()["event"]) == (2, "uvicorn", "broken pipe")


def test_what_is_secret_never_gets_in(ring: LogRing) -> None:
    log = structlog.get_logger("appliance.api")
    leaked = f"key {KEY}"
    log.info(leaked, authorization="Bearer x.y.z", url="http://chen:hunter2@proxy:3128/a")
    log.info(
        "e", header="r1box_session=s3cr3tcookie; a=b", other="__Host-r1box_session=s3cr3tcookie", token="hf_abcdEFGH12"
    )
    log.info("e", csrf_token="c5rf", headers={"Set-Cookie": "s3cr3tcookie", "X-R1Box-CSRF": "c5rf"}, secret="s1gn")
    try:
        raise RuntimeError(f"failed with {KEY}")
    except RuntimeError:
        log.exception("crash")
    kept = "".join(entry.line for entry in ring.page().entries)
    for secret in (KEY[4:], "x.y.z", "hunter2", "s3cr3tcookie", "abcdEFGH12", "c5rf", "s1gn"):
        assert secret not in kept
    assert "http://***@proxy:3128/a" in kept
    assert "RuntimeError: failed with r1b_***" in kept


@given(
    lines=st.lists(st.text(max_size=60), max_size=60),
    most_lines=st.integers(1, 20),
    most_bytes=st.integers(50, 2_000),
)
def test_bounds_hold_and_the_newest_stay(lines: list[str], most_lines: int, most_bytes: int) -> None:
    ring = LogRing(max_lines=most_lines, max_bytes=most_bytes)
    for text in lines:
        put(ring, text)
        assert ring.size_bytes <= most_bytes
    page = ring.page(limit=100)
    assert len(page.entries) <= most_lines
    assert events(page.entries) == lines[len(lines) - len(page.entries) :]
    assert (page.newest, page.dropped) == (len(lines), len(lines) - len(page.entries))


def test_a_line_that_is_too_long_is_cut_and_stays_json() -> None:
    ring = LogRing()
    put(ring, "crash", exception="x" * 100_000, status=500)
    put(ring, "many", **{f"name_{number}": "y" * 1_500 for number in range(40)}, request_id="req_1")
    first, second = ring.page().entries
    assert max(len(first.line), len(second.line)) <= MOST_LINE_CHARS
    assert (first.fields()["status"], first.fields()["cut"]) == (500, True)
    assert (second.fields()["event"], second.fields()["request_id"]) == ("many", "req_1")


def test_filters() -> None:
    ring = LogRing()
    put(ring, "request", path="/a", request_id="req_1")
    put(ring, "request_crashed", level=logging.ERROR, request_id="req_2", said='a "quoted" WORD')
    put(ring, "job_created", logger="appliance.jobs.service")
    put(ring, "other", logger="appliance.jobserver", level=logging.DEBUG)

    def found(**wanted: object) -> list[str]:
        return events(ring.page(LogFilter(**wanted)).entries)  # type: ignore[arg-type]

    assert found(level=logging.ERROR) == ["request_crashed"]
    assert found(level=logging.INFO, part="jobs") == ["job_created"]
    assert found(part="appliance.jobs") == ["job_created"]
    assert found(request_id="req_1") == ["request"]
    assert found(request_id="req_") == []
    assert found(text="Request") == ["request", "request_crashed"]
    assert found(text='"QUOTED" word') == ["request_crashed"]
    assert found(text="nowhere") == []
    assert found(since=START + timedelta(seconds=1)) == []
    assert found(until=START) == []
    assert len(found(since=START)) == 4


def test_pages_go_back_without_a_line_twice_or_lost() -> None:
    ring = LogRing()
    for number in range(10):
        put(ring, str(number), level=logging.INFO if number % 2 else logging.DEBUG)
    wanted = LogFilter(level=logging.INFO)
    page = ring.page(wanted, limit=2)
    seen = [events(page.entries)]
    while page.before is not None:
        page = ring.page(wanted, before=page.before, limit=2)
        seen.append(events(page.entries))
    assert seen == [["7", "9"], ["3", "5"], ["1"]]


async def test_a_follower_gets_the_tail_and_then_every_line() -> None:
    ring = LogRing()
    for number in range(5):
        put(ring, str(number))
    lines = ring.follow(tail=2)
    got = [await anext(lines) for _ in range(2)]
    waiting = asyncio.ensure_future(anext(lines))
    put(ring, "unwanted", level=logging.DEBUG)
    # From another thread, as workers of jobs do.
    await asyncio.to_thread(put, ring, "new")
    got += [await waiting, await anext(lines)]
    await lines.aclose()
    assert [line.seq for line in got if isinstance(line, LogEntry)] == [4, 5, 6, 7]
    assert ring._readers == set()


async def test_a_follower_that_comes_back_or_is_slow_hears_of_what_it_missed() -> None:
    ring = LogRing(max_lines=3)
    for number in range(6):
        put(ring, str(number))
    back = ring.follow(after=1)
    assert await anext(back) == LogGap(2)
    got = [await anext(back) for _ in range(3)]
    assert [line.seq for line in got if isinstance(line, LogEntry)] == [4, 5, 6]
    for number in range(7):
        put(ring, str(number))
    assert await anext(back) == LogGap(4)
    await back.aclose()
    # A number of another run of the daemon.
    restarted = ring.follow(after=4_000)
    assert await anext(restarted) == LogGap(10)
    await restarted.aclose()


def test_the_level_can_change_at_any_time(ring: LogRing) -> None:
    log = structlog.get_logger("appliance.x")
    set_level("warning")
    log.info("unseen")
    set_level("debug")
    log.debug("seen")
    assert events(ring.page().entries) == ["seen"]


def test_files_are_private_bounded_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    configure_logging("info", stream=sys.stderr)
    files = LogFile(folder, max_bytes=40_000)
    add_sink(files.handler)
    log = structlog.get_logger("appliance.x")
    for number in range(1_000):
        log.info("line", number=number, key=KEY)
    files.close()
    files.close()
    made = sorted(folder.iterdir())
    assert len(made) == FILES
    assert sum(file.stat().st_size for file in made) <= 40_000
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    numbers = [json.loads(line)["number"] for line in read_lines(folder)]
    assert numbers == list(range(1_000 - len(numbers), 1_000))
    assert not any(KEY[4:] in line for line in read_lines(folder))


def test_no_files_where_the_journal_has_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path)
    with (tmp_path / "journal").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_in_journal(stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert open_log_file(settings) is None
    monkeypatch.undo()
    assert not is_in_journal()
    assert open_log_file(settings.model_copy(update={"log_file_bytes": 0})) is None
    (tmp_path / "logs").write_text("in the way")
    assert open_log_file(settings) is None
    (tmp_path / "logs").unlink()
    files = open_log_file(settings)
    assert files is not None
    files.close()
