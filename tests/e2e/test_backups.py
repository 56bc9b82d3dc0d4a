"""Backups of a real box: made while it serves, restored with a restart in place, and a factory reset; the commands with
and without a daemon."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.backup.in_use import LOCK_FILE
from appliance.backup.parts import LEFT, REPLACED
from appliance.backup.reset import GOES
from appliance.security.roles import Permission
from tests.e2e.box import Box, Home, start_box
from tests.e2e.test_jobs import console, end

URL = "/api/admin/backups"
SECRET = "correct horse battery staple"


pytestmark = pytest.mark.timeout(400)
"""Each test ends and begins a daemon several times, beside others on a busy machine."""


@pytest.fixture
def house(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    (tmp_path / "stick").mkdir()
    home.environment["R1BOX_JOB_FOLDERS"] = str(tmp_path / "stick")
    return home


@pytest.fixture
def box(house: Home) -> Iterator[Box]:
    running = start_box(house, wait=False)
    try:
        running.key = new_key(house, "old")
        yield running
    finally:
        assert running.stop() in (0, -signal.SIGKILL)


def new_key(home: Home, name: str) -> str:
    """A key that may everything, by the API: a command takes seconds on a busy machine."""
    with console(home) as client:
        answer = client.post("/api/admin/keys", json={"name": name, "scopes": [one.value for one in Permission]})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])


def may(box: Box, key: str) -> bool:
    answer = httpx.get(f"{box.url}/api/admin/box", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def came_back(box: Box, home: Home, times: int) -> None:
    """Wait until the daemon listens for the ``times``th time, in the same process."""
    box.wait_until(lambda: sum("Listening on" in line for line in box.errors) >= times)
    listening = [line for line in box.errors if "Listening on" in line]
    box.url = listening[-1].split()[-1]

    def answers() -> bool:
        try:
            with console(home) as client:
                return client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    box.wait_until(answers)


def test_a_backup_is_restored_while_people_look_on(house: Home, box: Box) -> None:
    with console(house) as client:
        job = end(client, client.post(URL, json={"passphrase": SECRET}).json()["id"])
        assert (job["state"], job["error"]) == ("succeeded", None)
        later = new_key(house, "later")
        assert client.patch("/api/admin/settings", json={"values": {"max_waiting": 7}}).status_code == 200
        assert may(box, box.key)
        assert may(box, later)
        order = {"name": job["result"]["name"], "passphrase": SECRET, "confirm": "restore"}
        done = end(client, client.post(f"{URL}/restore", json=order).json()["id"])
        assert (done["state"], done["error"]) == ("succeeded", None)
    came_back(box, house, 2)
    assert box.process.poll() is None
    assert (may(box, box.key), may(box, later)) == (True, False)
    with console(house) as client:
        found = client.get(URL).json()
        assert (found["last_restore"]["backup"], found["waiting"]) == (job["result"]["name"], False)
        assert client.get("/api/admin/jobs").status_code == 200
        values = {one["name"]: one["value"] for one in client.get("/api/admin/settings").json()["items"]}
        assert values["max_waiting"] == 64
    assert not (house.state_dir / "before-restore").exists()
    with console(house) as client:
        assert client.get("/api/admin/audit/verify").json()["whole"] is True
        rows = client.get("/api/admin/audit?action=backup.").json()["items"]
        assert [row["action"] for row in rows] == ["backup.restore"]

    # Every name that a box makes is one that restores and resets know.
    known = {*REPLACED, *LEFT, *GOES, LOCK_FILE}
    assert {path.name for path in house.state_dir.iterdir()} <= known

    with console(house) as client:
        body = {"confirm": "factory-reset", "keep_backups": True}
        done = end(client, client.post("/api/admin/factory-reset", json=body).json()["id"])
        assert done["state"] == "succeeded"
    came_back(box, house, 3)
    assert not may(box, box.key)
    assert box.wait_until(lambda: sum("setup token" in line for line in box.output) >= 1)
    with console(house) as client:
        assert client.get("/api/admin/users").json()["items"] == []
        assert [one["name"] for one in client.get(URL).json()["backups"]] == [job["result"]["name"]]


def command(home: Home, *arguments: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.run("backup", *arguments, "--json", **options).stdout)
    return found


def test_the_commands_beside_a_daemon_and_without_one(house: Home, box: Box, tmp_path: Path) -> None:
    stick = str(tmp_path / "stick")
    made = command(house, "create", "--to", stick, "--passphrase-stdin", input_text=SECRET + "\n")
    shown = command(house, "show", made["path"], "--passphrase-stdin", input_text=SECRET + "\n")
    assert (shown["whole"], shown["counts"]["users"], shown["counts"]["keys"]) == (True, 0, 1)
    later = new_key(house, "later")
    house.run("backup", "passphrase", "--passphrase-stdin", input_text="another passphrase\n")
    nightly = command(house, "create", "--nightly")
    assert [one["path"] for one in command(house, "list")["backups"]] == [nightly["path"]]

    refused = house.run(
        "backup", "restore", made["path"], "--passphrase-stdin", check=False, input_text=SECRET + "\nyes\n"
    )
    assert refused.returncode == 1
    assert "Nothing was done" in refused.stderr
    wrong = house.run(
        "backup", "show", made["path"], "--passphrase-stdin", check=False, input_text="not the one at all"
    )
    assert "does not open" in wrong.stderr
    told = command(
        house, "restore", made["path"], "--passphrase-stdin", "--confirm", "restore", input_text=SECRET + "\n"
    )
    assert told["waits_for_restart"] is False
    came_back(box, house, 2)
    assert (may(box, box.key), may(box, later)) == (True, False)

    # Without a daemon it takes effect at once.
    assert box.stop() == 0
    command(house, "restore", Path(nightly["path"]).name, "--confirm", "restore")
    with closing(sqlite3.connect(house.state_dir / "r1box.db")) as database:
        names = {row[0] for row in database.execute("SELECT name FROM api_key")}
    assert names == {"old", "later"}
    damaged = Path(made["path"])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    failed = house.run("backup", "show", str(damaged), "--passphrase-stdin", check=False, input_text=SECRET + "\n")
    assert (failed.returncode, "is not whole" in failed.stderr) == (1, True)
    house.run("factory-reset", "--confirm", "factory-reset")
    assert {path.name for path in house.state_dir.iterdir()} <= {LOCK_FILE, "r1box.db.lock"}


def test_a_state_that_does_not_start_is_taken_back(house: Home, tmp_path: Path) -> None:
    """The restored settings name a port that somebody else has."""
    house.create_key("first")
    (house.state_dir / "settings.toml").write_text('host = "192.0.2.1"\n')
    made = command(house, "create", "--to", str(tmp_path / "stick"), "--passphrase-stdin", input_text=SECRET + "\n")
    (house.state_dir / "settings.toml").unlink()
    kept = house.create_key("kept")
    command(house, "restore", made["path"], "--passphrase-stdin", "--confirm", "restore", input_text=SECRET + "\n")
    running = start_box(house, key=kept, wait=False)
    try:
        came_back(running, house, 1)
        assert may(running, kept)
        assert not (house.state_dir / "restored.json").exists()
    finally:
        assert running.stop() in (0, -signal.SIGKILL)


@pytest.mark.parametrize("moment", ["staged", "begun"])
def test_a_daemon_that_is_killed_on_the_way_comes_back_with_one_state(house: Home, box: Box, moment: str) -> None:
    later = ""
    with console(house) as client:
        job = end(client, client.post(URL, json={"passphrase": SECRET}).json()["id"])
        later = new_key(house, "later")
        order = {"name": job["result"]["name"], "passphrase": SECRET, "confirm": "restore"}
        asked = client.post(f"{URL}/restore", json=order).json()["id"]
        if moment == "staged":
            end(client, asked)
    os.kill(box.process.pid, signal.SIGKILL)
    box.stop()
    again = start_box(house, key=box.key, wait=False)
    try:
        came_back(again, house, 1)
        assert may(again, box.key)
        assert may(again, later) is (moment == "begun" and not (house.state_dir / "restored.json").exists())
        leftover = [path.name for path in house.state_dir.iterdir() if path.name.startswith((".restore-", ".backup-"))]
        assert leftover == []
    finally:
        assert again.stop() == 0
