"""The system's executor on plain files, with the programs recorded; and the commands that use it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drivers.command import CommandResult
from installer import cli
from installer.actions import Action, CheckImage, ConfirmDisk, CopyFile, CopyImage, MakeFolder, Mount, PutFile, Run
from installer.errors import InstallFailed, InstallRefused
from installer.executor import DryRun, SystemExecutor, device_paths, find_disk, run_command
from tests.installer.boxes import FIXTURES, inventory

CONTENT = bytes(range(256)) * 40000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Programs:
    """Records what would be run."""

    def __init__(self) -> None:
        self.argv: list[list[str]] = []
        self.flushed = 0

    def __call__(self, argv: Sequence[str], timeout_s: float, ok_codes: Sequence[int]) -> CommandResult:
        self.argv.append(list(argv))
        return CommandResult(tuple(argv), 0, "", "", 0.0)

    def flush(self) -> None:
        self.flushed += 1


def executor(tmp_path: Path, programs: Programs | None = None) -> SystemExecutor:
    programs = programs or Programs()
    paths = {"@disk": "/dev/nvme0n1", "@3": str(tmp_path / "slot"), "@5": "/dev/nvme0n1p5"}
    return SystemExecutor(paths, inventory, Path("/run/r1box/target"), programs, programs.flush)


def failing(run: SystemExecutor, action: Action) -> InstallFailed:
    with pytest.raises(InstallFailed) as caught:
        run.execute(action)
    return caught.value


def test_tokens_are_whole_words_and_lasting_steps_are_flushed(tmp_path: Path) -> None:
    programs = Programs()
    run = executor(tmp_path, programs)
    run.execute(Run("p", ("sgdisk", "--change-name=@3", "root@disk", "@disk", "@5")))
    run.execute(Mount("@5", str(tmp_path / "state"), "ext4", "noatime"))
    assert programs.argv == [
        ["sgdisk", "--change-name=@3", "root@disk", "/dev/nvme0n1", "/dev/nvme0n1p5"],
        ["mount", "-t", "ext4", "-o", "noatime", "/dev/nvme0n1p5", str(tmp_path / "state")],
    ]
    assert programs.flushed == 1
    assert (tmp_path / "state").is_dir()


def test_what_is_mounted_is_not_mounted_again(tmp_path: Path) -> None:
    programs = Programs()
    executor(tmp_path, programs).execute(Mount("proc", "/proc", "proc"))
    assert programs.argv == []


def test_an_image_is_written_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(CONTENT)
    (tmp_path / "slot").write_bytes(b"\xff" * (len(CONTENT) + 4096))
    run = executor(tmp_path)
    copy = CopyImage(str(tmp_path / "image"), "@3", len(CONTENT), SHA256)
    check = CheckImage("@3", len(CONTENT), SHA256)
    assert failing(run, check).code == "copy_damaged"
    run.execute(copy)
    run.execute(copy)
    run.execute(check)
    assert (tmp_path / "slot").read_bytes() == CONTENT + b"\xff" * 4096
    (tmp_path / "image").write_bytes(CONTENT[:-1] + b"x")
    assert failing(run, copy).code == "copy_damaged"
    (tmp_path / "image").write_bytes(CONTENT[:-1])
    assert "shorter" in str(failing(run, copy))
    (tmp_path / "slot").unlink()
    assert failing(run, copy).code == "action_failed"
    assert not (tmp_path / "slot").exists()


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "to/b"
    source.write_bytes(CONTENT)
    run = executor(tmp_path)
    run.execute(MakeFolder(str(target.parent), 0o750))
    assert failing(run, CopyFile(str(source), str(target), "00" * 32)).code == "copy_damaged"
    assert list(target.parent.iterdir()) == []
    run.execute(CopyFile(str(source), str(target), SHA256))
    run.execute(PutFile(str(target), "new\n", 0o600))
    assert target.read_text() == "new\n"
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.parent.stat().st_mode & 0o777 == 0o750


def test_a_full_target_says_so() -> None:
    size = len(CONTENT)
    run = SystemExecutor({"@3": "/dev/full"}, inventory, Path("/run/r1box/target"), Programs(), Programs().flush)
    assert "full" in str(failing(run, CopyImage("/dev/zero", "@3", size, SHA256)))


def test_a_program_that_fails_gives_its_words() -> None:
    run = SystemExecutor({}, inventory, Path("/run/r1box/target"), run_command, Programs().flush)
    error = failing(run, Run("p", ("sh", "-c", "echo no medium >&2; exit 3")))
    assert "exit code 3: no medium" in error.message
    assert "not found" in str(failing(run, Run("p", ("r1box-no-such-program",))))
    run.execute(Run("p", ("sh", "-c", "exit 2"), ok_codes=(0, 2)))


def test_the_disk_is_looked_at_again_before_the_first_write(tmp_path: Path) -> None:
    disks = inventory()
    disk = disks[0]
    confirm = ConfirmDisk(disk.identity or "", disk.size_bytes)
    executor(tmp_path).execute(confirm)

    def now(*devices: object) -> InstallFailed:
        paths = {"@disk": "/dev/nvme0n1"}
        return failing(SystemExecutor(paths, lambda: devices, Path("/run/r1box/target"), Programs()), confirm)  # type: ignore[arg-type, return-value]

    assert "is gone" in str(now(*disks[1:]))
    assert "more than once" in str(now(disk, replace(disk, name="x", path="/dev/x")))
    assert "another size" in str(now(replace(disk, size_bytes=5)))
    assert "/dev/nvme3n1 now" in str(now(replace(disk, path="/dev/nvme3n1")))
    assert "mounted on /srv" in str(now(replace(disk, mount_points=("/srv",))))
    assert "mounted on /run/r1box/target2" in str(now(replace(disk, mount_points=("/run/r1box/target2",))))
    own = replace(disk, mount_points=("/run/r1box/target", "/run/r1box/target/etc"))
    SystemExecutor({"@disk": disk.path}, lambda: [own], Path("/run/r1box/target"), Programs()).execute(confirm)


def test_partitions_by_the_kernels_names() -> None:
    disks = {device.name: device for device in inventory()}
    assert device_paths(disks["nvme0n1"])["@6"] == "/dev/nvme0n1p6"
    assert device_paths(disks["sda"])["@6"] == "/dev/sda6"
    with pytest.raises(InstallFailed, match="is gone"):
        find_disk(tuple(disks.values()), "none", 1)


@pytest.fixture
def medium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    live = tmp_path / "medium/live"
    live.mkdir(parents=True)
    (live / "r1box.json").write_text(
        f'{{"version": "0.1", "squashfs": "filesystem.squashfs", "size_bytes": 1000, "sha256": "{SHA256}"}}'
    )
    monkeypatch.setattr(cli, "read_inventory", inventory)
    # Whatever goes wrong here, no program of this machine is run.
    monkeypatch.setattr(cli, "SystemExecutor", None)
    return live.parent


def test_apply_without_consent_is_refused(medium: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text((FIXTURES / "accept/least.toml").read_text().replace('wipe = "S64FNE0R100001"', ""))
    journal = tmp_path / "journal"
    for given in ([], ["--wipe", "yes"], ["--wipe", "S64FNE0R100002"]):
        argv = ["apply", str(answers), "--medium", str(medium), "--journal", str(journal), *given]
        refused = CliRunner().invoke(cli.app, argv).exception
        assert isinstance(refused, InstallRefused)
        assert refused.code == "wipe_not_confirmed"
    assert not journal.exists()


def test_a_dry_run_tells_every_step_and_needs_no_consent(medium: Path) -> None:
    argv = [str(FIXTURES / "accept/least.toml"), "--medium", str(medium)]
    told = CliRunner().invoke(cli.app, ["apply", *argv, "--dry-run"])
    assert told.exit_code == 0
    shown = CliRunner().invoke(cli.app, ["plan", *argv]).output
    lines = [line.removeprefix("would ") for line in told.output.splitlines()]
    assert len(lines) > 40
    assert all(line in shown for line in lines)


def test_one_at_a_time(tmp_path: Path) -> None:
    with (
        cli.locked(tmp_path / "lock"),
        pytest.raises(InstallRefused, match="Another r1box-install"),
        cli.locked(tmp_path / "lock"),
    ):
        pass
    with cli.locked(tmp_path / "lock"):
        said: list[str] = []
        DryRun(said.append).execute(MakeFolder("/x"))
    assert said == ["would make the folder /x"]


def test_apply_stops_and_resume_goes_on(medium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: list[str] = []
    broken = {"copy-image"}

    class Machine:
        def __init__(self, paths: Mapping[str, str], inventory: object, own: Path) -> None:
            self.disk = paths.get("@disk")

        def execute(self, action: Action) -> None:
            if action.kind in broken:
                raise InstallFailed("action_failed", "The stick gave no answer.", "Plug it in, then resume.")
            carried.append(f"{self.disk} {action.kind}")

    monkeypatch.setattr(cli, "SystemExecutor", Machine)
    monkeypatch.setattr(cli, "_demand_root", lambda: None)
    monkeypatch.setattr(cli, "locked", lambda: contextlib.nullcontext())
    where = ["--medium", str(medium), "--journal", str(tmp_path / "journal")]
    least = str(FIXTURES / "accept/least.toml")
    stopped = CliRunner().invoke(cli.app, ["apply", least, *where])
    assert isinstance(stopped.exception, InstallFailed)
    assert carried[-1] == "/dev/nvme0n1 unmount"
    again = CliRunner().invoke(cli.app, ["apply", least, *where]).exception
    assert isinstance(again, InstallRefused)
    assert again.code == "journal_of_another_plan"

    broken.clear()
    carried.clear()
    moved = [replace(disk, path="/dev/nvme5n1") if disk.name == "nvme0n1" else disk for disk in inventory()]
    monkeypatch.setattr(cli, "read_inventory", lambda: tuple(moved))
    other = tmp_path / "other.toml"
    other.write_text((FIXTURES / "accept/least.toml").read_text() + "[service]\nport = 81\n")
    refused = CliRunner().invoke(cli.app, ["resume", str(other), *where]).exception
    assert isinstance(refused, InstallRefused)
    assert refused.code == "journal_of_another_plan"
    carried.clear()
    ended = CliRunner().invoke(cli.app, ["resume", least, *where])
    assert ended.exit_code == 0, ended.output
    assert ended.output.endswith("R1 Box is installed.\n")
    # The disk is found by its serial under its new name, looked at first, and only then written to.
    assert carried[1:3] == ["/dev/nvme5n1 confirm-disk", "/dev/nvme5n1 copy-image"]
