"""The console before a server that speaks the daemon's schemas: what it asks, what it does, what it shows then."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.boxes import DISK, LOST, FakeBox, StillClock, answers
from tests.tui.first_run_bodies import middle
from tui import app as app_module
from tui.app import ConsoleApp
from tui.client import Problem, Target
from tui.look import Look, language_of, look_of
from tui.places import ALL
from tui.resource import known
from tui.strings import CATALOGUES, Words
from tui.views import Drawing
from tui.widgets.dialogs import ChoiceDialog, CodeDialog, ConfirmDialog, HelpDialog
from tui.widgets.table import Column, Table


@pytest.fixture
async def fake() -> AsyncIterator[FakeBox]:
    async with FakeBox(answers(issues=(LOST, DISK))).serving() as box:
        yield box


def text(app: ConsoleApp) -> str:
    """What the texts of the screen say."""
    return "\n".join(str(one.content) for one in app.screen.query(Static))


async def until(pilot: Pilot[None], what: Callable[[], Any]) -> None:
    """Let the console go on until it is so; the test's time limit ends it otherwise."""
    while not what():
        await pilot.pause(0.01)


async def test_issues_are_mended_with_a_confirmation(fake: FakeBox) -> None:
    async with fake.client() as client:
        app = ConsoleApp(client, look=Look(), poll_s=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "seats    5 of 8" in text(app))
            assert "Card 1 (910B3) does not answer any more" in text(app)
            await pilot.press("6")
            await until(pilot, lambda: LOST.hint and LOST.hint in text(app))
            await pilot.press("enter", "enter")
            assert isinstance(app.screen, ConfirmDialog)
            # The focus is on "No": a second Enter by mistake changes nothing.
            await pilot.press("enter")
            assert not isinstance(app.screen, ConfirmDialog)
            assert fake.asked == []
            await pilot.press("enter")
            await pilot.press("y")
            await until(pilot, lambda: "Done: Two cards answer." in text(app))
            assert fake.asked == ["device_lost@ascend:1/detect_hardware"]
            assert "The models' disk has 12.4 GiB left" in text(app)
            await pilot.press("r")
            await until(pilot, lambda: "check" in fake.asked)


async def test_keys_work_everywhere(fake: FakeBox) -> None:
    async with fake.client() as client:
        app = ConsoleApp(client, look=Look(), poll_s=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "5 of 8" in text(app))
            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpDialog)
            await pilot.press("6", "escape", "c")
            assert app.current_mode == "dashboard"
            assert isinstance(app.screen, CodeDialog)
            await pilot.press("escape", "l")
            assert "5 / 8" in text(app)
            await pilot.press("t")
            assert app.theme == "r1box-light"
            await pilot.press("ctrl+p")
            await pilot.press(*"问题")
            await until(pilot, lambda: app.screen.query("#--results OptionList, CommandList").first().display)
            await pilot.press("escape", "escape", "q")
        assert app.return_code == 0


async def test_a_box_that_hangs_and_comes_back(fake: FakeBox) -> None:
    clock = StillClock()
    async with fake.client(answer_timeout_s=0.3) as client:
        app = ConsoleApp(client, look=Look(), clock=clock, zone=UTC, poll_s=0.02)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "5 of 8" in text(app))
            fake.answering.clear()
            await until(pilot, lambda: "took the question and gave no answer" in text(app))
            clock.at_s += 30
            app.screen.paint()  # type: ignore[attr-defined]
            await until(pilot, lambda: "NO ANSWER" in text(app))
            await until(pilot, lambda: app.screen.query_one("#serving").border_subtitle == "30 s old")
            assert "5 of 8" in text(app)
            await pilot.press("6", "1", "question_mark", "escape")
            fake.answering.set()
            await until(pilot, lambda: "NO ANSWER" not in text(app))


async def test_refusals_and_silence_are_values(fake: FakeBox, tmp_path: Path) -> None:
    from appliance.schemas.health import Readiness
    from appliance.schemas.issues import IssueList

    async with fake.client(key="wrong") as client:
        assert isinstance(await client.get("/readyz", Readiness), Readiness)
        refused = await client.get("/api/admin/issues", IssueList)
        assert refused == Problem("invalid_api_key", "The API key is not valid.", "Make one.")
        garbled = await client.get("/readyz", IssueList, also=(200,))
        assert isinstance(garbled, IssueList | Problem)
    fake.bodies["/api/admin/issues"] = "no JSON"
    async with fake.client() as client:
        assert await client.get("/api/admin/issues", IssueList) == Problem("garbled", detail="IssueList")
    from tui.client import BoxClient

    async with BoxClient(Target("http://r1box", socket=tmp_path / "none.sock")) as client:
        told = await client.get("/readyz", Readiness)
        assert told == Problem("unreachable", detail="No such file or directory")


def test_both_catalogues_have_all_keys_and_fields() -> None:
    english, chinese = CATALOGUES["en"], CATALOGUES["zh"]
    assert english.keys() == chinese.keys()

    def fields(sentence: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}

    assert [key for key in english if fields(english[key]) != fields(chinese[key])] == []


