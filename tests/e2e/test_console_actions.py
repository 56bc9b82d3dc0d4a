"""What an operator does on the console's screens, on the real daemon with the tiny R1 and with made-up cards."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.box import FIXTURES, TINY_R1, Box, Home, start_box
from tests.e2e.consoles import console, filled, rows, text, typed, until
from tests.fakes.hub import NO_FAULT, FakeHub, Fault, Seen
from tests.fakes.nvml.build import SCENARIO_NAME, build_fake_nvml, write_scenario
from tests.fakes.nvml.scenarios import h20_box
from tui.chat_session import Turn
from tui.screens.chat import ChatScreen
from tui.widgets.dialogs import ChoiceDialog, TextDialog

SMALL = FIXTURES / "gguf" / "Tiny-R1-Q4_K_M.gguf"
MODEL = "tiny-r1-q8_0"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A home with the tiny R1, and the folder that stands for a stick, with another form of it."""
    folder = tmp_path_factory.mktemp("console")
    home, stick = Home(folder), folder / "stick"
    home.import_model()
    stick.mkdir()
    shutil.copy(SMALL, stick / "small.gguf")
    home.environment["R1BOX_JOB_FOLDERS"] = str(stick)
    return home, stick


@pytest.fixture(scope="module")
def box(house: tuple[Home, Path]) -> Iterator[Box]:
    """One box for all tests of this file: one seat of 2,048 tokens."""
    home, _ = house
    running = start_box(home, "--seats", "1", "--context", "2048", key=home.create_key("tests"))
    yield running
    assert running.stop() == 0


async def test_a_key_is_made_used_and_revoked(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "keys") as (app, pilot), httpx.AsyncClient(base_url=box.url) as people:
        await until(pilot, lambda: [one.name for one in rows(app)] == ["tests"])
        await pilot.press("n")
        await filled(pilot, name="")
        assert "A key needs a name." in text(app)
        await filled(pilot, name="nurse-app", requests_per_minute="30")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        secret = next(word for word in text(app).split() if word.startswith("r1b_"))
        headers = {"Authorization": f"Bearer {secret}"}
        assert (await people.get("/v1/models", headers=headers)).status_code == 200
        await pilot.press("escape")
        await until(pilot, lambda: [one.name for one in rows(app)] == ["tests", "nurse-app"])
        assert rows(app)[1].requests_per_minute == 30
        assert secret not in text(app)
        await pilot.press("end", "x")
        await typed(pilot, "nurse")
        assert "That is not the word." in text(app)
        await typed(pilot, "nurse-app")
        await until(pilot, lambda: "The key nurse-app is revoked." in text(app))
        assert (await people.get("/v1/models", headers=headers)).status_code == 401
        await until(pilot, lambda: [one.name for one in rows(app)] == ["tests"])
        await pilot.press("v")
        await until(pilot, lambda: len(rows(app)) == 2)
        await pilot.press("v", "slash", *"nur")
        await until(pilot, lambda: rows(app) == [])


async def test_people_come_and_go(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "users") as (app, pilot):
        await until(pilot, lambda: "Nobody may log in yet" in text(app))
        await pilot.press("n")
        await filled(pilot, name="li.wei", password="a long enough one", again="another one")
        assert "differ" in text(app)
        await filled(pilot, again="a long enough one")
        await until(pilot, lambda: [(one.name, one.role) for one in rows(app)] == [("li.wei", "user")])
        await pilot.press("e", "right", "enter")
        await until(pilot, lambda: rows(app)[0].role == "operator")
        await pilot.press("w")
        await filled(pilot, password="a new and long one", again="a new and long one")
        await until(pilot, lambda: "has a new password" in text(app))
        await pilot.press("x", "y")
        await until(pilot, lambda: rows(app)[0].disabled)
        await pilot.press("x", "y")
        await until(pilot, lambda: not rows(app)[0].disabled)


