"""Installing, updating and removing on a machine below a folder: what is done, in which order, and what is left."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from installer.system import __main__ as program
from installer.system import facts, plan
from installer.system.actions import ActionFailed
from installer.system.carry_out import Apply, DryRun
from installer.system.layout import PROGRAMS, UNITS, Layout
from tests.architecture.tree import ROOT
from tests.installer.system.machine import Machine, make_machine


class Environment:
    """Stands for the bootstrap, which takes minutes: makes the folder and counts how often it was asked."""

    def __init__(self) -> None:
        self.key = "one"
        self.code = 0
        self.made = 0

    def make(self, folder: Path) -> int:
        self.made += 1
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        if self.code == 0:
            (folder / "bin" / "r1box").write_text(self.key, encoding="utf-8")
        return self.code

    def as_program(self) -> plan.Program:
        return plan.Program(self.key, lambda folder: (folder / "bin" / "r1box").exists(), self.make)


class Desk:
    """One machine and what is run on it, with facts that do not depend on who runs the tests."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch, prefix: str = "/opt/r1box") -> None:
        self.machine = machine
        self.layout = Layout(Path(prefix), machine.root)
        self.environment = Environment()
        self.said: list[str] = []
        self.changes: dict[str, object] = {
            "is_root": True,
            "groups": (),
            "has_user": False,
            "python": Path("/usr/bin/p"),
        }
        gather = facts.gather
        monkeypatch.setattr(
            facts, "gather", lambda layout, environ: dataclasses.replace(gather(layout, environ), **self.changes)
        )
        monkeypatch.setattr(program, "_say", self.said.append)

    def job(self, dry_run: bool = False) -> program.Job:
        executor = DryRun(self.said.append) if dry_run else Apply(self.said.append)
        return program.Job(self.layout, ROOT, False, executor, dry_run, self.machine.environ)

    def install(self, dry_run: bool = False) -> int:
        code = program.install(self.job(dry_run), self.environment.as_program())
        if code == 0 and not dry_run:
            self.changes["has_user"] = True
        return code

    def uninstall(self, purge: bool = False, dry_run: bool = False) -> int:
        return program.uninstall(self.job(dry_run), purge)

    def files(self) -> dict[str, str]:
        """Every file and link of the machine, with its contents or target."""
        found = {}
        for path in sorted(self.machine.root.rglob("*")):
            name = str(path.relative_to(self.machine.root))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = path.read_text(encoding="utf-8")
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(make_machine(tmp_path), monkeypatch)


def test_everything_is_put_in_place_and_the_service_started(desk: Desk) -> None:
    assert desk.install() == 0
    assert desk.machine.calls() == [
        "systemd-sysusers /usr/local/lib/sysusers.d/r1box.conf",
        "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/r1box.conf",
        "systemctl daemon-reload",
        "systemctl enable r1box.target r1box.service",
        "systemctl --no-block start r1box.target",
    ]
    files = desk.files()
    for name in UNITS:
        assert files[f"usr/local/lib/systemd/system/{name}"] == (ROOT / "systemd" / name).read_text(encoding="utf-8")
    for name in PROGRAMS:
        assert files[f"usr/local/bin/{name}"] == f"-> /opt/r1box/.venv/bin/{name}"
    assert "etc/r1box/config.toml" in files
    assert "opt/r1box/docs/installing.md" in files
    assert "keys create" in desk.said[-1]
    assert stat.S_IMODE(desk.layout.unit("r1box.service").stat().st_mode) == 0o644


def test_a_second_run_changes_nothing_and_says_so(desk: Desk) -> None:
    desk.install()
    before = {path: path.lstat().st_mtime_ns for path in desk.machine.root.rglob("*")}
    desk.machine.forget()
    desk.said.clear()
    assert desk.install() == 0
    assert desk.said == ["R1 Box is installed and up to date; nothing was changed."]
    assert desk.machine.calls() == []
    assert {path: path.lstat().st_mtime_ns for path in desk.machine.root.rglob("*")} == before
    assert desk.environment.made == 1


