"""The console on bad days, before the real daemon: a card lost, a daemon that is killed or hangs, a link that drips, a
long queue, ten thousand keys, a request that an operator ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.box import PACED_R1BOX, R1BOX, Box, Home, start_box
from tests.e2e.consoles import console, rows, text, until
from tests.fakes.nvml.build import SCENARIO_NAME, build_fake_nvml, write_scenario
from tests.fakes.nvml.scenarios import h20_box
from tui.client import Target
from tui.screens.base import BoxScreen
from tui.widgets.dialogs import HelpDialog

MODEL = "tiny-r1-q8_0"
QUEUED = 1000
CARDS = 16


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Box, Path]]:
    """A box whose engine stands still while the file is there: home, box, file."""
    folder = tmp_path_factory.mktemp("held")
    home, hold = Home(folder), folder / "hold"
    home.import_model()
    home.environment["R1BOX_BENCH_HOLD"] = str(hold)
    running = start_box(
        home, "--seats", "2", "--context", "1024", "--max-waiting", "2000", key=home.create_key("tests"),
        command=PACED_R1BOX,
    )  # fmt: skip
    yield home, running, hold
    hold.unlink(missing_ok=True)
    assert running.stop() == 0


@asynccontextmanager
async def asking(box: Box, requests: int, max_tokens: int = 8) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """So many questions at once; what is not answered at the end is taken back."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": max_tokens}
    headers = {"Authorization": f"Bearer {box.key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=box.url, headers=headers, timeout=120, limits=limits) as people:
        asked = [asyncio.create_task(people.post("/v1/chat/completions", json=body)) for _ in range(requests)]
        try:
            yield asked
        finally:
            for one in asked:
                one.cancel()
            await asyncio.wait(asked)


async def test_a_request_is_ended(held: tuple[Home, Box, Path]) -> None:
    home, box, hold = held
    hold.touch()
    async with console(home, "requests") as (app, pilot), asking(box, 6) as asked:
        await until(pilot, lambda: len(rows(app)) == 6)
        assert sorted(one.state for one in rows(app)) == ["queued"] * 4 + ["thinking"] * 2
        await pilot.press("end", "x")
        await until(pilot, lambda: "End the request of tests?" in text(app))
        await pilot.press("y")
        await until(pilot, lambda: "The request of tests is ended." in text(app))
        await until(pilot, lambda: len(rows(app)) == 5)
        # One that is being answered ends too, not only one that waits.
        await pilot.press("home", "x", "y")
        await until(pilot, lambda: len(rows(app)) == 4)
        hold.unlink()
        answers = [one.text for one in await asyncio.gather(*asked)]
        await until(pilot, lambda: not rows(app) and "Nobody is asking." in text(app))
    assert sum("ended_by_operator" in one for one in answers) == 2


async def test_a_thousand_requests_in_the_queue(held: tuple[Home, Box, Path]) -> None:
    home, box, hold = held
    hold.touch()
    async with console(home, "requests", size=(80, 24)) as (app, pilot), asking(box, QUEUED + 2):
        await until(pilot, lambda: len(rows(app)) == QUEUED + 2, 120)
        assert sum(one.state == "queued" for one in rows(app)) == QUEUED
        assert "1,000" in str(app.screen.query_one("#table").border_title)
        await pilot.press("end")
        await until(pilot, lambda: "1000" in text(app))
        await pilot.press("1")
        await until(pilot, lambda: "2 of 2" in text(app) and str(QUEUED) in text(app))
    hold.unlink()


@pytest.fixture
def sixteen(home: Home, tmp_path: Path) -> tuple[Home, Callable[..., object]]:
    """A home on a machine with sixteen cards, and what rewrites what their driver says."""
    folder = tmp_path / "nvml"
    folder.mkdir()
    build_fake_nvml(folder)
    home.environment["LD_LIBRARY_PATH"] = str(folder)

    def write(**settings: object) -> None:
        write_scenario(folder / SCENARIO_NAME, {**h20_box(CARDS), **settings})

    write()
    return home, write


async def test_a_card_is_lost_while_the_console_is_open(sixteen: tuple[Home, Callable[..., object]]) -> None:
    home, write = sixteen
    box = await asyncio.to_thread(start_box, home, wait=False)
    try:
        async with console(home, size=(200, 60)) as (app, pilot):
            await until(pilot, lambda: text(app).count("H20") >= CARDS)
            await pilot.press("3")
            await until(pilot, lambda: len(rows(app)) == CARDS)
            await pilot.press("down", "down", "down")
            assert rows(app)[3].state == "present"
            write(**{"3.handle": 15})
            # Its monitor reads the machine anew when it starts.
            for child in psutil.Process(box.process.pid).children(recursive=True):
                if "drivers.nvml" in " ".join(child.cmdline()):
                    child.kill()
            await until(pilot, lambda: rows(app)[3].state == "lost", 60)
            # The cursor stays where it was, and the reason is told.
            assert (app.screen.chosen.key, len(rows(app))) == ("nvidia:3", CARDS)  # type: ignore[attr-defined]
            await until(pilot, lambda: "lost" in text(app))
            await pilot.press("1")
            await until(pilot, lambda: "lost" in text(app))
            await pilot.press("6", "r")
            await until(pilot, lambda: any(one.code == "device_lost" for one in rows(app)))
            place = [one.code for one in rows(app)].index("device_lost")
            await pilot.press("home", *["down"] * place)
            await until(pilot, lambda: "r1box doctor card nvidia:3" in text(app))
    finally:
        await asyncio.to_thread(box.stop)


async def test_the_daemon_hangs_is_killed_and_comes_back(home: Home) -> None:
    box = await asyncio.to_thread(start_box, home, wait=False)
    try:
        async with console(home, answer_timeout_s=1.0) as (app, pilot):
            await until(pilot, lambda: "host" in text(app))
            box.process.send_signal(signal.SIGSTOP)
            await until(pilot, lambda: "took the question and gave no answer" in text(app))
            await until(pilot, lambda: "NO ANSWER" in text(app))
            assert "old" in str(app.screen.query_one("#cards").border_subtitle)
            # What was known stays, and every key works.
            assert "host" in text(app)
            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpDialog)
            await pilot.press("escape", "6", "1")
            assert app.current_mode == "dashboard"
            box.process.send_signal(signal.SIGCONT)
            await until(pilot, lambda: "NO ANSWER" not in text(app))
            await until(pilot, lambda: not str(app.screen.query_one("#cards").border_subtitle))
            box.process.kill()
            await until(pilot, lambda: "NO ANSWER" in text(app) and "Is it running?" in text(app))
            await asyncio.to_thread(box.stop)
            box = await asyncio.to_thread(start_box, home, wait=False)
            await until(pilot, lambda: "NO ANSWER" not in text(app) and "Is it running?" not in text(app))
            await until(pilot, lambda: not str(app.screen.query_one("#cards").border_subtitle))
    finally:
        box.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(box.stop)


