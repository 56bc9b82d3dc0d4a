"""The daemon's door: the daemon's own side against the helper's, over a real socket."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pytest

from appliance.jobs.updates import UpdateDoor, UpdateRefusedHere, UpdatesUnavailable
from installer.update.door import serve
from tests.installer.update.boxes import SlotBox, door, make_box


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlotBox:
    return make_box(tmp_path, monkeypatch)


def test_an_update_with_its_steps_and_a_restart(box: SlotBox, tmp_path: Path) -> None:
    seen: list[tuple[str | None, float | None]] = []
    with door(box, tmp_path / "d"):
        desk = UpdateDoor(tmp_path / "d")
        done = desk.install(box.bundle(), restart=False, report=lambda *step: seen.append(step))
        assert (done.version, done.slot, done.restart, box.restarts) == ("0.2.0", "B", False, 0)
        assert seen[0] == ("reading the update", None)
        assert ("Installing done.", 1.0) in seen
        assert desk.roll_back(restart=False).slot == "B"
        assert desk.restart().restart is True
    assert box.argv == [("systemctl", "--no-block", "reboot")]


def test_restart_when_told_and_only_after_success(box: SlotBox, tmp_path: Path) -> None:
    with door(box, tmp_path / "d"):
        desk = UpdateDoor(tmp_path / "d")
        with pytest.raises(UpdateRefusedHere):
            desk.install(box.bundle(signed_by="x"), restart=True, report=lambda *step: None)
        assert box.restarts == 0
        desk.install(box.bundle(), restart=True, report=lambda *step: None)
    assert box.restarts == 1


def test_refusals_keep_their_words(box: SlotBox, tmp_path: Path) -> None:
    with door(box, tmp_path / "d"), pytest.raises(UpdateRefusedHere) as told:
        UpdateDoor(tmp_path / "d").roll_back(restart=True)
    assert (told.value.code, told.value.http_status) == ("no_earlier_system", 409)
    assert told.value.hint == "It is there after the first update."
    assert box.restarts == 0


def test_a_box_without_a_door(tmp_path: Path) -> None:
    with pytest.raises(UpdatesUnavailable, match="not installed from R1 Box's medium"):
        UpdateDoor(tmp_path / "none").check()
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    with pytest.raises(UpdateRefusedHere, match="gave no answer"):
        UpdateDoor(dead).restart()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "[]\n",
        "{}\n",
        '{"do": "erase"}\n',
        '{"do": "install"}\n',
        '{"do": "install", "file": 3}\n',
        "x" * 9999,
    ],
)
def test_what_is_no_request(box: SlotBox, line: str) -> None:
    sink = io.StringIO()
    assert serve(box.updater, io.StringIO(line), sink) is False
    told = json.loads(sink.getvalue())["error"]
    assert (told["code"], told["http_status"]) == ("bad_request", 400)
    assert box.argv == []


def test_whoever_goes_away_does_not_stop_an_update(box: SlotBox) -> None:
    sink = io.StringIO()
    sink.close()
    wish = json.dumps({"do": "install", "file": str(box.bundle()), "restart": True})
    assert serve(box.updater, io.StringIO(wish + "\n"), sink) is True
    assert (box.updater.rauc.slots().next, box.restarts) == ("B", 1)
