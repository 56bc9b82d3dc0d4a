"""``r1box logs`` on a real daemon: by the admin socket, by a key, following, and from the files of one that is down."""

from __future__ import annotations

import json
import signal
import subprocess

import httpx

from tests.e2e.box import R1BOX, Home, start_box


def test_the_log_from_the_command_line(home: Home) -> None:
    box = start_box(home, wait=False)
    try:
        refused = httpx.get(f"{box.url}/v1/models", headers={"Authorization": "Bearer r1b_wrongwrongwrong"})
        assert refused.status_code == 401
        request_id = refused.headers["x-request-id"]
        # Without a key: the admin socket is there.
        told = home.run("logs", "--request", request_id).stdout
        assert "path=/v1/models" in told
        assert "status=401" in told
        lines = home.run("logs", "--request", request_id, "--json").stdout.splitlines()
        item = json.loads(lines[-1])
        assert item["event"] == "request"
        key = home.create_key("reader", "--scope", "accounts:read")
        by_key = home.run("logs", "--request", request_id, "--json", "--url", box.url, "--key", key).stdout
        assert by_key.splitlines() == lines
        no_level = home.run("logs", "--level", "loud", check=False)
        assert (no_level.returncode, "warning" in no_level.stderr) == (1, True)

        following = subprocess.Popen(
            [str(R1BOX), "logs", "--follow", "--json", "--text", "/v1/nothing", "-n", "1"],
            env=home.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert following.stdout is not None
            # Whether it is there before this or after: the newest line is sent first.
            httpx.get(f"{box.url}/v1/nothing", headers={"Authorization": f"Bearer {key}"})
            assert json.loads(following.stdout.readline())["fields"]["path"] == "/v1/nothing"
            following.send_signal(signal.SIGINT)
            _, errors = following.communicate(timeout=30)
            assert (following.returncode, "Traceback" in errors) == (0, False)
        finally:
            following.kill()
            following.wait()
        everything = home.run("logs", "-n", "5000").stdout
        for secret in (key[4:], "wrongwrong"):
            assert secret not in everything
    finally:
        assert box.stop() == 0
    # Nobody collects the output of a test's box: it wrote files.
    down = home.run("logs", "--request", request_id, "--json")
    assert {**json.loads(down.stdout.splitlines()[-1]), "seq": 0} == {**item, "seq": 0}
    assert "log files" in down.stderr
    assert home.run("logs", "--follow", check=False).returncode == 1
