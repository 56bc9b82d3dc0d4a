"""Alerts of the real daemon: an issue that opens is posted. ``r1box alerts`` and ``r1box settings`` from end to end."""

from __future__ import annotations

import json
from typing import Any

from tests.appliance.alerts.receiver import receiver
from tests.e2e.box import Home, start_box


def test_from_a_setting_to_a_signed_post(home: Home) -> None:
    # What only whoever owns the machine sets: posts to this machine itself.
    home.environment["R1BOX_ALERT_LOOPBACK"] = "true"
    with receiver() as hook:
        box = start_box(home, wait=False)
        try:
            said = home.run("settings", "set", "alert_severity", "info").stdout
            assert said == "alert_severity = info. It holds now.\n"
            home.run("settings", "set", "alert_secret", "0123456789abcdef")
            home.run("settings", "set", "alert_urls", hook.url)
            tested = home.run("alerts", "test")
            assert f"http://127.0.0.1:{hook.port} took it (200)" in tested.stdout
            assert json.loads(hook.came[0].body)["event"] == "test"
            assert hook.came[0].headers["x-r1box-signature"].startswith("v1=")

            listed = json.loads(home.run("alerts", "list", "--json").stdout)
            assert [one["delivered"] for one in listed["targets"]] == [1]
            hook.answers = [(410, {})]
            failed = home.run("alerts", "test", check=False)
            assert (failed.returncode, "status 410" in failed.stdout) == (3, True)
            # Neither addresses nor the secret are told again, nor are they in the audit log.
            for command in (("settings", "list"), ("logs", "-n", "5000")):
                assert "s3cret" not in home.run(*command).stdout
            exported = home.run("audit", "export").stdout
            assert '"target":"alert_urls"' in exported
            assert "s3cret" not in exported
            assert "0123456789abcdef" not in exported
        finally:
            assert box.stop() == 0
        # The next start has the settings, and tells of the issue that it opens: there is no model.
        hook.came.clear()
        box = start_box(home, wait=False)
        try:
            posted: list[Any] = []

            def is_told() -> bool:
                posted[:] = [json.loads(came.body) for came in hook.came]
                return any(one["event"] == "issue.opened" for one in posted)

            box.wait_until(is_told)
            assert "no_model" in {one["issue"]["code"] for one in posted}
        finally:
            assert box.stop() == 0
        offline = home.run("settings", "reset", "alert_urls").stdout
        assert offline == "alert_urls = -. It holds from the next start on.\n"
