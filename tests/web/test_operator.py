"""The operator area, against the fake box: each tab, what it changes, and that axe is content with it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .fake_box import MODEL, FakeBox
from .fake_server import FakeServer
from .steps import PHONE, log_in
from .test_axe import check


def enter(open_page: OpenPage, box: FakeBox, role: str = "admin", **options: Any) -> Page:
    box.add_user("chief", "x", "admin")
    box.add_user("ward", "correct horse", role)
    page = open_page(signed_in=False, **options)
    log_in(page, "ward", "correct horse")
    expect(page.locator("#input")).to_be_visible()
    page.evaluate("location.hash = '#/operator/cards'")
    expect(page.get_by_role("heading", name="Operator area")).to_be_visible()
    return page


def tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Operator area").get_by_role("link", name=name, exact=True).click()


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_every_tab_is_usable_by_everybody(open_page: OpenPage, box: FakeBox, options: dict[str, Any]) -> None:
    page = enter(open_page, box, **options)
    for name, shown in (
        ("Cards", "NVIDIA A800"),
        ("Models", "R1-Distill-Llama-70B"),
        ("Issues", "The certificate ends in 9 days."),
        ("Requests", "ward"),
        ("Usage", "6,000"),
        ("Keys", "There is no key."),
        ("Users", "chief"),
    ):
        tab(page, name)
        expect(page.locator(".op-view").get_by_text(shown).first).to_be_visible()
        check(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.evaluate("innerWidth"), name


def test_cards_show_values_curves_and_what_is_lost(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    card = page.get_by_role("region", name="nvidia:0")
    expect(card).to_contain_text("41.0 GiB / 80.0 GiB")
    expect(card).to_contain_text("54 °C")
    expect(card.get_by_role("img")).to_have_count(4)
    expect(card.locator("canvas").first).to_be_visible()
    expect(page.get_by_role("region", name="ascend:4")).to_contain_text("-8012 not ready")


def test_models_are_loaded_and_unloaded(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Models")
    other = page.get_by_role("row").filter(has_text="R1-Distill-Llama-70B")
    other.get_by_role("button", name="Load").click()
    expect(other).to_contain_text("ready")
    own = page.get_by_role("row").filter(has_text=MODEL)
    expect(own).to_contain_text("VERIFIED")
    expect(own).to_contain_text("8 × 16k")
    own.get_by_role("button", name="Unload").click()
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    expect(own).to_contain_text("not loaded")


def test_an_issue_is_mended(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Issues")
    page.get_by_role("button", name="Renew the certificate").click()
    expect(page.get_by_text("Nothing needs attention.")).to_be_visible()
    expect(page.locator(".toast")).to_contain_text("The certificate was renewed.")


def test_a_key_is_made_shown_once_and_revoked(open_page: OpenPage, server: FakeServer) -> None:
    page = enter(open_page, server.box)
    tab(page, "Keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("nurse-app")
    page.get_by_label("Tokens a day").fill("200000")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".secret")).to_have_text("r1b_abcdefghijklmnop")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("row").filter(has_text="nurse-app")).to_contain_text("200,000 tokens/day")
    assert "r1b_abcdefghijklmnop" not in page.content()
    page.get_by_role("button", name="Revoke nurse-app").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("There is no key.")).to_be_visible()


def test_a_user_is_made(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Users")
    page.get_by_role("button", name="New user").click()
    page.get_by_label("Name").fill("anna")
    page.get_by_label("First password").fill("for the first day")
    page.get_by_role("dialog").get_by_label("Role").select_option("operator")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("row").filter(has_text="anna")).to_contain_text("has to choose a password")
    assert box.users["anna"]["role"] == "operator"


def test_who_may_only_read_gets_no_buttons(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box, "user")
    expect(page.get_by_role("navigation", name="Operator area").get_by_role("link")).to_have_text(
        ["Cards", "Models", "Issues", "Back to the chats"]
    )
    tab(page, "Models")
    expect(page.get_by_role("row").filter(has_text=MODEL)).to_be_visible()
    expect(page.locator(".op-view").get_by_role("button")).to_have_count(0)
