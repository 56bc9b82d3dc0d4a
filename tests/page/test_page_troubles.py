"""The chat page in Chromium when the box is loading, busy, broken or refuses: what a reader is told."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .conftest import OpenPage
from .fake_server import Comment, Cut, FakeBox, Finish, Hold, Refusal, Say, Think
from .steps import ask, wait_for_answer


def test_a_question_waits_for_the_model_and_is_sent_by_itself(open_page: OpenPage, box: FakeBox) -> None:
    box.state, box.load_fraction = "starting", 0.43
    page = open_page()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "43")
    ask(page, "hello")
    expect(page.locator(".waiting")).to_have_text("The model is loading, 43 %. Your message is sent when it is ready.")
    box.state, box.load_fraction = "ready", None
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("A short answer.")


def test_a_failed_model_is_explained_and_waited_for(open_page: OpenPage, box: FakeBox) -> None:
    box.state, box.error = "failed", "the engine ended by itself: killed by signal 9"
    page = open_page()
    expect(page.locator("#banner")).to_contain_text("killed by signal 9")
    ask(page, "hello")
    expect(page.locator(".waiting")).to_have_text(
        "The model is being started again. Your message is sent when it is ready."
    )
    box.state, box.error = "ready", None
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("A short answer.")
    expect(page.locator("#banner")).to_be_hidden()


def test_a_silent_box_is_explained(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    expect(page.locator(".model-name")).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    ask(page, "hello")
    expect(page.locator(".error-title")).to_have_text("The box does not answer")
    expect(page.locator("#banner")).to_contain_text("The box does not answer")
    page.unroute("**/*")
    page.get_by_role("button", name="Try again").click()
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("A short answer.")


@pytest.mark.parametrize(
    ("script", "title", "detail", "steps"),
    [
        ("too long", "This conversation is too long for the model", "18,204", ["Start a new chat", "Edit the message"]),
        ("rate", "Too many requests just now", "Try again in 20 s", ["Try again"]),
        ("crash", "The model stopped in the middle of the answer", "process ended", ["Try again"]),
        ("cut", "The connection ended in the middle of the answer", "stream_ended", ["Try again"]),
    ],
)
def test_errors_say_why_and_what_next(
    open_page: OpenPage, box: FakeBox, script: str, title: str, detail: str, steps: list[str]
) -> None:
    page = open_page()
    ask(page, script)
    expect(page.locator(".error-title")).to_have_text(title)
    expect(page.locator(".error-body")).to_contain_text(detail)
    expect(page.locator(".error-steps button")).to_have_text(steps)
    expect(page.locator("#announcer")).to_contain_text(title)


def test_a_revoked_key_leads_back_to_the_panel(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    expect(page.locator(".model-name")).to_be_visible()
    box.keys = {"r1b_new"}
    ask(page, "hello")
    page.get_by_role("button", name="Enter another key").click()
    page.locator("#key-field").fill("r1b_new")
    page.locator("#key-field").press("Enter")
    expect(page.locator(".bubble")).to_have_text("hello")
    page.get_by_role("button", name="Try again").click()
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("A short answer.")


def test_the_place_in_the_queue(open_page: OpenPage, box: FakeBox) -> None:
    hold = Hold()
    box.scripts = {"hi": [Comment("queued position=3 wait_s=22"), hold, Say("Now."), Finish()]}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".waiting")).to_have_text("Position 3 in the queue, about 22 s")
    hold.release()
    wait_for_answer(page)
    expect(page.locator(".waiting")).to_be_hidden()


def test_a_busy_box_is_asked_again(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": Refusal(503, "queue_full", "All seats are taken.", retry_after_s=1)}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".waiting")).to_have_text("The box is busy. Your message is tried again in a moment.")
    box.scripts = {"hi": [Say("Now."), Finish()]}
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("Now.")


def test_a_length_limit_is_declared(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"think": [Think("hm"), Finish("length")], "say": [Say("Half"), Finish("length")], "no": [Cut()]}
    page = open_page()
    ask(page, "say")
    expect(page.locator(".note")).to_have_text("The answer reached the length limit and ends here.")
    ask(page, "think")
    expect(page.locator(".note").last).to_contain_text("while still thinking")
