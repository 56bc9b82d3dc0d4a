"""What is said of a box whose daemon is down, by what is wrong with it."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.backup.service import Backups
from appliance.errors import BadSetting
from appliance.log_file import NAME, log_folder
from appliance.rescue import look as looking
from appliance.rescue.console import controlling_terminal, on_the_box
from appliance.rescue.look import Surroundings, ask_daemon, look
from appliance.rescue.safe_mode import is_safe_mode, set_safe_mode
from appliance.rescue.systemd import journal, read_unit, restart
from appliance.settings import Settings
from drivers.command import CommandFailed, CommandResult, FailureKind
from tests.appliance.backup.states import backup_of, make_state

ACTIVE = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nExecMainStatus=0\nNRestarts=0\n"
GIVEN_UP = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=1\nNRestarts=60\n"
NOT_THERE = "LoadState=not-found\nActiveState=inactive\nSubState=dead\n"


class Tools:
    """systemctl and journalctl as their output."""

    def __init__(self, unit: str | None = ACTIVE, log: str = "") -> None:
        self.unit, self.log = unit, log
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        self.asked.append(tuple(argv))
        assert timeout_s <= 120
        told = self.log if argv[0] == "journalctl" else self.unit
        result = CommandResult(tuple(argv), 0 if told is not None else 1, told or "", "no bus\n", 0.0)
        if told is None:
            raise CommandFailed(FailureKind.EXIT_CODE, "it failed", None, argv[0], result)
        return result


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return make_state(tmp_path / "state")


def surroundings(state: Path, tools: Tools, **more: object) -> Surroundings:
    settings = Settings(state_dir=state, models_dir=state / "models")
    made = Surroundings(
        settings=settings,
        settings_problem=None,
        backups=Backups(settings, version="0.1.0"),
        folders=(),
        socket=state / "admin.sock",
        run=tools,
        local=lambda: None,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def codes(state: Path, tools: Tools, **more: object) -> list[str]:
    return [one.code for one in look(surroundings(state, tools, **more)).findings]


def test_a_daemon_that_was_given_up(state: Path) -> None:
    report = look(surroundings(state, Tools(GIVEN_UP, log="Nov 22 12:00 r1box: boom key=r1b_abcdef\n")))
    assert [one.code for one in report.findings] == ["unit_failed"]
    assert "after 60 restarts" in report.findings[0].message
    assert (report.daemon, report.database, report.unit.active) == ("down", None, "failed")
    assert report.log == ("Nov 22 12:00 r1box: boom key=r1b_***",)
    assert report.users == ("li.wei",)
    assert set(report.acts) >= {"log", "password", "bundle"}
    assert report.why_not["rollback"]
    assert report.why_not["restore"] == "there is no backup on the box or on a stick"


def test_without_systemd_the_files_are_asked(state: Path) -> None:
    log_folder(state).mkdir()
    (log_folder(state) / NAME).write_text('{"event": "x", "authorization": "Bearer abc"}\nlast\n')
    report = look(surroundings(state, Tools(None)))
    assert report.unit.problem == "no bus"
    assert report.log[-1] == "last"
    assert "abc" not in report.log[0]
    assert report.log_from == str(log_folder(state))
    assert "systemd has no r1box.service" in report.why_not["restart"]
    assert [one.code for one in report.findings] == ["daemon_down"]


def test_a_damaged_database_comes_before_what_follows_from_it(state: Path, tmp_path: Path) -> None:
    made = backup_of(state, state / "backups")
    data = bytearray((state / "r1box.db").read_bytes())
    data[4096 * 3 : 4096 * 12] = b"\xff" * 4096 * 9
    (state / "r1box.db").write_bytes(data)
    report = look(surroundings(state, Tools(GIVEN_UP)))
    assert [one.code for one in report.findings] == ["database_damaged", "unit_failed"]
    assert report.database
    assert "restore" in report.findings[0].acts
    assert "restore" in report.acts
    assert report.why_not["password"] == "the database cannot be used"
    assert [one.name for one in report.backups] == [made.path.name]
    (state / "r1box.db").write_bytes(b"nonsense" * 1_000)
    assert codes(state, Tools(ACTIVE))[0] == "database_damaged"
    (state / "r1box.db").unlink()
    assert "database_missing" in codes(state, Tools(ACTIVE))


def test_a_database_of_a_newer_box(state: Path) -> None:
    with closing(sqlite3.connect(state / "r1box.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    report = look(surroundings(state, Tools(ACTIVE), has_update=True))
    assert [one.code for one in report.findings] == ["database_too_new", "daemon_down"]
    assert "rollback" in report.findings[0].acts


def test_a_full_disk_and_settings_that_cannot_be_read(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "FULL_BYTES", 2**62)
    problem = BadSetting(name="port", reason="no number", origin="the file")
    found = codes(state, Tools(NOT_THERE), settings_problem=problem)
    assert found == ["disk_full", "settings_unusable", "daemon_down"]


def test_safe_mode_is_told_and_ends(state: Path) -> None:
    set_safe_mode(state, on=True)
    assert is_safe_mode(state)
    assert "safe_mode" in codes(state, Tools(ACTIVE))
    set_safe_mode(state, on=False)
    set_safe_mode(state, on=False)
    assert "safe_mode" not in codes(state, Tools(ACTIVE))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        yield path, listener


def test_a_daemon_that_hangs_is_told_from_one_that_is_gone(
    server: tuple[Path, socket.socket], state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, listener = server
    monkeypatch.setattr(looking, "_ANSWER_S", 0.2)
    assert ask_daemon(tmp_path / "none") == "down"
    assert ask_daemon(path) == "hangs"
    assert codes(state, Tools(ACTIVE), socket=path) == ["daemon_hangs"]
    monkeypatch.setattr(looking, "_ANSWER_S", 20)
    # Those that were given up still wait to be accepted: every connection is answered.
    ended = threading.Event()

    def answer() -> None:
        while not ended.is_set():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    helper = threading.Thread(target=answer)
    helper.start()
    assert ask_daemon(path) == "answers"
    assert codes(state, Tools(ACTIVE), socket=path) == []
    ended.set()
    ask_daemon(path)
    helper.join()


def test_what_systemd_is_asked() -> None:
    tools = Tools(GIVEN_UP, log="one\ntwo\n")
    assert read_unit(tools).restarts == 60
    assert journal(5, tools) == ("one", "two")
    assert journal(5, Tools(log="")) is None
    restart(tools)
    assert [one[:2] for one in tools.asked[-2:]] == [("systemctl", "reset-failed"), ("systemctl", "restart")]


@pytest.mark.parametrize(
    ("number", "uid", "allowed"),
    [
        (4 << 8 | 1, 0, True),  # tty1
        (4 << 8 | 64, 0, True),  # ttyS0
        (204 << 8 | 64, 0, True),  # ttyAMA0
        (229 << 8, 0, True),  # hvc0
        (136 << 8 | 2, 0, False),  # pts/2: ssh
        (0, 0, False),  # no terminal
        (4 << 8 | 1, 1000, False),
    ],
)
def test_passwords_are_set_at_the_box_alone(tmp_path: Path, number: int, uid: int, allowed: bool) -> None:
    stat = tmp_path / "stat"
    stat.write_text(f"17 (odd) name)) S 1 17 17 {number} 17 4194304 0 0\n")
    assert controlling_terminal(stat) == (number or None)
    assert (on_the_box(stat, uid) is None) is allowed
    assert on_the_box(tmp_path / "none", 0) is not None
