"""The page when the box is loading, busy, broken or refuses: what a reader is told."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .conftest import OpenPage
from .fake_box import FakeBox
from .scripts import Fail, Finish, Hold, Refusal, Say, Think
from .steps import answer_of, ask, wait_for_answer


def test_a_question_waits_for_the_model_and_is_sent_by_itself(open_page: OpenPage, box: FakeBox) -> None:
    box.state, box.load_fraction = "starting", 0.43
    page = open_page()
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "43")
    ask(page, "hello")
    expect(page.locator(".waiting")).to_have_text("The model is loading, 43 %. Your message is sent when it is ready.")
    box.state, box.load_fraction = "ready", None
    expect(answer_of(page)).to_have_text("A short answer.")


def test_a_failed_model_is_explained_and_waited_for(open_page: OpenPage, box: FakeBox) -> None:
    box.state, box.error = "failed", "the engine ended by itself: killed by signal 9"
    page = open_page()
    expect(page.locator(".banner")).to_contain_text("killed by signal 9")
    ask(page, "hello")
    expect(page.locator(".waiting")).to_have_text(
        "The model is being started again. Your message is sent when it is ready."
    )
    box.state, box.error = "ready", None
    expect(answer_of(page)).to_have_text("A short answer.")
    expect(page.locator(".banner")).to_have_count(0)


def test_a_box_that_refuses_on_and_on_is_not_asked_in_a_circle(open_page: OpenPage, box: FakeBox) -> None:
    box.state = "stopped"
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    ask(page, "hello")
    expect(page.locator(".waiting")).to_have_text("No model is loaded on the box. Your message is sent when one is.")
    with page.expect_request(lambda request: request.url.endswith("/messages")):
        pass
    began = len([url for url in asked if url.endswith("/messages")])
    assert began <= 3
    box.state = "ready"
    expect(answer_of(page)).to_have_text("A short answer.")


def test_a_waiting_question_is_taken_back(open_page: OpenPage, box: FakeBox) -> None:
    box.state = "starting"
    page = open_page()
    ask(page, "hello")
    expect(page.locator(".waiting")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#input")).to_have_value("hello")
    expect(page.locator(".waiting")).to_have_count(0)
    assert box.questions == []


def test_a_silent_box_is_explained(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    expect(page.locator(".model-name")).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    ask(page, "hello")
    expect(page.locator(".error-title")).to_have_text("The box does not answer")
    page.unroute("**/*")
    page.get_by_role("button", name="Try again").click()
    expect(answer_of(page)).to_have_text("A short answer.")


@pytest.mark.parametrize(
    ("script", "title", "detail", "steps"),
    [
        (
            "too long",
            "This conversation is too long for the model",
            "18,204",
            ["Change the message", "Start a new chat"],
        ),
        ("rate", "Too many requests just now", "Try again in 20 s", ["Try again"]),
        ("crash", "The model stopped in the middle of the answer", "process ended", ["Try again"]),
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
    expect(page.get_by_role("alert").first).to_contain_text(title)


def test_a_refused_message_is_changed_and_sent(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    ask(page, "too long")
    page.get_by_role("button", name="Change the message").click()
    expect(page.locator("#input")).to_have_value("too long")
    expect(page.locator(".error-card")).to_have_count(0)
    ask(page, "short")
    expect(answer_of(page)).to_have_text("A short answer.")


def test_what_had_come_before_an_error_is_kept_and_tried_again(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": [Say("The first half of"), Fail("engine_lost", "The model's process ended.")]}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".error-card")).to_be_visible()
    expect(answer_of(page)).to_have_text("The first half of")
    box.scripts = {"hi": [Say("All of it."), Finish()]}
    page.get_by_role("button", name="Try again").click()
    expect(answer_of(page)).to_have_text("All of it.")


def test_an_interrupted_answer_says_so(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    ask(page, "hi")
    wait_for_answer(page)
    [chat] = box.chats.values()
    chat["messages"][-1]["state"] = "interrupted"
    page.reload()
    expect(page.locator(".error-title")).to_have_text("The answer was interrupted")
    expect(answer_of(page)).to_have_text("A short answer.")


def test_a_revoked_key_leads_to_the_entry_and_keeps_the_question(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    expect(page.locator(".model-name")).to_be_visible()
    box.keys = {"r1b_new": "new"}
    ask(page, "hello")
    page.get_by_label("API key", exact=True).fill("r1b_new")
    page.get_by_label("API key", exact=True).press("Enter")
    expect(page.locator("#input")).to_have_value("hello")


def test_a_busy_box_is_asked_again(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": Refusal(429, "queue_full", "All seats are taken.", retry_after_s=1)}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".waiting")).to_have_text("The box is busy. Your message is tried again in a moment.")
    box.scripts = {"hi": [Say("Now."), Finish()]}
    expect(answer_of(page)).to_have_text("Now.")


def test_a_length_limit_is_declared(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"think": [Think("hm"), Finish("length")], "say": [Say("Half"), Finish("length")], "no": [Hold()]}
    page = open_page()
    ask(page, "say")
    expect(page.locator(".note")).to_have_text("The answer reached the length limit and ends here.")
    ask(page, "think")
    expect(page.locator(".note").last).to_contain_text("while still thinking")
