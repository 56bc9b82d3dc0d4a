"""Break glass: what the console shows and runs when the daemon is down, with the command line's answers made up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from textual.pilot import Pilot
from textual.widgets import Input, Static

from appliance.schemas.backups import BackupItem
from appliance.schemas.rescue import (
    BundleFile,
    RescueDisk,
    RescueDone,
    RescueFinding,
    RescueReport,
    RescueUnit,
    SupportBundle,
)
from tests.tui.boxes import FixedClient, StillClock, answers
from tests.tui.moments import GIB
from tui.__main__ import target_of
from tui.app import ConsoleApp
from tui.client import Problem
from tui.look import Look
from tui.rescue import RescueTool, find_tool
from tui.screens.rescue import ACTS
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, TextDialog
from tui.widgets.forms import FormDialog

SIZES = [(80, 24), (200, 60)]
BACKUP = BackupItem(
    name="r1box-ward-3-20260531T023000Z-nightly.r1backup",
    path="/var/lib/r1box/backups/r1box-ward-3-20260531T023000Z-nightly.r1backup",
    size_bytes=34 * 1024**2, created_at="2026-05-31T02:30:00+00:00", version="0.1.0", host="ward-3", label="nightly",
)  # fmt: skip
DISKS = (
    RescueDisk(what="state", path="/var/lib/r1box", free_bytes=412 * GIB, total_bytes=1800 * GIB, full=False),
    RescueDisk(what="system", path="/", free_bytes=9 * GIB, total_bytes=16 * GIB, full=False),
)
LOG = (
    "2026-06-01T11:58:02+0000 ward-3 r1box[812]: database_unusable: database disk image is malformed",
    "2026-06-01T11:58:02+0000 ward-3 systemd[1]: r1box.service: Main process exited, code=exited, status=1/FAILURE",
    "2026-06-01T11:58:02+0000 ward-3 systemd[1]: r1box.service: Failed with result 'exit-code'.",
    "2026-06-01T11:58:02+0000 ward-3 systemd[1]: Failed to start r1box.service - R1 Box: serves DeepSeek-R1.",
)
GIVEN_UP = RescueUnit(
    name="r1box.service", load="loaded", active="failed", sub="failed", result="exit-code", exit_status="1", restarts=60
)
UNIT_FAILED = RescueFinding(
    code="unit_failed", severity="error",
    message="systemd gave r1box.service up after 60 restarts: exit-code, exit status 1.",
    hint="The last lines of the log say why. Restart it when that is mended.",
    acts=("restart", "safe_mode", "log"),
)  # fmt: skip
DAMAGED = RescueFinding(
    code="database_damaged", severity="error",
    message="The database /var/lib/r1box/r1box.db is damaged: Tree 4 page 12: btreeInitPage() returns error code 11",
    hint="Restore the newest backup. Without one, move the file away: the box begins empty, models stay.",
    acts=("restore", "bundle"),
)  # fmt: skip


def report(**values: Any) -> RescueReport:
    given: dict[str, Any] = {
        "daemon": "down", "unit": GIVEN_UP, "state_dir": "/var/lib/r1box", "database": None, "disks": DISKS,
        "findings": (UNIT_FAILED,), "log": LOG, "log_from": "journal", "backups": (BACKUP,), "has_passphrase": True,
        "users": ("li.wei", "mei"), "folders": ("/media/stick",), "acts": ACTS[:4] + ACTS[5:],
        "why_not": {"rollback": "this box has no other system to go back to"},
    }  # fmt: skip
    return RescueReport(**{**given, **values})


def damaged() -> RescueReport:
    why_not = {
        "rollback": "this box has no other system to go back to",
        "password": "the database cannot be used",
    }
    broken = "Tree 4 page 12: btreeInitPage() returns error code 11"
    return report(findings=(DAMAGED, UNIT_FAILED), database=broken, users=(), why_not=why_not)


class FakeTool(RescueTool):
    """Answers as told, and notes what it was asked to run."""

    def __init__(self, told: RescueReport | Problem) -> None:
        super().__init__(("r1box",), {})
        self.told = told
        self.asked: list[tuple[tuple[str, ...], str | None]] = []

    async def run(self, kind: Any, *arguments: str, given: str | None = None, timeout_s: float = 0) -> Any:
        if arguments == ("rescue", "look"):
            return self.told
        self.asked.append((arguments, given))
        if kind is SupportBundle:
            files = (BundleFile(name="log.txt", size_bytes=20_480, about="the last 5,000 lines of the log"),)
            return SupportBundle(path="/media/stick/r1box-support.tar.gz", size_bytes=30_720, redacted=7, files=files)
        return RescueDone(message="done") if kind is RescueDone else kind()


def console(tool: FakeTool, look: Look = Look(), **options: Any) -> ConsoleApp:  # noqa: B008 - frozen
    client = options.pop("client", None) or FixedClient({}, page_url=None)
    return ConsoleApp(client, look=look, clock=StillClock(), zone=UTC, poll_s=1e6, rescue=tool, **options)


STATES: dict[str, Callable[[], ConsoleApp]] = {
    "down": lambda: console(FakeTool(report())),
    "damaged": lambda: console(FakeTool(damaged())),
    "by-hand": lambda: console(
        FakeTool(report(unit=RescueUnit(name="r1box.service", problem="no systemd here"), findings=(), backups=()))
    ),
    "missing": lambda: console(FakeTool(Problem("rescue_missing", detail="No such file or directory"))),  # type: ignore[arg-type]
    "plain": lambda: console(FakeTool(damaged()), Look(plain=True, blocks=True, chinese=False)),
    "chinese": lambda: console(FakeTool(damaged()), language="zh"),
}


async def shown(pilot: Pilot[None]) -> None:
    for _ in range(4):
        await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("state", STATES)
def test_rescue(snap_compare: Any, state: str, size: tuple[int, int]) -> None:
    assert snap_compare(STATES[state](), terminal_size=size, run_before=shown)


def text(app: ConsoleApp) -> str:
    return "\n".join(str(one.content) for one in app.screen.query(Static))


async def choose(app: ConsoleApp, pilot: Pilot[None], name: str) -> None:
    """Put the cursor on a way back and press Enter."""
    table = app.screen.query_one("#table")
    place = next(place for place, one in enumerate(table.rows) if one.name == name)  # type: ignore[attr-defined]
    table.go(place)  # type: ignore[attr-defined]
    await pilot.pause()
    await pilot.press("enter")
    await pilot.pause()


async def test_a_box_that_is_down_opens_with_what_is_wrong_once() -> None:
    app = console(FakeTool(report()))
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        assert app.current_mode == "rescue"
        assert "systemd gave r1box.service up" in text(app)
        await pilot.press("1")
        await shown(pilot)
        assert app.current_mode == "dashboard"
        assert "0 Rescue" in text(app)
        await app.box.readiness.ask()
        await shown(pilot)
        assert app.current_mode == "dashboard"
        await pilot.press("0")
        assert app.current_mode == "rescue"


async def test_a_box_that_is_well_or_elsewhere_breaks_no_glass() -> None:
    well = console(FakeTool(report()), client=FixedClient(answers()))
    async with well.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        assert well.current_mode == "dashboard"
        assert "Rescue" not in text(well)
    elsewhere = ConsoleApp(FixedClient({}), look=Look(), clock=StillClock(), poll_s=1e6)
    async with elsewhere.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await pilot.press("0")
        assert elsewhere.current_mode == "dashboard"


@pytest.mark.parametrize(
    ("act", "command"),
    [("restart", ("rescue", "restart")), ("safe_mode", ("rescue", "restart", "--safe"))],
)
async def test_acts_that_ask_first(act: str, command: tuple[str, ...]) -> None:
    tool = FakeTool(report())
    app = console(tool)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await choose(app, pilot, act)
        assert isinstance(app.screen, ConfirmDialog)
        await pilot.press("n")
        assert tool.asked == []
        await choose(app, pilot, act)
        await pilot.press("y")
        await shown(pilot)
        assert tool.asked == [(command, None)]


async def test_a_backup_is_restored_after_the_word_was_typed() -> None:
    tool = FakeTool(damaged())
    app = console(tool)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await choose(app, pilot, "restore")
        assert isinstance(app.screen, ChoiceDialog)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, FormDialog)
        await pilot.press("enter", *"yes", "enter")
        assert isinstance(app.screen, FormDialog)
        app.screen.query_one("#field-word", Input).value = "restore"
        app.screen.query_one("#field-passphrase", Input).value = "correct horse"
        await pilot.press("enter")
        await shown(pilot)
    assert tool.asked == [
        (("backup", "restore", BACKUP.path, "--confirm", "restore", "--passphrase-stdin"), "correct horse\n")
    ]


async def test_going_back_to_the_other_system_takes_a_typed_word() -> None:
    tool = FakeTool(report(acts=ACTS, why_not={}))
    app = console(tool)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await choose(app, pilot, "rollback")
        await pilot.press(*"yes", "enter")
        assert tool.asked == []
        app.screen.query_one("#typed", Input).value = "rollback"
        await pilot.press("enter")
        await shown(pilot)
    assert tool.asked == [(("rescue", "rollback", "--confirm", "rollback"), None)]


async def test_a_password_goes_by_standard_input() -> None:
    tool = FakeTool(report())
    app = console(tool)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await choose(app, pilot, "password")
        for name, value in (("password", "a long enough one"), ("again", "a long enough one")):
            app.screen.query_one(f"#field-{name}", Input).value = value
        await pilot.press("right", "enter", "enter", "enter")
        await shown(pilot)
    assert tool.asked == [(("rescue", "password", "mei", "--password-stdin"), "a long enough one\n")]


async def test_a_bundle_says_what_is_in_it() -> None:
    tool = FakeTool(report())
    app = console(tool)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await choose(app, pilot, "bundle")
        await pilot.press("enter")
        await shown(pilot)
        assert isinstance(app.screen, TextDialog)
        assert "7 places that looked like secrets" in text(app)
        assert "log.txt" in text(app)
    assert tool.asked == [(("rescue", "bundle", "--to", "/media/stick"), None)]


async def test_what_is_not_possible_says_why_and_the_log_is_read() -> None:
    tool = FakeTool(report())
    app = console(tool)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await choose(app, pilot, "rollback")
        assert "no other system to go back to" in text(app)
        await pilot.press("v")
        await pilot.pause()
        assert isinstance(app.screen, TextDialog)
        assert "database disk image is malformed" in text(app)
    assert tool.asked == []


class Said(BaseModel):
    """What a made-up command prints."""

    given: str
    arguments: tuple[str, ...]


def program(folder: Path, body: str) -> RescueTool:
    script = folder / "r1box.py"
    script.write_text(f"import json, os, sys, time\n{body}\n", encoding="utf-8")
    return RescueTool((sys.executable, str(script)), {"PATH": "/usr/bin", "R1BOX_X": "1", "SECRET": "2"})


async def test_the_command_is_run_without_a_shell_and_within_its_time(tmp_path: Path) -> None:
    said = "print(json.dumps({'given': sys.stdin.read(), 'arguments': sys.argv[1:]}))"
    tool = program(tmp_path, said)
    answer = await tool.run(Said, "a b", "$HOME;x", given="secret\n", timeout_s=60)
    assert answer == Said(given="secret\n", arguments=("a b", "$HOME;x", "--json"))
    tool = program(tmp_path, "print(json.dumps({'given': '', 'arguments': sorted(os.environ)}))")
    answer = await tool.run(Said, timeout_s=60)
    assert isinstance(answer, Said)
    assert {"R1BOX_X", "PATH", "TERM"} <= set(answer.arguments)
    assert "SECRET" not in answer.arguments
    tool = program(
        tmp_path, "print('Error: no room', file=sys.stderr); print('  Make some.', file=sys.stderr); sys.exit(1)"
    )
    assert await tool.run(Said, timeout_s=60) == Problem("rescue_failed", message="no room", hint="Make some.")
    assert await program(tmp_path, "print('odd')").run(Said, timeout_s=60) == Problem("garbled", detail="Said")
    slow = await program(tmp_path, "time.sleep(600)").run(Said, timeout_s=0.5)
    assert isinstance(slow, Problem)
    assert slow.code == "rescue_slow"
    missing = await RescueTool(("/nowhere/r1box",), {}).run(Said)
    assert isinstance(missing, Problem)
    assert missing.code == "rescue_missing"
    assert find_tool({"PATH": "/usr/bin"}) is not None


def test_the_socket_of_a_dead_box_is_known(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    environ = {"R1BOX_STATE_DIR": str(state)}
    assert target_of(None, None, None, environ).socket in (None, Path("/run/r1box/admin.sock"))
    (state / "r1box.db").write_bytes(b"")
    assert target_of(None, None, None, environ).socket == state / "admin.sock"
