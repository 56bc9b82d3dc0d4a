"""The life of a chat, against the fake box: what a reader does and sees."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from .conftest import OpenPage
from .fake_box import MODEL, FakeBox
from .fake_server import FakeServer
from .scripts import THOUGHTS, Cut, Finish, Hold, Queued, Say, Think
from .steps import PHONE, answer_of, ask, log_in, menu, new_chat, wait_for_answer


def test_thinking_streams_under_a_quiet_line(open_page: OpenPage, box: FakeBox) -> None:
    thinking, answering = Hold(), Hold()
    box.scripts = {"hi": [Think(THOUGHTS), thinking, Say("**Yes"), answering, Say("** it is."), Finish()]}
    page = open_page()
    ask(page, "hi")
    line = page.locator(".thought-toggle")
    expect(line).to_have_text(re.compile(r"^Thinking… \d+ s$"))
    expect(page).to_have_title("Thinking… · R1 Box")
    expect(page.locator(".thought-text")).to_have_count(0)
    line.click()
    expect(page.locator(".thought-text")).to_contain_text("the conversion must be right")
    thinking.release()
    expect(answer_of(page).locator("strong")).to_have_text("Yes")
    expect(page).to_have_title("Answering… · R1 Box")
    answering.release()
    wait_for_answer(page)
    expect(answer_of(page)).to_have_text("Yes it is.")
    expect(page.locator(".thought-toggle")).to_contain_text("· 1,204 tokens")
    expect(page.locator(".facts")).to_contain_text("310 tokens")
    expect(page.locator(".meter")).to_have_text("428 of 16k tokens")
    expect(page).to_have_title("hi · R1 Box")
    expect(page.locator("#announcer")).to_have_text("The answer is complete.")


def test_answer_now_ends_the_thinking(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": [Think("hm"), Hold(), Say("Now."), Finish()]}
    page = open_page()
    ask(page, "hi")
    page.get_by_role("button", name="Answer now").click()
    wait_for_answer(page)
    expect(answer_of(page)).to_have_text("Now.")
    expect(page.locator(".note")).to_have_text("The thinking was ended because you asked for the answer.")


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_keeps_what_had_come(open_page: OpenPage, box: FakeBox, way: str) -> None:
    box.scripts = {"hi": [Say("The first half"), Hold()]}
    page = open_page()
    ask(page, "hi")
    expect(answer_of(page)).to_have_text("The first half")
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.locator("#input").press("Escape")
    expect(page.locator(".note")).to_have_text("Stopped.")
    expect(answer_of(page)).to_have_text("The first half")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    assert all(writing.stopped.is_set() for writing in box.writings.values())


def test_edit_and_answer_again_make_branches(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    ask(page, "first")
    wait_for_answer(page)
    page.get_by_role("button", name="Answer again").click()
    wait_for_answer(page)
    expect(page.locator(".answer")).to_have_count(1)
    expect(page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    page.locator("#input").fill("a draft")
    page.locator(".question").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill("second")
    page.locator(".editor").get_by_role("button", name="Send").click()
    wait_for_answer(page)
    expect(page.locator(".bubble")).to_have_text(["second"])
    expect(page.locator("#input")).to_have_value("a draft")
    page.locator(".question").hover()
    page.get_by_role("button", name="Previous version").click()
    expect(page.locator(".bubble")).to_have_text(["first"])
    page.reload()
    expect(page.locator(".bubble")).to_have_text(["first"])
    asked = [(body["parent_id"] is None, body["content"]) for body in box.questions]
    assert asked == [(True, "first"), (False, None), (True, "second")]


def test_an_input_method_keeps_its_enter(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    page.locator("#input").focus()
    input_method = page.context.new_cdp_session(page)
    input_method.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    page.keyboard.press("Enter")
    expect(page.locator(".question")).to_have_count(0)
    input_method.send("Input.insertText", {"text": "你好"})
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("x")
    expect(page.locator(".question")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_count(1)
    assert page.locator(".bubble").inner_text().endswith("\nx")
    assert "你好" in page.locator(".bubble").inner_text()


def test_a_reload_in_mid_stream_goes_on(open_page: OpenPage, box: FakeBox) -> None:
    hold = Hold()
    box.scripts = {"hi": [Think("hm"), Say("The first half"), hold, Say(" and the rest."), Finish()]}
    page = open_page()
    ask(page, "hi")
    expect(answer_of(page)).to_have_text("The first half")
    page.locator("#input").fill("not sent yet")
    page.reload()
    expect(answer_of(page)).to_have_text("The first half")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator("#input")).to_have_value("not sent yet")
    hold.release()
    wait_for_answer(page)
    expect(answer_of(page)).to_have_text("The first half and the rest.")
    assert len(box.questions) == 1


def test_a_lost_connection_is_taken_up_where_it_was(open_page: OpenPage, box: FakeBox) -> None:
    lost, more = Hold(), Hold()
    box.scripts = {"hi": [Say("One, "), lost, Cut(), more, Say("two, three."), Finish()]}
    page = open_page()
    ask(page, "hi")
    expect(answer_of(page)).to_have_text("One,")
    with page.expect_request(re.compile("/events$")) as again:
        lost.release()
    assert again.value.headers["last-event-id"] == "1"
    more.release()
    wait_for_answer(page)
    expect(answer_of(page)).to_have_text("One, two, three.")


def test_two_tabs_see_the_same_answer(open_page: OpenPage, server: FakeServer) -> None:
    hold = Hold()
    server.box.scripts = {"hi": [Say("Half."), hold, Say(" Whole."), Finish()]}
    page = open_page()
    ask(page, "hi")
    expect(answer_of(page)).to_have_text("Half.")
    other = page.context.new_page()
    other.goto(page.url)
    other.evaluate("sessionStorage.setItem('r1box.key', 'r1b_demo')")
    other.reload()
    expect(answer_of(other)).to_have_text("Half.")
    hold.release()
    for tab in (page, other):
        expect(answer_of(tab)).to_have_text("Half. Whole.")


def test_two_users_have_their_own_chats(open_page: OpenPage, box: FakeBox) -> None:
    hold = Hold()
    box.scripts = {"slow": [Say("Half."), hold, Say(" Whole."), Finish()], "quick": [Say("Quick."), Finish()]}
    pages = []
    for name in ("anna", "bela"):
        box.add_user(name, "password", "admin")
        page = open_page(signed_in=False)
        log_in(page, name, "password")
        pages.append(page)
    anna, bela = pages
    ask(anna, "slow question")
    expect(answer_of(anna)).to_have_text("Half.")
    ask(bela, "quick question")
    wait_for_answer(bela)
    hold.release()
    wait_for_answer(anna)
    expect(answer_of(anna)).to_have_text("Half. Whole.")
    for page, own in ((anna, "slow question"), (bela, "quick question")):
        page.reload()
        expect(page.locator(".chat-title")).to_have_text([own])
    bela.goto(anna.url)
    bela.reload()
    expect(bela.locator(".error-title")).to_have_text("This is not on the box any more")


def test_an_answer_goes_on_while_another_chat_is_read(open_page: OpenPage, box: FakeBox) -> None:
    hold = Hold()
    box.scripts = {"slow": [Say("Half."), hold, Say(" Whole."), Finish()], "quick": [Say("Quick."), Finish()]}
    page = open_page()
    ask(page, "slow question")
    expect(answer_of(page)).to_have_text("Half.")
    new_chat(page)
    ask(page, "quick question")
    wait_for_answer(page)
    expect(answer_of(page)).to_have_text("Quick.")
    expect(page.locator(".running")).to_have_count(1)
    page.locator(".chat-link", has_text="slow question").click()
    expect(answer_of(page)).to_have_text("Half.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    hold.release()
    expect(answer_of(page)).to_have_text("Half. Whole.")
    expect(page.locator(".running")).to_have_count(0)


def held_posts(page: Page) -> list[Route]:
    """Requests for a new chat from now on, which wait until they are let go."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route) if route.request.method == "POST" else route.fallback()

    page.route(re.compile("/api/chats$"), hold)
    return held