async def test_a_model_comes_from_a_stick_and_goes(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "models") as (app, pilot):
        await until(pilot, lambda: [one.id for one in rows(app)] == [MODEL])
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("enter")
        await until(pilot, lambda: len(rows(app)) == 2)
        small = rows(app)[1]
        assert (small.quantization, small.state) == ("Q4_K_M", "installed")
        await pilot.press("end", "v")
        await until(pilot, lambda: "verify" in text(app) and "is a job now" in text(app))
        await pilot.press("delete")
        await typed(pilot, small.id)
        await until(pilot, lambda: [one.id for one in rows(app)] == [MODEL])
        await pilot.press("delete")
        await typed(pilot, MODEL)
        # What is served is not deleted, and the daemon says why.
        await until(pilot, lambda: "Not done:" in text(app))
        await pilot.press("7")
        await until(pilot, lambda: {one.kind for one in rows(app)} >= {"import", "verify"})
        assert {one.state for one in rows(app)} <= {"succeeded", "failed", "running"}
        await pilot.press("end", "x")
        assert "cannot be cancelled" in text(app)


async def test_a_model_leaves_memory_and_comes_back(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "models") as (app, pilot):
        await until(pilot, lambda: [one.state for one in rows(app)] == ["ready"])
        await pilot.press("u", "y")
        await until(pilot, lambda: [one.state for one in rows(app)] == ["installed"])
        await pilot.press("a", "y")
        await until(pilot, lambda: "is the default and answers" in text(app))
        await until(pilot, lambda: [one.state for one in rows(app)] == ["ready"])


async def test_a_chat_with_its_thought_folded(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "chat") as (app, pilot):
        screen = app.screen
        assert isinstance(screen, ChatScreen)

        def turns() -> list[Turn]:
            return screen.session.turns

        await until(pilot, lambda: MODEL in text(app))
        await pilot.press(*"Hi 1", "enter")
        await until(pilot, lambda: turns() and turns()[0].finish == "stop")
        await until(pilot, lambda: turns()[0].answer.strip() in text(app))
        thought = turns()[0].thought.strip()
        assert thought
        assert thought not in text(app)
        await pilot.press("f3")
        await until(pilot, lambda: thought in text(app))
        assert [one["role"] for one in screen.session.messages()] == ["user", "assistant"]
        await pilot.press("f5")
        assert turns() == []
        await pilot.press("escape", "1")
        assert app.current_mode == "dashboard"


async def test_why_not_671b(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "plans") as (app, pilot):
        await until(pilot, lambda: rows(app))
        await pilot.press("w")
        await filled(pilot, variant="671B")
        await until(pilot, lambda: {one.variant for one in rows(app)} == {"R1-671B", "R1-0528-671B"})
        assert rows(app)[0].reason[:20] in text(app)
        await pilot.press("p")
        assert "does not fit" in text(app)
        await pilot.press("s")
        await filled(pilot, seats="0")
        assert "whole and 1 at least" in text(app)


async def test_versions_and_licences(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "about") as (app, pilot):
        await until(pilot, lambda: any(one.component.name == "fastapi" for one in rows(app)))
        assert rows(app)[0].component.name == "R1 Box"