def test_a_newer_program_restarts_the_running_service(desk: Desk) -> None:
    desk.install()
    desk.machine.forget()
    desk.environment.key = "two"
    desk.install()
    assert (desk.layout.program / "bin" / "r1box").read_text(encoding="utf-8") == "two"
    assert desk.machine.calls() == ["systemctl daemon-reload", "systemctl --no-block restart r1box.service"]
    assert desk.said[-1] == "R1 Box is brought up to date; it is starting: systemctl status r1box"


def test_an_update_that_fails_leaves_the_program_before_in_force(desk: Desk) -> None:
    desk.install()
    before = desk.files()
    desk.machine.forget()
    desk.environment.key, desk.environment.code = "two", 1
    with pytest.raises(ActionFailed, match="not finished"):
        desk.install()
    assert (desk.layout.program / "bin" / "r1box").read_text(encoding="utf-8") == "one"
    assert desk.files() == before
    assert desk.machine.calls() == []


def test_the_program_before_the_last_is_removed_by_the_next_update(desk: Desk) -> None:
    for key in ("one", "two", "three"):
        desk.environment.key = key
        desk.install()
    assert [path.name for path in desk.layout.environments()] == ["env-three", "env-two"]
    desk.said.clear()
    desk.install()
    assert desk.said == ["R1 Box is installed and up to date; nothing was changed."]
    desk.uninstall()
    assert not desk.layout.at("/opt/r1box").exists()


def test_the_operators_settings_survive_an_update_and_a_changed_unit_does_not(desk: Desk) -> None:
    desk.install()
    desk.layout.config.write_text("port = 9000\n", encoding="utf-8")
    desk.layout.unit("r1box.service").write_text("[Service]\n", encoding="utf-8")
    desk.install()
    assert desk.layout.config.read_text(encoding="utf-8") == "port = 9000\n"
    assert "WatchdogSec" in desk.layout.unit("r1box.service").read_text(encoding="utf-8")


def test_a_dry_run_tells_the_same_steps_and_does_none(desk: Desk) -> None:
    before = desk.files()
    assert desk.install(dry_run=True) == 0
    assert desk.files() == before
    assert desk.machine.calls() == []
    assert desk.environment.made == 0
    told = [line.removeprefix("  would ") for line in desk.said]
    desk.said.clear()
    desk.install()
    assert [line.strip() for line in desk.said[:-1]] == told


def test_a_dry_run_needs_no_root(desk: Desk) -> None:
    desk.changes["is_root"] = False
    assert desk.install(dry_run=True) == 0
    assert desk.said
    assert desk.install() == 2


def test_where_systemd_does_not_run_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(make_machine(tmp_path, booted=False), monkeypatch)
    assert desk.install() == 0
    assert [call for call in desk.machine.calls() if call.startswith("systemctl")] == [
        "systemctl enable r1box.target r1box.service"
    ]
    assert "systemctl start r1box.target" in desk.said[-1]
    desk.machine.forget()
    assert desk.install() == 0
    assert desk.machine.calls() == []


def test_a_program_that_could_not_be_made_leaves_no_service(desk: Desk) -> None:
    before = desk.files()
    desk.environment.code = 1
    with pytest.raises(ActionFailed, match="not finished"):
        desk.install()
    assert desk.files() == before
    assert desk.machine.calls() == []


def test_a_failing_command_tells_what_it_said_and_the_next_run_goes_on(desk: Desk) -> None:
    (desk.machine.state / "fails").touch()
    with pytest.raises(ActionFailed, match="Access denied"):
        desk.install()
    (desk.machine.state / "fails").unlink()
    desk.machine.forget()
    assert desk.install() == 0
    assert "systemctl enable r1box.target r1box.service" in desk.machine.calls()
    assert (desk.machine.state / "active").exists()