def test_every_key_of_a_screen_has_its_words() -> None:
    words = Words("en")
    for place in ALL.values():
        assert place.name == place.screen().NAME
        for _, word, _ in (*place.screen().KEYS, *ConsoleApp.COMMON_KEYS):
            assert words(f"key.{word}")
            assert words(f"about.{word}")


@pytest.mark.parametrize(
    ("term", "encoding", "plain", "blocks"),
    [
        ("xterm-256color", "utf-8", False, True),
        ("linux", "utf-8", True, True),
        ("vt100", "utf-8", True, False),
        ("xterm", "ascii", True, False),
        ("", "utf-8", True, False),
    ],
)
def test_what_a_terminal_can_show(term: str, encoding: str, *, plain: bool, blocks: bool) -> None:
    look = look_of({"TERM": term}, encoding)
    assert (look.plain, look.blocks) == (plain, blocks)
    assert language_of({"LANG": "zh_CN.UTF-8"}, look) == ("en" if plain else "zh")


def test_every_word_that_is_asked_for_is_there() -> None:
    asked = {
        (file.name, key)
        for file in Path(app_module.__file__).parent.rglob("*.py")
        for key in re.findall(r"""\bwords\(\s*"([a-z0-9_.]+)\"""", file.read_text(encoding="utf-8"))
    }
    assert len(asked) > 200
    assert [one for one in sorted(asked) if one[1] not in CATALOGUES["en"]] == []


async def test_a_long_table_draws_what_is_seen_alone() -> None:
    made = list[int]()

    def cell(row: int) -> str:
        made.append(row)
        return str(row)

    class Window(App[None]):
        def compose(self) -> ComposeResult:
            yield Table(id="table")

    app = Window()
    async with app.run_test(size=(40, 12)) as pilot:
        table = app.query_one(Table)
        table.show(Drawing(Look(), Words("en")), (Column("n", cell),), range(100_000), lambda row: row)
        await pilot.pause()
        await pilot.press("end", "up", "pageup", "pagedown")
        assert table.row == 99_998
        assert len(made) < 200
        table.show(Drawing(Look(), Words("en")), (Column("n", cell),), range(5, 200_000), lambda row: row)
        assert table.row == 99_998
        await pilot.press("home")
        assert table.row == 5


def test_a_start_loads_what_the_first_screen_needs_and_no_more() -> None:
    wanted = "import sys, tui.__main__, tui.app, tui.screens.dashboard; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", wanted], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    of_the_box = {one for one in loaded if one.startswith(("appliance.", "drivers", "models", "installer"))}
    assert {one for one in of_the_box if not one.startswith("appliance.schemas")} == set()
    heavy = {"click", "typer", "pygments", "rich.progress", "segno", "numpy", "fastapi", "sqlmodel", "uvicorn"}
    assert heavy & loaded == set()
    assert {
        "tui.screens.chat",
        "tui.screens.models",
        "appliance.schemas.jobs",
        "appliance.schemas.accounts",
    } & loaded == set()


async def test_a_second_enter_is_no_second_answer(fake: FakeBox) -> None:
    """Typed before the dialog went, it came to a screen that was no dialog any more, and ended the console."""
    async with fake.client() as client:
        app = ConsoleApp(client, look=Look(), poll_s=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "5 of 8" in text(app))
            await pilot.press("9")
            dialog = app.screen
            assert isinstance(dialog, ChoiceDialog)
            for _ in range(2):
                dialog.dismiss(0)
            await until(pilot, lambda: app.current_mode == "chat")
            assert app.is_running


async def test_plain_terminals_are_sent_no_character_that_they_have_not(fake: FakeBox) -> None:
    async with fake.client() as client:
        app = ConsoleApp(client, look=Look(plain=True, blocks=False, chinese=False), poll_s=0.05)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "5 of 8" in text(app))
            for keys in (("1",), ("2",), ("3",), ("4",), ("5",), ("6",), ("7",), ("question_mark",), ("escape", "9")):
                await pilot.press(*keys)
                await pilot.pause()
                shown = app.export_screenshot(simplify=True)
                odd = set(re.sub(r"<style.*?</style>", "", shown, flags=re.DOTALL)) - set(string.printable) - {"\xa0"}
                assert odd == set(), keys


async def test_a_new_box_leads_also_when_the_daemon_comes_later(fake: FakeBox) -> None:
    fake.bodies["/api/admin/first-run"] = middle()
    fake.answering.clear()
    async with fake.client(answer_timeout_s=0.1) as client:
        app = ConsoleApp(client, look=Look(), poll_s=0.05, leads=True)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "took the question and gave no answer" in text(app))
            assert app.current_mode == "dashboard"
            fake.answering.set()
            await until(pilot, lambda: app.current_mode == "first_run")


async def test_a_finished_box_begins_with_the_dashboard(fake: FakeBox) -> None:
    fake.bodies["/api/admin/first-run"] = middle().model_copy(update={"finished": True})
    async with fake.client() as client:
        app = ConsoleApp(client, look=Look(), poll_s=0.05, leads=True)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: known(app.box.first_run.state()))
            await until(pilot, lambda: "5 of 8" in text(app))
            assert app.current_mode == "dashboard"