def test_who_goes_to_another_chat_meanwhile_is_left_there(open_page: OpenPage, box: FakeBox) -> None:
    """The box takes its time to make a chat; its question waits in it as a draft, unasked, and no view is mixed up."""
    page = open_page()
    ask(page, "The first question")
    wait_for_answer(page)
    new_chat(page)
    held = held_posts(page)
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/api/chats")):
        ask(page, "The second question")
    page.get_by_role("link", name="The first question").click()
    expect(page.locator(".bubble")).to_have_text(["The first question"])
    address = page.url
    with page.expect_response(lambda response: response.request.method == "POST"):
        held[0].continue_()
    made = page.locator(".chat-link").filter(has_text="New chat")
    expect(made).to_have_count(1)
    expect(page.locator(".bubble")).to_have_text(["The first question"])
    assert page.url == address
    made.click()
    expect(page.locator("#input")).to_have_value("The second question")
    assert [question["content"] for question in box.questions] == ["The first question"]


def test_what_is_taken_back_is_not_asked(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    held = held_posts(page)
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/api/chats")):
        ask(page, "Never mind")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#input")).to_have_value("Never mind")
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        held[0].continue_()
    assert box.questions == []
    assert box.chats == {}


def test_a_new_chats_id_does_not_take_the_focus_away(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    held = held_posts(page)
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/api/chats")):
        ask(page, "hi")
    search = page.get_by_role("searchbox")
    search.focus()
    with page.expect_response(lambda response: response.url.endswith("/messages")):
        held[0].continue_()
    wait_for_answer(page)
    expect(search).to_be_focused()


def test_chats_are_found_renamed_pinned_exported_and_deleted(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {}
    page = open_page()
    for text in ("aspirin dose", "fever rule"):
        new_chat(page)
        ask(page, text)
        wait_for_answer(page)
    titles = page.locator(".chat-title")
    expect(titles).to_have_text(["fever rule", "aspirin dose"])
    page.get_by_label("Search chats").fill("aspirin")
    expect(titles).to_have_text(["aspirin dose"])
    page.get_by_label("Search chats").fill("short answer")
    expect(page.locator(".chat-snippet mark").first).to_have_text("short answer")
    page.get_by_label("Search chats").fill("")
    menu(page, "aspirin dose", "Rename")
    page.get_by_label("Title").fill("ASS")
    page.get_by_label("Title").press("Enter")
    expect(titles).to_have_text(["fever rule", "ASS"])
    menu(page, "ASS", "Pin")
    expect(titles).to_have_text(["ASS", "fever rule"])
    expect(page.locator(".chat-list h2")).to_have_text(["Pinned", "Today"])
    with page.expect_download() as download:
        menu(page, "fever rule", "Export as Markdown")
    assert download.value.suggested_filename == "fever rule.md"
    menu(page, "fever rule", "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(titles).to_have_text(["ASS"])
    expect(page.locator(".welcome")).to_be_visible()
    assert len(box.chats) == 1


def test_files_go_with_a_question(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    field = page.locator("input[type=file]")
    field.set_input_files({"name": "labor 报告.txt", "mimeType": "text/plain", "buffer": b"Kalium 5.9 mmol/l\n" * 20})
    expect(page.locator(".file")).to_contain_text("labor 报告.txt")
    expect(page.locator(".file-size")).to_have_text("90 tokens")
    field.set_input_files({"name": "virus.exe", "mimeType": "application/octet-stream", "buffer": b"MZ"})
    expect(page.locator(".file.failed")).to_contain_text("virus.exe was not attached")
    page.locator(".file.failed").get_by_role("button", name="Dismiss").click()
    ask(page, "what does it say")
    wait_for_answer(page)
    expect(page.locator(".question .file")).to_contain_text("labor 报告.txt")
    expect(page.locator(".composer .file")).to_have_count(0)
    [body] = box.questions
    assert len(body["attachment_ids"]) == 1


def test_model_and_effort_are_picked_and_kept(open_page: OpenPage, box: FakeBox) -> None:
    box.models = [MODEL, "R1-Distill-Llama-8B"]
    page = open_page()
    page.get_by_label("Model").select_option("R1-Distill-Llama-8B")
    page.get_by_label("Thinking effort").select_option("low")
    page.reload()
    ask(page, "hello")
    wait_for_answer(page)
    assert (box.questions[0]["model"], box.questions[0]["effort"]) == ("R1-Distill-Llama-8B", "low")
    expect(page.locator(".facts")).to_contain_text("R1-Distill-Llama-8B")


def test_the_meter_counts_before_sending(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    page.locator("#input").fill("word " * 200)
    expect(page.locator(".meter")).to_have_text("349 of 16k tokens")
    ask(page, "hello")
    wait_for_answer(page)
    expect(page.locator(".meter")).to_have_text("26 of 16k tokens")
    page.locator("#input").fill("word " * 400)
    expect(page.locator(".meter")).to_have_text("599 of 16k tokens")
    page.locator("#input").fill("x" * 80_000)
    expect(page.locator(".meter")).to_have_text("Too long by 3,716 tokens")


def test_the_place_in_the_queue(open_page: OpenPage, box: FakeBox) -> None:
    first, second = Hold(), Hold()
    box.scripts = {"hi": [Queued(3, 22), first, Queued(1, 6), second, Say("Now."), Finish()]}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".waiting")).to_have_text("You are number 3 in the queue, about 22 s")
    page.reload()
    expect(page.locator(".waiting")).to_have_text("You are number 3 in the queue, about 22 s")
    first.release()
    expect(page.locator(".waiting")).to_have_text("You are next, about 6 s")
    second.release()
    wait_for_answer(page)
    expect(page.locator(".waiting")).to_have_count(0)


def test_language_and_colours(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(locale="zh-CN", color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    ask(page, "发热怎么处理")
    expect(answer_of(page).locator("strong").first).to_have_text("注意：")
    page.get_by_role("button", name="设置").click()
    page.get_by_label("语言").select_option("en")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.get_by_label("Appearance").select_option("light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Close").first.click()
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_phone(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(**PHONE)
    page.locator("#input").fill("fever")
    page.locator("#input").press("Enter")  # a new line here: the button sends
    expect(page.locator(".question")).to_have_count(0)
    page.get_by_role("button", name="Send").tap()
    wait_for_answer(page)
    expect(answer_of(page)).to_contain_text("Fever in adults")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#sidebar")).not_to_be_in_viewport()
    page.get_by_role("button", name="Show chats").tap()
    expect(page.locator(".chat-title")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.locator("#sidebar")).not_to_be_in_viewport()
    expect(page.get_by_role("button", name="Show chats")).to_be_focused()
