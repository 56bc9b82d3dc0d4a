"""The swap of states: a power cut at any step leaves the old state or the new one, and the next start finishes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.backup.disk import RealDisk
from appliance.backup.errors import StateInUse
from appliance.backup.in_use import alone, in_use
from appliance.backup.pending import finish_pending, settle_restore, undo_restore, waits
from appliance.backup.reset import Reset, ResetOrder, what_goes
from appliance.backup.swap import BEFORE, FILES, RESTORED, STAGED, Swap, last_restore
from tests.appliance.backup.states import entries

OLD = {"r1box.db": b"old", "r1box.db-wal": b"old wal", "settings.toml": b"old", "setup-token": b"old"}
OLD_TLS = {"authority.crt": b"old", "authority.key": b"old"}
NEW = {"r1box.db": b"new", "config.from-backup.toml": b"new"}
NEW_TLS = {"authority.crt": b"new"}
STAYS = {"chats.key": b"stays", "backup-key.json": b"stays"}
FACTS = {"backup": "x.r1backup"}


class PowerCutError(BaseException):
    """Nothing runs after it: no except, no finally that could tidy up."""


class FailingDisk(RealDisk):
    """Loses power after ``steps`` operations; ``half`` of the next one is done where it has halves. Nothing that is
    called later does anything."""

    def __init__(self, steps: int, *, half: bool) -> None:
        self.left = steps
        self.half = half

    def _step(self) -> bool:
        self.left -= 1
        if self.left < 0:
            if self.left == -1 and self.half:
                return False
            raise PowerCutError
        return True

    def rename(self, old: Path, new: Path) -> None:
        if self._step():
            super().rename(old, new)
        else:
            raise PowerCutError

    def make_folder(self, path: Path) -> None:
        if self._step():
            super().make_folder(path)
        else:
            raise PowerCutError

    def write(self, path: Path, data: bytes) -> None:
        if self._step():
            super().write(path, data)
            return
        path.with_name(f".{path.name}-torn").write_bytes(data[: len(data) // 2])
        raise PowerCutError

    def remove(self, path: Path) -> None:
        if self._step():
            super().remove(path)
            return
        if path.is_dir():
            for one in sorted(path.rglob("*"), reverse=True)[:1]:
                shutil.rmtree(one) if one.is_dir() else one.unlink()
        raise PowerCutError


def write_all(folder: Path, files: dict[str, bytes], tls: dict[str, bytes]) -> None:
    (folder / "tls").mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for name, data in tls.items():
        (folder / "tls" / name).write_bytes(data)


def make(folder: Path) -> Path:
    """An old state, and a new one in a scratch folder."""
    write_all(folder, {**OLD, **STAYS}, OLD_TLS)
    write_all(folder / ".restore-x" / FILES, NEW, NEW_TLS)
    return folder / ".restore-x"


def state(folder: Path) -> dict[str, bytes]:
    """What the daemon would find."""
    ignored = (STAGED, BEFORE, RESTORED, ".")
    found = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(ignored)}


def flat(files: dict[str, bytes], tls: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, **STAYS, **{f"tls/{name}": data for name, data in tls.items()}}


OLD_STATE, NEW_STATE = flat(OLD, OLD_TLS), flat(NEW, NEW_TLS)


def interrupted(work: Any, *, half: bool, steps: int) -> bool:
    """Whether the power was cut."""
    try:
        work(FailingDisk(steps, half=half))
    except PowerCutError:
        return True
    return False


def next_start(folder: Path) -> None:
    finish_pending(folder, lambda: None)


def test_a_restore_replaces_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    assert swap.finish() is None
    swap_scratch = make(tmp_path)
    assert state(tmp_path) == OLD_STATE
    swap.commit(swap_scratch, FACTS)
    assert (waits(tmp_path), state(tmp_path)) == (True, OLD_STATE)
    done = finish_pending(tmp_path, lambda: None)
    assert done.restored is not None
    assert (done.restored.facts, state(tmp_path), swap.is_unsettled) == (FACTS, NEW_STATE, True)
    settle_restore(tmp_path)
    assert entries(tmp_path) == {*NEW, *STAYS, "tls", RESTORED}
    assert last_restore(tmp_path) == FACTS
    assert not undo_restore(tmp_path)


def test_a_box_that_does_not_start_gets_its_old_state_back(tmp_path: Path) -> None:
    Swap(tmp_path).commit(make(tmp_path), FACTS)
    next_start(tmp_path)
    assert undo_restore(tmp_path)
    assert state(tmp_path) == OLD_STATE
    assert entries(tmp_path) == {*OLD, *STAYS, "tls"}
    assert last_restore(tmp_path) is None


@pytest.mark.parametrize("half", [False, True])
def test_a_power_cut_at_any_step_of_a_restore(tmp_path: Path, half: bool) -> None:
    seen = []
    for steps in range(200):
        folder = tmp_path / str(steps)
        folder.mkdir()
        scratch = make(folder)

        def work(disk: RealDisk, folder: Path = folder, scratch: Path = scratch) -> None:
            Swap(folder, disk).commit(scratch, FACTS)
            Swap(folder, disk).finish()

        cut = interrupted(work, half=half, steps=steps)
        committed = waits(folder) or state(folder) == NEW_STATE
        assert state(folder) == OLD_STATE or waits(folder) or state(folder) == NEW_STATE
        next_start(folder)
        assert state(folder) == (NEW_STATE if committed else OLD_STATE)
        seen.append(committed)
        if not cut:
            break
        settle_restore(folder)
        next_start(folder)
        assert entries(folder) - {".plan.json-torn"} <= {
            *OLD,
            *NEW,
            *STAYS,
            "tls",
            RESTORED,
            ".restore-x",
            ".restored.json-torn",
        }
    assert not cut
    # First the old state, from one step on the new.
    assert seen == sorted(seen)
    assert len(seen) > 15
    assert False in seen


@given(st.integers(0, 30), st.integers(0, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_power_that_is_cut_again_while_it_is_finished(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int, half: bool
) -> None:
    folder = tmp_path_factory.mktemp("state")
    Swap(folder).commit(make(folder), FACTS)
    for steps in (first, second):
        interrupted(lambda disk: Swap(folder, disk).finish(), half=half, steps=steps)
    next_start(folder)
    assert state(folder) == NEW_STATE


@pytest.mark.parametrize("half", [False, True])
def test_a_power_cut_at_any_step_of_going_back(tmp_path: Path, half: bool) -> None:
    for steps in range(200):
        folder = tmp_path / str(steps)
        folder.mkdir()
        Swap(folder).commit(make(folder), FACTS)
        next_start(folder)
        cut = interrupted(lambda disk, folder=folder: Swap(folder, disk).undo(), half=half, steps=steps)
        next_start(folder)
        assert state(folder) in (OLD_STATE, NEW_STATE)
        if not cut:
            break
    assert not cut
    assert state(folder) == OLD_STATE


def test_a_second_restore_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    Swap(tmp_path).commit(make(tmp_path), {"backup": "first"})
    write_all(tmp_path / ".restore-y" / FILES, {"r1box.db": b"second"}, {})
    Swap(tmp_path).commit(tmp_path / ".restore-y", {"backup": "second"})
    next_start(tmp_path)
    assert (tmp_path / "r1box.db").read_bytes() == b"second"
    assert not (tmp_path / "settings.toml").exists()


def test_nothing_is_swapped_under_a_running_box(tmp_path: Path) -> None:
    Swap(tmp_path).commit(make(tmp_path), FACTS)
    with in_use(tmp_path), in_use(tmp_path):
        next_start(tmp_path)
        assert state(tmp_path) == OLD_STATE
        with pytest.raises(StateInUse), alone(tmp_path):
            pass
    next_start(tmp_path)
    assert state(tmp_path) == NEW_STATE


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("keep_backups", [False, True])
def test_a_power_cut_at_any_step_of_a_reset(tmp_path: Path, half: bool, keep_backups: bool) -> None:
    order = ResetOrder(remove_models=True, keep_backups=keep_backups)
    for steps in range(200):
        folder, models = tmp_path / str(steps), []
        folder.mkdir()
        Swap(folder).commit(make(folder), FACTS)
        for name in ("backups", "logs", "notes-of-somebody"):
            (folder / name).mkdir()
            (folder / name / "file").write_text("x")
        goes = {name for name, _ in what_goes(folder)}
        assert {"r1box.db", "backups", "logs", STAGED} <= goes

        def work(disk: RealDisk, folder: Path = folder, models: list[str] = models) -> None:
            Reset(folder, disk).order(order)
            Reset(folder, disk).finish(lambda: models.append("gone"))

        cut = interrupted(work, half=half, steps=steps)
        ordered = Reset(folder).is_pending or not cut
        finish_pending(folder, lambda models=models: models.append("gone"))
        if ordered:
            assert models
            kept = {"backups"} if keep_backups else set()
            assert entries(folder) - {".reset.json-torn"} == {"notes-of-somebody", *kept}
        else:
            assert state(folder)["r1box.db"] == b"new"  # the restore that waited
            assert (folder / "backups" / "file").is_file()
        if not cut:
            break
    assert not cut
    assert steps >= len(goes - {"backups"}), "each of them goes in a step of its own"
