"""The operator area, against the fake box: each tab, what it changes, and that axe is content with it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .fake_admin import job, model
from .fake_box import MODEL, FakeBox, now
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
def test_every_tab_is_usable_by_everybody(open_page: OpenPage, server: FakeServer, options: dict[str, Any]) -> None:
    server.admin.jobs = [
        job("job_2", {"kind": "pull", "target": "qwen-14b:Q4_K_M"}),
        job("job_1", {"kind": "verify", "model": "R1-Distill-Qwen-14B"}, state="succeeded", ended_at=now(),
            result={"whole": False, "models": []}),
    ]  # fmt: skip
    server.admin.answer(server.box, "POST", "/api/admin/keys", {
        "name": "nurse-app", "requests_per_minute": 30, "tokens_per_day": 200_000, "models": None, "priority": "batch",
        "user_id": None, "may_override_sampling": False, "reasoning_format": None,
    })  # fmt: skip
    page = enter(open_page, server.box, **options)
    for name, shown in (
        ("Cards", "NVIDIA A800"),
        ("Models", "R1-Distill-Llama-70B"),
        ("Jobs", "R1-Distill-Qwen-14B"),
        ("Issues", "The certificate ends in 9 days."),
        ("Requests", "ward"),
        ("Usage", "6,000"),
        ("Keys", "nurse-app"),
        ("Users", "chief"),
        ("Audit", "key.create"),
        ("Logs", "daemon_started"),
        ("Settings", "chat_keep_days"),
    ):
        tab(page, "Issues 1" if name == "Issues" else name)
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
    other.get_by_role("button", name="Load", exact=True).click()
    expect(other).to_contain_text("ready")
    own = page.get_by_role("row").filter(has_text=MODEL)
    expect(own).to_contain_text("VERIFIED")
    expect(own).to_contain_text("8 × 16k")
    proof = page.get_by_role("region", name=MODEL)
    expect(proof).to_contain_text("It is slower than planned.")
    expect(proof).to_contain_text("Expected: 40–61 tokens/s")
    own.get_by_role("button", name="Unload").click()
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    expect(own).to_contain_text("not loaded")


def test_a_box_without_a_model_gets_one(open_page: OpenPage, server: FakeServer) -> None:
    """From the empty chat over the wish to the download, its progress, and its end."""
    server.box.models, server.admin.models = [], []
    server.box.add_user("ward", "correct horse", "admin")
    page = open_page(signed_in=False)
    log_in(page, "ward", "correct horse")
    page.get_by_role("link", name="Choose a model").click()
    check(page)
    page.get_by_role("button", name="Get a model").click()
    check(page)
    page.get_by_label("Which model").fill("qwen-7b:Q4_K_M")
    page.get_by_role("button", name="Begin").click()
    download = page.get_by_role("region", name="Download: qwen-7b:Q4_K_M")
    expect(download.get_by_role("progressbar")).to_have_attribute("value", "0.375")
    expect(download).to_contain_text("37 % · 3.0 GiB / 8.0 GiB · 50.0 MiB/s · 1 min 42 s left")
    assert server.admin.wishes == [{"kind": "pull", "target": "qwen-7b:Q4_K_M", "hub": "auto"}]
    server.admin.jobs[0]["state"] = "succeeded"
    server.admin.models, server.box.models = [model(MODEL, default=True)], [MODEL]
    expect(page.get_by_role("row").filter(has_text=MODEL)).to_be_visible()
    page.get_by_role("link", name="Back to the chats").click()
    expect(page.get_by_role("heading", name="What can I help you with?")).to_be_visible()


def test_what_would_fit_and_why_not_the_rest(open_page: OpenPage, server: FakeServer) -> None:
    page = enter(open_page, server.box)
    tab(page, "Models")
    page.get_by_text("What fits this box").click()
    fits = page.get_by_role("region", name="What fits this box")
    small = fits.get_by_role("row").filter(has_text="R1-Distill-Qwen-32B")
    expect(small).to_contain_text("8 × 16k")
    expect(small).to_contain_text("40–61 tokens/s")
    expect(page.get_by_text("Planned for 2 × NVIDIA A800")).to_be_visible()
    elsewhere = fits.get_by_role("row").filter(has_text="R1-Distill-Qwen-14B")
    expect(elsewhere).to_contain_text("Needs vllm, which is not installed here.")
    expect(elsewhere.get_by_role("button", name="Get")).to_be_disabled()
    reasons = page.get_by_role("region", name="What does not fit")
    expect(reasons).to_contain_text("It needs 90 GiB; a card has 80. 4 × 8,192 would fit.")
    expect(reasons.get_by_role("listitem")).to_have_count(12)
    reasons.get_by_role("button", name="Show all 20").click()
    expect(reasons.get_by_role("listitem")).to_have_count(20)
    check(page)
    small.get_by_role("button", name="Get").click()
    expect(page.get_by_role("region", name="Download: R1-Distill-Qwen-32B:Q4_K_M")).to_be_visible()
    expect(small.get_by_role("button", name="Get")).to_be_disabled()
    assert server.admin.wishes == [{"kind": "pull", "target": "R1-Distill-Qwen-32B:Q4_K_M", "hub": "auto"}]


def test_what_the_box_says_is_said_in_chinese(open_page: OpenPage, server: FakeServer) -> None:
    server.box.add_user("chief", "x", "admin")
    server.box.add_user("ward", "correct horse", "admin")
    page = open_page(signed_in=False, locale="zh-CN")
    page.get_by_label("用户名").fill("ward")
    page.get_by_label("密码", exact=True).fill("correct horse")
    page.get_by_role("button", name="登录", exact=True).click()
    expect(page.locator("#input")).to_be_visible()
    page.evaluate("location.hash = '#/operator/issues'")
    expect(page.get_by_role("heading", name="服务器证书即将到期或已到期。")).to_be_visible()
    expect(page.locator("[lang=en]").get_by_text("The certificate ends in 9 days.")).to_be_visible()
    page.evaluate("location.hash = '#/operator/cards'")
    expect(page.get_by_text("有加速卡没有响应或已从总线脱落。")).to_be_visible()
    page.evaluate("location.hash = '#/operator/models'")
    expect(page.get_by_text("速度远低于预期。")).to_be_visible()


def test_a_model_comes_from_a_stick(open_page: OpenPage, server: FakeServer) -> None:
    page = enter(open_page, server.box)
    tab(page, "Models")
    page.get_by_role("button", name="Get a model").click()
    page.get_by_label("From a signed bundle").check()
    expect(page.get_by_label("Path on the box")).to_have_value("/media/stick")
    page.get_by_label("Path on the box").fill("/media/stick/qwen")
    page.get_by_label("Take it even if nobody signed it").check()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("region", name="Bundle import: /media/stick/qwen")).to_be_visible()
    assert server.admin.wishes == [{"kind": "bundle_import", "paths": ["/media/stick/qwen"], "allow_unsigned": True}]


def test_jobs_are_followed_cancelled_and_explained(open_page: OpenPage, server: FakeServer) -> None:
    failed = {"code": "no_space", "message": "The disk has 3 GiB free.", "hint": "Remove a model first."}
    server.admin.jobs = [
        job("job_2", {"kind": "pull", "target": "auto"}),
        job("job_1", {"kind": "import", "path": "/media/stick/a.gguf"}, state="failed", ended_at=now(), error=failed),
    ]
    page = enter(open_page, server.box)
    tab(page, "Jobs")
    expect(page.get_by_role("region", name="Import: /media/stick/a.gguf")).to_contain_text("Remove a model first.")
    download = page.get_by_role("region", name="Download: auto")
    download.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(download).to_contain_text("cancelled")
    expect(download.get_by_role("progressbar")).to_have_count(0)


def test_an_issue_is_mended(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Issues 1")
    page.get_by_role("button", name="Renew the certificate").click()
    expect(page.get_by_role("dialog")).to_contain_text("The certificate ends in 9 days.")
    page.get_by_role("dialog").get_by_role("button", name="Do it").click()
    expect(page.get_by_text("Nothing needs attention.")).to_be_visible()
    expect(page.locator(".toast")).to_contain_text("The certificate was renewed.")


def test_a_key_is_made_shown_once_and_revoked(open_page: OpenPage, server: FakeServer) -> None:
    page = enter(open_page, server.box)
    tab(page, "Keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("nurse-app")
    page.get_by_label("Tokens a day").fill("many")
    expect(page.get_by_text("A limit is a whole number")).to_be_visible()
    expect(page.get_by_role("button", name="Create")).to_be_disabled()
    page.get_by_label("Tokens a day").fill("200000")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("see the box’s state").check()
    page.get_by_label("all, later ones too").uncheck()
    page.get_by_label("R1-Distill-Llama-70B").uncheck()
    check(page)
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".secret")).to_have_text("r1b_abcdefghijklmnop")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("row").filter(has_text="nurse-app")).to_contain_text("200,000 tokens/day")
    assert "r1b_abcdefghijklmnop" not in page.content()
    [key] = server.admin.keys
    assert (set(key["scopes"]), key["models"]) == ({"inference", "admin:read"}, [MODEL])
    page.get_by_role("button", name="Change nurse-app").click()
    page.get_by_label("Requests a minute").fill("30")
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(page.get_by_role("row").filter(has_text="nurse-app")).to_contain_text("30 requests/min, 200,000 tokens/day")
    assert (set(key["scopes"]), key["models"]) == ({"inference", "admin:read"}, [MODEL])
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
    users = page.get_by_role("region", name="Users")
    expect(users.get_by_role("row").filter(has_text="anna")).to_contain_text("has to choose a password")
    assert box.users["anna"]["role"] == "operator"


def test_somebody_is_logged_out(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Users")
    row = page.get_by_role("row").filter(has_text="10.0.4.31")
    expect(row).to_contain_text("Edge, Windows")
    row.get_by_role("button", name="Log out anna").click()
    page.get_by_role("dialog").get_by_role("button", name="Log out").click()
    expect(row).to_have_count(0)


def test_the_audit_log_is_read_and_verified(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Audit")
    expect(page.get_by_role("row").filter(has_text="key.create")).to_contain_text("name: nurse-app")
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_text("The log is whole: 1,204 rows")).to_be_visible()


def test_the_log_is_followed_filtered_and_held(open_page: OpenPage, server: FakeServer) -> None:
    page = enter(open_page, server.box)
    tab(page, "Logs")
    lines = page.locator(".log-line strong")
    expect(lines).to_have_text(["daemon_started", "model_slow"])
    server.admin.write_log("job_failed", "error", job="job_7")
    expect(lines).to_have_text(["daemon_started", "model_slow", "job_failed"])
    expect(page.locator(".log-line.error")).to_contain_text("job=job_7")
    page.get_by_label("Least level").select_option("warning")
    expect(lines).to_have_text(["model_slow", "job_failed"])
    page.get_by_label("Search the log").fill("JOB_7")
    expect(lines).to_have_text(["job_failed"])
    with page.expect_event("requestfailed", lambda request: "logs/events" in request.url):
        page.get_by_role("button", name="Pause").click()
    server.admin.write_log("job_failed", "error", job="job_7 again")
    page.get_by_role("button", name="Go on").click()
    expect(lines).to_have_text(["job_failed", "job_failed"])


def test_settings_are_found_changed_and_refused(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box)
    tab(page, "Settings")
    expect(page.get_by_role("region", name="This box")).to_contain_text("https://r1box.local:8080/")
    page.get_by_label("Search settings").fill("chat")
    keep = page.get_by_role("region", name="chat_keep_days")
    expect(page.locator(".setting-item")).to_have_count(1)
    expect(keep).to_contain_text("not set")
    keep.get_by_role("button", name="Change").click()
    check(page)
    page.get_by_label("Value").fill("soon")
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(page.locator(".toast")).to_contain_text("a whole number is wanted")
    page.get_by_label("Value").fill("30")
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(keep).to_contain_text("30")
    page.get_by_label("Search settings").fill("")
    tls = page.get_by_role("region", name="tls")
    tls.get_by_role("button", name="Change").click()
    page.get_by_label("Value").select_option("local")
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(tls).to_contain_text("After a restart: local")
    expect(page.get_by_text("These hold after a restart of the box’s service: tls")).to_be_visible()
    for name in ("port", "state_dir"):
        expect(page.get_by_role("region", name=name).get_by_role("button")).to_have_count(0)


def test_who_may_only_read_gets_no_buttons(open_page: OpenPage, box: FakeBox) -> None:
    page = enter(open_page, box, "user")
    expect(page.get_by_role("navigation", name="Operator area").get_by_role("link")).to_have_text(
        ["Cards", "Models", "Jobs", "Issues 1"]
    )
    tab(page, "Models")
    expect(page.get_by_role("row").filter(has_text=MODEL)).to_be_visible()
    expect(page.locator(".op-view").get_by_role("button")).to_have_count(0)