def test_removing_leaves_data_settings_and_what_is_not_ours(desk: Desk) -> None:
    untouched = desk.files()
    desk.install()
    model = desk.layout.state / "models" / "r1.gguf"
    model.write_text("weights", encoding="utf-8")
    own = desk.layout.machine_drop_in.with_name("override.conf")
    own.write_text("[Service]\n", encoding="utf-8")
    desk.machine.forget()
    assert desk.uninstall() == 0
    assert desk.machine.calls() == [
        "systemctl stop r1box.target r1box.service",
        "systemctl disable r1box.target r1box.service",
        "systemctl daemon-reload",
    ]
    assert set(desk.files()) - set(untouched) == {
        "etc/r1box/config.toml",
        "etc/systemd/system/r1box.service.d/override.conf",
        "var/lib/r1box/models/r1.gguf",
    }
    assert not desk.layout.at("/opt/r1box").exists()
    assert "PURGE=yes" in desk.said[-1]
    desk.machine.forget()
    assert desk.uninstall() == 0
    assert desk.said[-1] == "R1 Box is not installed; nothing was changed."
    assert desk.machine.calls() == []


def test_purging_removes_data_and_the_user_too(desk: Desk) -> None:
    untouched = desk.files()
    desk.install()
    desk.uninstall(purge=True)
    assert desk.files() == untouched
    assert not desk.layout.state.exists()
    assert desk.machine.calls()[-1] == "userdel r1box"


def test_a_dry_removal_removes_nothing(desk: Desk) -> None:
    desk.install()
    before = desk.files()
    desk.machine.forget()
    assert desk.uninstall(purge=True, dry_run=True) == 0
    assert desk.files() == before
    assert desk.machine.calls() == []
    assert f"  would remove {desk.layout.state} with all that is in it" in desk.said


def test_purging_does_not_follow_links_out_of_the_state(desk: Desk, tmp_path: Path) -> None:
    desk.install()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").touch()
    (desk.layout.state / "link").symlink_to(elsewhere)
    desk.uninstall(purge=True)
    assert (elsewhere / "keep").exists()


def test_somebody_elses_link_of_our_name_is_left_alone_by_a_removal(desk: Desk) -> None:
    desk.install()
    link = desk.layout.link("r1box")
    link.unlink()
    link.symlink_to("/usr/bin/true")
    desk.uninstall()
    assert link.readlink() == Path("/usr/bin/true")


@pytest.mark.parametrize("purge", ["all", "1", "YES"])
def test_a_purge_that_is_not_plainly_yes_is_refused(purge: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["uninstall", "--purge", purge, "--dry-run"]) == 2
    assert f"PURGE={purge}" in capsys.readouterr().err


def test_staging_for_a_package_touches_the_folder_alone(tmp_path: Path) -> None:
    """With make, as a package is built, without root's rights and with systemd's programs out of sight."""
    staging = tmp_path / "staging"
    argv = ["make", "--no-print-directory", "install", f"DESTDIR={staging}", f"PYTHON={sys.executable}"]
    first = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert first.returncode == 0, first.stderr
    assert (staging / "usr/local/lib/systemd/system/r1box.service").is_file()
    assert (staging / "usr/local/bin/r1box").readlink() == Path("/opt/r1box/.venv/bin/r1box")
    assert not (staging / "opt/r1box/.venv").exists()
    assert not (staging / "etc/systemd/system").exists()
    again = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert again.stdout == f"Nothing to do in {staging}.\n"
    gone = subprocess.run(
        [*argv[:2], "uninstall", *argv[3:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert gone.returncode == 0, gone.stderr
    assert [str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file()] == [
        "etc/r1box/config.toml"
    ]


def test_make_passes_a_dry_run_on(tmp_path: Path) -> None:
    argv = ["make", "--no-print-directory", "install", f"DESTDIR={tmp_path}", "DRY_RUN=1", f"PYTHON={sys.executable}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "would write" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_runs_before_anything_is_installed(tmp_path: Path) -> None:
    """Isolated, without site-packages: whatever it imports is the standard library's or this tree's."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import installer.system.__main__"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
