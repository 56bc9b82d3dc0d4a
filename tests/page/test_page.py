"""The chat page in Chromium, against the fake box: what a reader does and sees."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .fake_server import KEY, MODEL, THOUGHTS, FakeBox, Finish, Hold, Say, Think
from .steps import ask, wait_for_answer

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_first_visit_asks_for_a_key_and_keeps_it_in_the_tab(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(signed_in=False)
    expect(page.locator("#key-field")).to_be_focused()
    expect(page.locator("#app")).to_be_hidden()
    page.locator("#key-field").press("Enter")
    expect(page.locator("#key-message")).to_have_text("Please enter a key.")
    page.locator("#key-field").fill("r1b_wrong")
    page.locator("#key-field").press("Enter")
    expect(page.locator("#key-message")).to_contain_text("does not know this key")
    page.locator("#key-field").fill(f"  {KEY} ")
    page.locator("#key-field").press("Enter")
    expect(page.locator("#input")).to_be_focused()
    expect(page.locator(".model-name")).to_have_text(MODEL)
    assert page.evaluate("localStorage.getItem('r1box.key')") is None
    assert page.evaluate("sessionStorage.getItem('r1box.key')") == KEY


def test_a_key_in_the_address_is_used_and_removed(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    expect(page.locator("#input")).to_be_focused()
    assert page.url == box.url
    page.evaluate("location.hash = '#key=r1b_other'")
    expect(page.locator("#key-message")).to_contain_text("does not know this key")
    assert page.url == box.url


def test_thinking_streams_under_a_quiet_line(open_page: OpenPage, box: FakeBox) -> None:
    thinking, answering = Hold(), Hold()
    box.scripts = {"hi": [Think(THOUGHTS), thinking, Say("**Yes"), answering, Say("** it is."), Finish()]}
    page = open_page()
    ask(page, "hi")
    line = page.locator(".thought-toggle")
    expect(line).to_have_text(re.compile(r"^Thinking… \d+ s$"))
    expect(page).to_have_title("Thinking… · R1 Box")
    expect(page.locator(".thought-text")).to_be_hidden()
    line.click()
    expect(page.locator(".thought-text")).to_contain_text("the conversion must be right")
    thinking.release()
    expect(page.locator(".markdown strong")).to_have_text("Yes")
    expect(page).to_have_title("Answering… · R1 Box")
    answering.release()
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("Yes it is.")
    expect(line).to_contain_text("· 1,204 tokens")
    expect(line).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".facts")).to_contain_text("310 tokens")
    expect(page.locator("#meter")).to_have_text("428 of 16k tokens")
    expect(page).to_have_title("R1 Box")
    expect(page.locator("#announcer")).to_have_text("The answer is complete.")


def test_the_next_question_carries_the_answer_without_its_reasoning(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    ask(page, "one")
    wait_for_answer(page)
    ask(page, "two")
    wait_for_answer(page)
    expect(page.locator(".answer")).to_have_count(2)
    assert box.requests[1]["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "A short answer."},
        {"role": "user", "content": "two"},
    ]
    assert box.requests[1]["model"] == MODEL


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_keeps_what_had_come_and_frees_the_box(open_page: OpenPage, box: FakeBox, way: str) -> None:
    box.scripts = {"hi": [Say("The first half"), Hold()]}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".markdown")).to_have_text("The first half")
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.locator("#input").press("Escape")
    expect(page.locator(".note")).to_have_text("Stopped.")
    expect(page.locator(".markdown")).to_have_text("The first half")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    assert box.disconnected.wait(10)


def test_answer_again_and_edit(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    ask(page, "first")
    wait_for_answer(page)
    page.get_by_role("button", name="Answer again").click()
    wait_for_answer(page)
    expect(page.locator(".answer")).to_have_count(1)
    page.locator("#input").fill("a draft")
    page.locator(".question").hover()
    page.get_by_role("button", name="Edit").click()
    expect(page.locator("#input")).to_have_value("first")
    page.locator("#input").fill("second")
    page.locator("#input").press("Enter")
    wait_for_answer(page)
    expect(page.locator(".bubble")).to_have_text(["second"])
    expect(page.locator("#input")).to_have_value("a draft")
    assert [body["messages"] for body in box.requests[1:]] == [
        [{"role": "user", "content": "first"}],
        [{"role": "user", "content": "second"}],
    ]


def test_model_text_never_runs(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    page.evaluate("addEventListener('securitypolicyviolation', () => { window.violated = true; })")
    ask(page, "hostile")
    wait_for_answer(page)
    assert page.evaluate("[window.pwned, window.violated]") == [None, None]
    answer = page.locator(".markdown")
    assert answer.locator("script, img, iframe, svg:not(.icon), object, style").count() == 0
    links = answer.locator("a")
    assert {link.get_attribute("href") for link in links.all()} == {
        "https://example.org/",
        "https://evil.example/track.png",
    }
    assert all(link.get_attribute("rel") == "noopener noreferrer" for link in links.all())
    expect(answer).to_contain_text("<script>window.pwned = 1</script>")


def test_markdown_and_its_copies(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    ask(page, "fever")
    wait_for_answer(page)
    answer = page.locator(".markdown")
    expect(answer.locator("ol > li")).to_have_count(3)
    expect(answer.locator("ol ul > li")).to_have_count(2)
    expect(answer.locator("tbody tr")).to_have_count(3)
    expect(answer.locator(".boxed")).to_have_text("42 mg")
    page.locator(".code-block").get_by_role("button", name="Copy").click()
    expect(page.locator(".code-block").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("def celsius(")
    page.locator(".answer .foot").get_by_role("button", name="Copy").click()
    expect(page.locator(".answer .foot").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("## Fever in adults")


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


def test_reload_keeps_draft_chat_and_half_an_answer(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": [Think("hm"), Say("The first half"), Hold()]}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".markdown")).to_have_text("The first half")
    page.locator("#input").fill("not sent yet")
    page.reload()
    expect(page.locator(".markdown")).to_have_text("The first half")
    expect(page.locator(".note")).to_have_text("Stopped.")
    expect(page.locator("#input")).to_have_value("not sent yet")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()


def test_scrolling_up_stays_and_finished_blocks_are_not_built_again(open_page: OpenPage, box: FakeBox) -> None:
    hold = Hold()
    paragraphs = [f"Paragraph {number} with **bold** words.\n\n" for number in range(120)]
    box.scripts = {"hi": [Say("".join(paragraphs[:60])), hold, Say("".join(paragraphs[60:])), Finish()]}
    page = open_page()
    ask(page, "hi")
    expect(page.locator(".markdown p")).to_have_count(60)
    expect(page.locator("#jump")).to_be_hidden()
    expect(page.locator(".markdown p").nth(59)).to_be_in_viewport()
    page.locator(".markdown p").first.evaluate("node => { node.dataset.kept = 'yes'; }")
    page.locator("#scroll").hover()
    page.mouse.wheel(0, -600)
    expect(page.locator("#jump")).to_be_visible()
    top = page.locator("#scroll").evaluate("node => node.scrollTop")
    hold.release()
    wait_for_answer_text(page, "Paragraph 119")
    assert page.locator("#scroll").evaluate("node => node.scrollTop") == top
    page.locator("#jump").click()
    expect(page.locator(".markdown p").nth(119)).to_be_in_viewport()
    expect(page.locator(".markdown p").first).to_have_attribute("data-kept", "yes")


def wait_for_answer_text(page: Page, text: str) -> None:
    expect(page.locator(".answer").last).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".markdown").last).to_contain_text(text)


def test_an_answer_goes_on_while_another_chat_is_read(open_page: OpenPage, box: FakeBox) -> None:
    hold = Hold()
    box.scripts = {"slow": [Say("Half."), hold, Say(" Whole."), Finish()], "quick": [Say("Quick."), Finish()]}
    page = open_page()
    ask(page, "slow question")
    expect(page.locator(".markdown")).to_have_text("Half.")
    page.get_by_role("button", name="New chat").first.click()
    ask(page, "quick question")
    wait_for_answer(page)
    expect(page.locator(".markdown")).to_have_text("Quick.")
    expect(page.locator(".running")).to_have_count(1)
    page.locator(".chat-link", has_text="slow question").click()
    expect(page.locator(".markdown")).to_have_text("Half.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    hold.release()
    expect(page.locator(".markdown")).to_have_text("Half. Whole.")
    expect(page.locator(".running")).to_have_count(0)


def test_chats_are_found_deleted_and_brought_back(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    for text in ("aspirin dose", "fever rule"):
        page.get_by_role("button", name="New chat").first.click()
        ask(page, text)
        wait_for_answer(page)
    titles = page.locator(".chat-title")
    expect(titles).to_have_text(["fever rule", "aspirin dose"])
    page.locator("#search").fill("aspirin")
    expect(titles).to_have_text(["aspirin dose"])
    page.locator("#search").fill("")
    page.locator(".chat-list li").first.hover()
    page.get_by_role("button", name="Delete “fever rule”").click()
    expect(titles).to_have_text(["aspirin dose"])
    expect(page.locator(".welcome")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(titles).to_have_text(["fever rule", "aspirin dose"])


def test_remembering_moves_key_and_chats_and_signing_out_removes_them(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    ask(page, "hello")
    wait_for_answer(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Remember me on this computer").check()
    page.get_by_role("button", name="Close").click()
    assert page.evaluate("localStorage.getItem('r1box.key')") == KEY
    expect(page.locator(".chat-title")).to_have_text(["hello"])
    other = page.context.new_page()
    other.goto(box.url)
    expect(other.locator(".chat-title")).to_have_text(["hello"])
    other.close()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Sign out").click()
    page.locator("#sign-out").get_by_role("button", name="Sign out").click()
    expect(page.locator("#key-field")).to_be_visible()
    kept = page.evaluate("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]")
    assert [name for name in kept if "key" in name or "chat." in name or "draft" in name] == []


def test_language_and_colours(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(locale="zh-CN", color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    ask(page, "发热怎么处理")
    wait_for_answer(page)
    expect(page.locator(".markdown strong").first).to_have_text("注意：")
    page.get_by_role("button", name="设置").click()
    page.get_by_label("语言").select_option("en")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.get_by_label("Appearance").select_option("light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_several_models_can_be_picked(open_page: OpenPage, box: FakeBox) -> None:
    box.models = [MODEL, "R1-Distill-Llama-8B"]
    page = open_page()
    page.get_by_label("Model").select_option("R1-Distill-Llama-8B")
    ask(page, "hello")
    wait_for_answer(page)
    assert box.requests[0]["model"] == "R1-Distill-Llama-8B"


def test_phone(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(**PHONE)
    page.locator("#input").fill("hello")
    page.locator("#input").press("Enter")  # a new line here: the button sends
    expect(page.locator(".question")).to_have_count(0)
    page.locator("#send").tap()
    wait_for_answer(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#sidebar")).not_to_be_in_viewport()
    page.get_by_role("button", name="Show chats").tap()
    expect(page.locator(".chat-title")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.locator("#sidebar")).not_to_be_in_viewport()
    expect(page.get_by_role("button", name="Show chats")).to_be_focused()
