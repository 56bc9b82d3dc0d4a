"""The page on a real box: the daemon as a process, the tiny R1 as its model, Chromium in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.box import TINY_R1, Box, Home, loops, start_box

from .conftest import OpenPage
from .steps import PHONE, answer_of, ask, log_in, menu, new_chat, wait_for_answer

PASSWORD = "a quiet long password"
ENDLESS: str = loops()[0][0]["content"]
BOX = ("--seats", "4", "--context", "8192")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return patient_home(tmp_path_factory.mktemp("box"))


def patient_home(folder: Path) -> Home:
    """A home whose box lets a thought that goes in circles go on: something to stop, to leave and to come back to."""
    home = Home(folder)
    home.environment["R1BOX_LOOP_BREAKER"] = "false"
    home.import_model()
    return home


@pytest.fixture(scope="module")
def real(home: Home) -> Iterator[Box]:
    box = start_box(home, *BOX, key=home.create_key("page"))
    yield box
    box.stop()


def come_in(open_any: OpenPage, real: Box) -> Page:
    page = open_any(f"{real.url}/#key={real.key}")
    expect(page.locator("#input")).to_be_visible()
    return page


def test_the_life_of_a_chat(open_any: OpenPage, home: Home, real: Box, tmp_path: Path) -> None:
    """From the setup token to the deleted chat, as the first administrator of a box."""
    page = open_any(real.url)
    page.get_by_label("Setup token").fill(home.run("users", "setup-token").stdout.strip())
    page.get_by_label("Your name for logging in").fill("Li Wei")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    ask(page, "What is the capital of France?")
    wait_for_answer(page)
    expect(answer_of(page)).to_contain_text("Paris")
    expect(page.locator(".thought-toggle")).to_contain_text("tokens")
    page.locator(".thought-toggle").click()
    expect(page.locator(".thought-text")).to_contain_text("capital of France")
    expect(page.locator(".facts")).to_contain_text("tokens/s")
    expect(page.locator(".chat-title")).to_contain_text(["What is the capital of France"])
    page.get_by_role("button", name="Answer again").click()
    expect(page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    wait_for_answer(page)
    page.locator(".question").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill("What is the capital of Norway?")
    page.locator(".editor").get_by_role("button", name="Send").click()
    expect(page.locator(".bubble")).to_have_text(["What is the capital of Norway?"])
    wait_for_answer(page)
    expect(answer_of(page)).to_contain_text("Oslo")
    page.locator("#input").fill("And of Peru?")
    expect(page.locator(".meter")).to_contain_text("of 8,192 tokens")
    page.reload()
    expect(answer_of(page)).to_contain_text("Oslo")
    menu(page, "What is the capital of France?", "Rename")
    page.get_by_label("Title").fill("Capitals")
    page.get_by_label("Title").press("Enter")
    expect(page.locator(".chat-title")).to_have_text(["Capitals"])
    page.get_by_label("Search chats").fill("oslo")
    expect(page.locator(".chat-snippet mark")).to_have_text("Oslo")
    page.get_by_label("Search chats").fill("")
    with page.expect_download() as download:
        menu(page, "Capitals", "Export as Markdown")
    assert "Oslo" in Path(download.value.path()).read_text(encoding="utf-8")
    menu(page, "Capitals", "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".chat-title")).to_have_count(0)
    look_at_every_tab(page, "4 × 8,192")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Log out").click()
    log_in(page, "Li Wei", PASSWORD)
    expect(page.locator("#input")).to_be_visible()


def look_at_every_tab(page: Page, seats: str) -> None:
    """The operator area with what this box really tells."""
    page.evaluate("location.hash = '#/operator/models'")
    expect(page.locator(".op-table")).to_contain_text(seats)
    for tab, shown in (
        ("Jobs", "There was no long work yet"),
        ("Issues", "Looked at"),
        ("Requests", "Li Wei"),
        ("Usage", "Li Wei"),
        ("Keys", "Begins with"),
        ("Users", "Li Wei"),
        ("Audit", "user.create"),
        ("Logs", "path=/api/chats"),
        ("Settings", "chat_keep_days"),
    ):
        page.get_by_role("navigation", name="Operator area").get_by_role("link", name=tab).click()
        expect(page.locator(".op-view")).to_contain_text(shown)
    page.get_by_role("navigation", name="Operator area").get_by_role("link", name="Cards").click()
    expect(page.get_by_role("region", name="This box").get_by_role("img").first).to_be_visible()


def test_what_an_r1_writes_is_shown(open_any: OpenPage, real: Box) -> None:
    page = come_in(open_any, real)
    ask(page, "Write a manual about tea.")
    wait_for_answer(page)
    expect(answer_of(page).locator("table, .code-block, blockquote").first).to_be_visible()
    new_chat(page)
    ask(page, "State the theorem of Pythagoras.")
    wait_for_answer(page)
    expect(answer_of(page).locator(".katex-display")).to_have_count(1)


def test_the_first_minutes(open_any: OpenPage, tmp_path: Path) -> None:
    """A box without an administrator and without a model: both are there when the first answer is."""
    home = Home(tmp_path)
    home.environment["R1BOX_JOB_FOLDERS"] = str(TINY_R1.parent)
    box = start_box(home, *BOX, wait=False)
    page = open_any(box.url)
    page.get_by_label("Setup token").fill(home.run("users", "setup-token").stdout.strip())
    page.get_by_label("Your name for logging in").fill("Li Wei")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("link", name="Choose a model").click()
    page.get_by_role("button", name="Get a model").click()
    page.get_by_label("From a file or folder").check()
    page.get_by_label("Path on the box").fill(str(TINY_R1))
    page.get_by_role("button", name="Begin").click()
    model = page.get_by_role("row").filter(has_text="Tiny-R1")
    expect(model.locator(".badge", has_text="default")).to_be_visible()
    page.get_by_role("link", name="Back to the chats").click()
    ask(page, "What is the capital of France?")
    wait_for_answer(page)
    expect(answer_of(page)).to_contain_text("Paris")
    box.stop()


def test_files_are_read_and_counted_by_the_box(open_any: OpenPage, real: Box) -> None:
    page = come_in(open_any, real)
    text = "Kalium 5.9 mmol/l\n" * 20
    page.locator("input[type=file]").set_input_files(
        {"name": "labor 报告.txt", "mimeType": "text/plain", "buffer": text.encode()}
    )
    expect(page.locator(".file")).to_contain_text("tokens")
    ask(page, "Hello")
    wait_for_answer(page)
    expect(page.locator(".question .file")).to_contain_text("labor 报告.txt")
    page.locator("input[type=file]").set_input_files(
        {"name": "noise.bin", "mimeType": "application/octet-stream", "buffer": bytes(range(256)) * 8}
    )
    expect(page.locator(".file.failed")).to_contain_text("cannot be read")


def test_what_is_too_long_is_refused_with_numbers(open_any: OpenPage, real: Box) -> None:
    page = come_in(open_any, real)
    ask(page, "word " * 30_000)
    expect(page.locator(".error-title")).to_have_text("This conversation is too long for the model")
    expect(page.locator(".error-detail")).to_contain_text("8,192")
    page.get_by_role("button", name="Change the message").click()
    ask(page, "ping")
    wait_for_answer(page)
    expect(answer_of(page)).to_be_visible()


def test_a_reload_in_mid_stream_and_answer_now(open_any: OpenPage, real: Box) -> None:
    page = come_in(open_any, real)
    ask(page, ENDLESS)
    page.locator(".thought-toggle").click()
    expect(page.locator(".thought-text")).not_to_be_empty()
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.locator(".thought-toggle").click()
    expect(page.locator(".thought-text")).not_to_be_empty()
    page.get_by_role("button", name="Answer now").click()
    wait_for_answer(page)
    expect(page.locator(".note")).to_contain_text("because you asked for the answer")


def test_two_people_at_once(open_any: OpenPage, home: Home, tmp_path: Path) -> None:
    """An administrator makes a user; both ask at the same time, each sees their own chats alone."""
    own = Home(tmp_path)
    own.models_dir, own.environment["R1BOX_MODELS_DIR"] = home.models_dir, str(home.models_dir)
    own.environment["R1BOX_LOOP_BREAKER"] = "false"
    box = start_box(own, *BOX)
    chief = open_any(box.url)
    chief.get_by_label("Setup token").fill(own.run("users", "setup-token").stdout.strip())
    chief.get_by_label("Your name for logging in").fill("Li Wei")
    chief.get_by_label("Password", exact=True).fill(PASSWORD)
    chief.get_by_role("button", name="Make the account").click()
    expect(chief.locator("#input")).to_be_visible()
    chief.evaluate("location.hash = '#/operator/users'")
    chief.get_by_role("button", name="New user").click()
    chief.get_by_label("Name").fill("Wu Lan")
    chief.get_by_label("First password").fill(f"{PASSWORD} for a day")
    chief.get_by_role("button", name="Create").click()
    users = chief.get_by_role("region", name="Users")
    expect(users.get_by_role("row").filter(has_text="Wu Lan")).to_contain_text("has to choose a password")
    chief.get_by_role("link", name="Back to the chats").click()
    ask(chief, ENDLESS)
    expect(chief.locator(".thought-toggle")).to_be_visible()

    nurse = open_any(box.url, **PHONE)
    log_in(nurse, "Wu Lan", f"{PASSWORD} for a day")
    nurse.get_by_label("Password until now").fill(f"{PASSWORD} for a day")
    nurse.get_by_label("New password", exact=True).fill(PASSWORD)
    nurse.get_by_label("New password again").fill(PASSWORD)
    nurse.get_by_role("button", name="Change password").click()
    nurse.locator("#input").fill("What is the capital of France?")
    nurse.get_by_role("button", name="Send").tap()
    wait_for_answer(nurse)
    expect(answer_of(nurse)).to_contain_text("Paris")
    assert nurse.evaluate("document.documentElement.scrollWidth") <= 390
    expect(nurse.locator(".chat-title")).to_have_text(["What is the capital of France?"])
    nurse.goto(chief.url)
    expect(nurse.locator(".error-title")).to_have_text("This is not on the box any more")

    expect(chief.get_by_role("button", name="Stop")).to_be_visible()
    chief.get_by_role("button", name="Stop").click()
    expect(chief.locator(".note")).to_contain_text("Stopped")
    expect(chief.locator(".chat-item")).to_have_count(1)
    box.stop()


def test_a_restart_of_the_daemon_in_mid_stream(open_any: OpenPage, tmp_path: Path) -> None:
    """The page waits for the box and shows what was written, marked as interrupted."""
    home = patient_home(tmp_path)
    key = home.create_key("page")
    box = start_box(home, *BOX, key=key)
    page = come_in(open_any, box)
    ask(page, ENDLESS)
    expect(page.locator(".thought-toggle")).to_be_visible()
    port = box.url.rsplit(":", 1)[1]
    # A daemon that is asked to end gives its answers ten seconds, in which the tiny model may finish this one.
    box.process.kill()
    box.stop()
    expect(page.locator(".banner")).to_be_visible()
    again = start_box(home, *BOX, "--port", port, key=key)
    expect(page.locator(".error-title")).to_have_text("The answer was interrupted", timeout=30_000)
    again.stop()