async def test_cards_and_the_doctor(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "nvml"
    folder.mkdir()
    await asyncio.to_thread(build_fake_nvml, folder)
    home.environment["LD_LIBRARY_PATH"] = str(folder)
    write_scenario(folder / SCENARIO_NAME, h20_box(2))
    box = await asyncio.to_thread(start_box, home, wait=False)
    try:
        async with console(home, "cards") as (app, pilot):
            await until(pilot, lambda: [one.chip for one in rows(app)] == ["H20", "H20"])
            await until(pilot, lambda: "Programs on the card" in text(app))
            await pilot.press("f")
            await until(pilot, lambda: "2 devices found" in text(app))
            await pilot.press("p")
            await until(pilot, lambda: isinstance(app.screen, TextDialog) and "nvidia:1" in text(app))
            await pilot.press("escape", "d")
            await until(pilot, lambda: isinstance(app.screen, TextDialog) and "nvidia" in text(app))
    finally:
        await asyncio.to_thread(box.stop)


async def test_the_log_is_followed_and_filtered(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "logs") as (app, pilot):
        await until(pilot, lambda: rows(app))
        headers = {"Authorization": f"Bearer {box.key}"}
        async with httpx.AsyncClient(base_url=box.url, headers=headers) as people:
            answer = await people.get("/v1/models/nothing-of-that-name")
        wanted = answer.headers["x-request-id"]
        await until(pilot, lambda: wanted in {one.request_id for one in rows(app)})
        await pilot.press("slash", *"nothing-of", "enter")
        await until(pilot, lambda: rows(app) and all("nothing-of" in str(one.fields) for one in rows(app)))
        await pilot.press("escape", "e", "e")
        await until(pilot, lambda: app.box.logs.level == "error" and not rows(app))


async def test_a_setting_is_changed_and_taken_back(house: tuple[Home, Path], box: Box) -> None:
    async with console(house[0], "settings") as (app, pilot):

        def setting() -> Any:
            return next(one for one in rows(app) if one.name == "max_waiting")

        await until(pilot, lambda: rows(app))
        await pilot.press("slash", *"max_waiting", "enter")
        await until(pilot, lambda: len(rows(app)) == 1)
        before = setting().value
        await pilot.press("e")
        await filled(pilot, value="many")
        assert "It may be: integer" in text(app)
        await filled(pilot, value="17")
        await until(pilot, lambda: setting().stored == 17)
        assert setting().source == "changed" or setting().pending
        await pilot.press("d", "y")
        await until(pilot, lambda: setting().stored == before)


async def test_a_model_is_pulled_cancelled_pulled_again_and_made_smaller(home: Home) -> None:
    held, asked = threading.Event(), threading.Semaphore(0)

    def hold_files(seen: Seen) -> Fault:
        if seen.server != "storage":
            return NO_FAULT
        asked.release()
        return Fault(hold=held)

    with FakeHub() as hub:
        hub.add("acme/Tiny-R1-GGUF", {TINY_R1.name: TINY_R1.read_bytes()})
        hub.answer = hold_files
        home.environment |= {
            "R1BOX_HUGGINGFACE_ENDPOINT": hub.url,
            "R1BOX_HUB_ORDER": "huggingface",
            "NO_PROXY": "127.0.0.1",
        }
        box = await asyncio.to_thread(start_box, home, wait=False)
        try:
            async with console(home, "models") as (app, pilot):
                await until(pilot, lambda: "No model is installed" in text(app))
                await pilot.press("p")
                await filled(pilot, target="")
                assert "Say which model" in text(app)
                await filled(pilot, target="acme/Tiny-R1-GGUF:Q8_0")
                await until(pilot, lambda: "is a job now" in text(app))
                assert await asyncio.to_thread(asked.acquire, timeout=60)
                await pilot.press("7")
                await until(pilot, lambda: [(one.kind, one.state) for one in rows(app)] == [("pull", "running")])
                await pilot.press("x", "y")
                await until(pilot, lambda: rows(app)[0].state in ("cancelling", "cancelled"))
                held.set()
                await until(pilot, lambda: rows(app)[0].state == "cancelled")
                await pilot.press("2", "p")
                await filled(pilot, target="acme/Tiny-R1-GGUF:Q8_0")
                await until(pilot, lambda: [one.quantization for one in rows(app)] == ["Q8_0"])
                await pilot.press("w")
                await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
                await pilot.press("down", "enter")
                await until(pilot, lambda: {one.quantization for one in rows(app)} == {"Q8_0", "Q4_0"}, 60)
                await pilot.press("7")
                states = [("requantize", "succeeded"), ("pull", "succeeded"), ("pull", "cancelled")]
                await until(pilot, lambda: [(one.kind, one.state) for one in rows(app)] == states)
        finally:
            held.set()
            await asyncio.to_thread(box.stop)