class SlowLink:
    """A line to the box: what passes waits ``delay_s``, then comes in pieces of ``piece_bytes``. While ``flows`` is not
    set nothing passes, as on a line that is down and does not say so."""

    def __init__(self, url: str, *, delay_s: float, piece_bytes: int) -> None:
        parts = httpx.URL(url)
        self._there = (parts.host, parts.port)
        self._delay_s, self._piece_bytes = delay_s, piece_bytes
        self.flows = asyncio.Event()
        self.flows.set()
        self.pieces = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Its address at this end."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self.flows.set()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._there)
        ways = {
            asyncio.create_task(self._carry(reader, far_writer)),
            asyncio.create_task(self._carry(far_reader, writer)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for one in ways:
            one.cancel()
        await asyncio.wait(ways)
        for end in (far_writer, writer):
            end.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await asyncio.sleep(self._delay_s)
                for start in range(0, len(data), self._piece_bytes):
                    await self.flows.wait()
                    self.pieces += 1
                    sink.write(data[start : start + self._piece_bytes])
                    await sink.drain()
                    await asyncio.sleep(0)
        except ConnectionError:
            return


async def test_a_slow_link(home: Home) -> None:
    key = home.create_key("operator")
    box = await asyncio.to_thread(start_box, home, wait=False)
    link = SlowLink(box.url, delay_s=0.1, piece_bytes=100)
    try:
        async with link.open() as url:
            target = Target(url, page_url=url)
            async with console(home, target=target, key=key, answer_timeout_s=1.5) as (app, pilot):
                await until(pilot, lambda: "host" in text(app) and "NO ANSWER" not in text(app))
                # Bodies came in many pieces, and were put together.
                assert link.pieces > 20
                link.flows.clear()
                # Nobody waits for the link: screens change at once and say that they wait.
                await pilot.press("7")
                assert app.current_mode == "jobs"
                screen = app.screen
                assert isinstance(screen, BoxScreen)
                assert str(screen.query_one("#table").border_subtitle) == "loading"
                await pilot.press("2", "question_mark", "escape", "1")
                assert app.current_mode == "dashboard"
                await until(pilot, lambda: "NO ANSWER" in text(app))
                assert "host" in text(app)
                link.flows.set()
                await until(pilot, lambda: "NO ANSWER" not in text(app))
                await pilot.press("7")
                await until(pilot, lambda: not str(app.screen.query_one("#table").border_subtitle))
    finally:
        await asyncio.to_thread(box.stop)


def many_keys(database: Path, count: int) -> None:
    """So many keys beside the one that is there, with its scopes."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM api_key").fetchone())
        del row["id"]
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        made = [
            {**row, "name": f"app-{n:05}", "hash": hashlib.sha256(str(n).encode()).hexdigest()} for n in range(count)
        ]
        connection.executemany(f"INSERT INTO api_key ({names}) VALUES ({marks})", made)


async def test_ten_thousand_keys(home: Home) -> None:
    home.create_key("first")
    await asyncio.to_thread(many_keys, next(home.state_dir.glob("*.db")), 10_000)
    box = await asyncio.to_thread(start_box, home, wait=False)
    try:
        async with console(home, "keys") as (app, pilot):
            await until(pilot, lambda: len(rows(app)) == 500)
            assert "500+" in str(app.screen.query_one("#table").border_title)
            for wanted in (1000, 1500):
                await pilot.press("end")
                await until(pilot, lambda wanted=wanted: len(rows(app)) == wanted)
            # The daemon searches all of them, not the console those that came.
            await pilot.press("slash", *"app-099", "enter")
            await until(pilot, lambda: len(rows(app)) == 100 and rows(app)[-1].name == "app-09999")
            await pilot.press("escape")
            await until(pilot, lambda: len(rows(app)) == 500)
    finally:
        await asyncio.to_thread(box.stop)


@pytest.mark.parametrize(("command", "fact"), [("issues", "issues"), ("top", "requests"), ("status", "models")])
def test_a_watch_tells_again_and_again(held: tuple[Home, Box, Path], command: str, fact: str) -> None:
    home, _, _ = held
    words = [str(R1BOX), command, "--json", "--watch"]
    with subprocess.Popen(words, env=home.environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        told: list[dict[str, Any]] = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 0
    assert [(one["schema"], fact in one) for one in told] == [(1, True), (1, True)]


def test_a_watch_in_a_terminal_is_a_page_that_ends_clean(held: tuple[Home, Box, Path]) -> None:
    home, _, _ = held
    leader, follower = pty.openpty()
    environment = {**home.environment, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
    watching = subprocess.Popen(
        [str(R1BOX), "issues", "--watch"], env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = b""
    try:
        while shown.count(b"Nothing needs attention") < 2:  # it looks again
            shown += os.read(leader, 65_536)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 0
        while data := _read(leader):
            shown += data
    finally:
        watching.kill()
        os.close(leader)
    assert b"\x1b[?1049h" in shown  # on a screen of its own, which is put back
    assert b"\x1b[?1049l" in shown
    assert b"Traceback" not in shown


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65_536)
    except OSError:  # the other end is closed
        return b""
