"""Coming in: with name and password, as the first administrator, with a key; and going out again."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .conftest import OpenPage
from .fake_box import KEY, MODEL, SETUP_TOKEN, FakeBox
from .fake_server import FakeServer
from .steps import ask, log_in, wait_for_answer


def test_a_person_logs_in_and_out(open_page: OpenPage, box: FakeBox) -> None:
    box.add_user("ward", "correct horse", "admin")
    page = open_page(signed_in=False)
    expect(page.get_by_label("Name")).to_be_focused()
    log_in(page, "ward", "wrong")
    expect(page.get_by_role("alert")).to_have_text("Name or password is not right.")
    log_in(page, "ward", "correct horse")
    expect(page.locator("#input")).to_be_focused()
    ask(page, "hello")
    wait_for_answer(page)
    page.reload()
    expect(page.locator(".bubble")).to_have_text("hello")
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_text("Logged in as ward")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Name")).to_be_visible()
    expect(page.locator(".bubble")).to_have_count(0)


def test_the_first_administrator(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(signed_in=False)
    expect(page.get_by_role("heading", name="Set up this box")).to_be_visible()
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("alert")).to_have_text("Please fill in every field.")
    page.get_by_label("Setup token").fill("no such token")
    page.get_by_label("Your name for logging in").fill("chief")
    page.get_by_label("Password", exact=True).fill("a long password")
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("alert")).to_contain_text("token is not right")
    page.get_by_label("Setup token").fill(f" {SETUP_TOKEN} ")
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("link", name="Operator area")).to_be_visible()
    assert box.users["chief"]["role"] == "admin"


def test_a_password_that_somebody_else_set_is_changed_first(open_page: OpenPage, box: FakeBox) -> None:
    box.add_user("chief", "x", "admin")
    box.add_user("ward", "given by chief", must_change=True)
    page = open_page(signed_in=False)
    log_in(page, "ward", "given by chief")
    expect(page.get_by_role("heading", name="Choose a new password")).to_be_visible()
    page.get_by_label("Password until now").fill("given by chief")
    page.get_by_label("New password", exact=True).fill("my own words")
    page.get_by_label("New password again").fill("my own worms")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("alert")).to_have_text("The two new passwords are not the same.")
    page.get_by_label("New password again").fill("my own words")
    page.get_by_role("button", name="Change password").click()
    expect(page.locator("#input")).to_be_visible()


def test_a_key_is_kept_in_the_tab_alone(open_page: OpenPage, box: FakeBox) -> None:
    box.add_user("chief", "x", "admin")
    page = open_page(signed_in=False)
    page.get_by_role("button", name="Use an API key").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_have_text("Please fill in every field.")
    page.get_by_label("API key", exact=True).fill("r1b_wrong")
    page.get_by_label("API key", exact=True).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("API key", exact=True).fill(f"  {KEY} ")
    page.get_by_label("API key", exact=True).press("Enter")
    expect(page.locator("#input")).to_be_focused()
    expect(page.locator(".model-name")).to_have_text(MODEL)
    assert page.evaluate("localStorage.getItem('r1box.key')") is None
    assert page.evaluate("sessionStorage.getItem('r1box.key')") == KEY


def test_a_key_that_is_remembered_is_forgotten_with_the_log_out(open_page: OpenPage, server: FakeServer) -> None:
    server.box.add_user("chief", "x", "admin")
    page = open_page(signed_in=False)
    page.get_by_role("button", name="Use an API key").click()
    page.get_by_label("Remember the key on this computer").check()
    page.get_by_label("API key", exact=True).fill(KEY)
    page.get_by_label("API key", exact=True).press("Enter")
    expect(page.locator("#input")).to_be_visible()
    other = page.context.new_page()
    other.goto(server.url)
    expect(other.locator("#input")).to_be_visible()
    other.close()
    page.locator("#input").fill("a draft")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Name")).to_be_visible()
    kept = page.evaluate("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]")
    assert [name for name in kept if "key" in name or "draft" in name] == []


def test_a_key_in_the_address_is_used_and_removed(open_page: OpenPage, server: FakeServer) -> None:
    page = open_page()
    expect(page.locator("#input")).to_be_focused()
    assert KEY not in page.url
    page.evaluate("location.hash = '#key=r1b_other'")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    assert "r1b_other" not in page.url


def test_a_session_that_ended_asks_to_log_in_and_keeps_the_draft(open_page: OpenPage, box: FakeBox) -> None:
    box.add_user("ward", "correct horse", "admin")
    page = open_page(signed_in=False)
    log_in(page, "ward", "correct horse")
    expect(page.get_by_text("Your chats will be listed here.")).to_be_visible()
    box.sessions.clear()
    ask(page, "hello")
    expect(page.get_by_role("alert")).to_have_text("You have been logged out. Please log in again.")
    log_in(page, "ward", "correct horse")
    expect(page.locator("#input")).to_have_value("hello")


def test_who_may_only_look_is_led_to_the_operator_area(open_page: OpenPage, box: FakeBox) -> None:
    box.add_user("chief", "x", "admin")
    box.add_user("auditor", "eyes only", "viewer")
    page = open_page(signed_in=False)
    log_in(page, "auditor", "eyes only")
    expect(page).to_have_url(re.compile(r"#/operator/cards$"))
