"""What models write, in the page: hostile, rich, long."""

from __future__ import annotations

from playwright.sync_api import expect

from .conftest import OpenPage
from .fake_box import FakeBox
from .scripts import LONG, Finish, Hold, Say, Think
from .steps import answer_of, ask, wait_for_answer
from .watch import watch, watched


def test_model_text_never_runs(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page()
    page.evaluate("addEventListener('securitypolicyviolation', () => { window.violated = true; })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    ask(page, "hostile")
    wait_for_answer(page)
    answer = answer_of(page)
    expect(answer).to_contain_text("<script>window.pwned = 1</script>")
    expect(answer.locator(".katex, .math-raw").first).to_be_visible()
    assert page.evaluate("[window.pwned, window.violated]") == [None, None]
    assert answer.locator("script, img, iframe, object, style, form, input").count() == 0
    assert answer.locator(":is(a, span, div)[style*=url], [onclick], [onload], .toast").count() == 0
    links = answer.locator("a").all()
    addresses = {link.get_attribute("href") for link in links}
    assert {"https://example.org/", "https://evil.example/track.png"} <= addresses
    assert all(address is not None and address.startswith("https://") for address in addresses)
    assert all(link.get_attribute("rel") == "noopener noreferrer" for link in links)
    assert [url for url in asked if "evil.example" in url] == []


def test_markdown_and_its_copies(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    ask(page, "fever")
    wait_for_answer(page)
    answer = answer_of(page)
    expect(answer.locator("ol > li")).to_have_count(3)
    expect(answer.locator("ol ul > li")).to_have_count(2)
    expect(answer.locator("tbody tr")).to_have_count(3)
    expect(answer.locator(".katex")).to_have_count(3)
    expect(answer.locator(".katex math").first).to_be_attached()  # for screen readers
    expect(answer).to_contain_text("It costs $5 and $6.")
    expect(answer.locator(".code-head")).to_contain_text("python")
    expect(answer.locator(".hljs-keyword").first).to_have_text("def")
    page.locator(".code-block").get_by_role("button", name="Copy").click()
    expect(page.locator(".code-block").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("def celsius(")
    page.locator(".answer .foot-row").get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("## Fever in adults")


def test_half_written_marks_are_not_shown(open_page: OpenPage, box: FakeBox) -> None:
    steps = ["A **bold", " word** and `co", "de` and *", "slanted* one, \n\n$$ x", "^2", " $$\n\nEnd."]
    holds = [Hold() for _ in steps]
    box.scripts = {"hi": [part for pair in zip(map(Say, steps), holds, strict=True) for part in pair] + [Finish()]}
    page = open_page()
    ask(page, "hi")
    answer = answer_of(page)
    for expected, hold in zip(
        ["A bold", "A bold word and co", "A bold word and code and", "slanted one, ", "x^2", "End."], holds, strict=True
    ):
        expect(answer).to_contain_text(expected)
        text = answer.inner_text()
        assert set(text) & set("*`$") == set(), text
        hold.release()
    wait_for_answer(page)
    expect(answer.locator(".katex")).to_have_count(1)


def test_a_definition_that_comes_last_still_makes_links(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": [Say("See [the rule][1].\n\nMore.\n\n[1]: https://example.org/rule\n"), Finish()]}
    page = open_page()
    ask(page, "hi")
    wait_for_answer(page)
    expect(answer_of(page).locator("a")).to_have_attribute("href", "https://example.org/rule")


def test_twenty_thousand_tokens(open_page: OpenPage, box: FakeBox) -> None:
    """Nothing flickers and the reader's place is kept. What is finished is never built again, so that work does not
    grow with the answer; how long it takes is printed, and measured by ``tests/bench/test_page.py``."""
    assert len(LONG) > 75_000
    middle = LONG.index("## Part 90")
    hold = Hold()
    box.scripts = {"hi": [Think("hm"), Say(LONG[:middle]), hold, Say(LONG[middle:]), Finish()]}
    page = open_page()
    watch(page)
    ask(page, "hi")
    answer = answer_of(page)
    expect(answer.locator("h4")).to_have_count(90, timeout=30_000)
    first = answer.locator(":scope > *").first
    first.evaluate("node => { node.dataset.kept = 'yes'; }")
    expect(page.get_by_role("button", name="Jump to the latest")).to_have_count(0)
    seen = watched(page)
    assert (seen["rebuilt"], seen["back"]) == (0, 0)
    page.locator(".scroll").hover()
    page.mouse.wheel(0, -2000)
    expect(page.get_by_role("button", name="Jump to the latest")).to_be_visible()
    top = page.locator(".scroll").evaluate("node => node.scrollTop")
    hold.release()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=30_000)
    expect(answer.locator("h4")).to_have_count(180)
    expect(answer.locator(".katex")).to_have_count(180)
    assert page.locator(".scroll").evaluate("node => node.scrollTop") == top
    expect(first).to_have_attribute("data-kept", "yes")
    page.get_by_role("button", name="Jump to the latest").click()
    expect(answer.locator("h4").last).to_be_in_viewport()
    seen = watched(page)
    print(f"while 20,000 tokens came: {seen}")
    assert seen["rebuilt"] == 0
    assert seen["shifted"] < 0.02
