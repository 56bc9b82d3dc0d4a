"""Imports that go wrong half way: nothing is left behind, and the store is as it was."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from models.errors import BudgetExceeded, ImportSourceChanged, ImportSourceUnreadable, NoSpace, StoreNotWritable
from models.hashing import BLOCK_BYTES
from models.importer import ImportResult, import_gguf, import_path
from models.model_store import ModelStore
from models.store_types import DiskBudget
from tests.fakes.gguf_writer import write_small
from tests.models.killed_imports import ROOT, import_command, kill_imports, start
from tests.models.store_samples import write_dense, write_set

BIG = 3 * BLOCK_BYTES


def left_behind(store: ModelStore) -> list[Path]:
    return [p for p in store.root.iterdir() if p.name not in (".lock", ".staging")] + list(
        (store.root / ".staging").iterdir()
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_dense(tmp_path / "Big.gguf", BIG)


def failing(real: Callable[..., Any], error: int, after: int) -> Callable[..., Any]:
    """``real``, until it was called ``after`` times; then ``error``."""
    calls = 0

    def call(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(error, os.strerror(error))
        return real(*args)

    return call


@pytest.mark.parametrize(
    ("function", "error", "after", "expected"),
    [
        ("write", errno.ENOSPC, 1, NoSpace),
        ("write", errno.EDQUOT, 0, NoSpace),
        ("write", errno.EIO, 2, StoreNotWritable),
        ("write", errno.EFBIG, 1, StoreNotWritable),
        ("fsync", errno.ENOSPC, 0, NoSpace),
        ("fsync", errno.EIO, 0, StoreNotWritable),
        ("fsync", errno.EIO, 1, StoreNotWritable),
    ],
)
def test_disk_errors_leave_nothing(
    store: ModelStore,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    error: int,
    after: int,
    expected: type[Exception],
) -> None:
    monkeypatch.setattr(os, function, failing(getattr(os, function), error, after))
    with pytest.raises(expected):
        import_gguf(store, source)
    monkeypatch.undo()
    assert left_behind(store) == []
    assert import_gguf(store, source).is_new


def test_source_that_cannot_be_read_to_the_end(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", failing(os.preadv, errno.EIO, 1))
    with pytest.raises(ImportSourceUnreadable, match="Input/output error"):
        import_gguf(store, source)
    assert left_behind(store) == []


def test_no_room_is_said_before_copying(store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelStore, "free_bytes", lambda _store: BIG)
    with pytest.raises(NoSpace) as caught:
        import_gguf(store, source, lambda _done, _total: pytest.fail("a byte was copied"))
    assert caught.value.details["needed_bytes"] == source.stat().st_size + 64 * 1024 * 1024
    assert caught.value.details["available_bytes"] == BIG
    assert left_behind(store) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupt_leaves_nothing(store: ModelStore, source: Path, interrupt: type[BaseException]) -> None:
    def stop(done: int, _total: int) -> None:
        if done > BLOCK_BYTES:
            raise interrupt

    with pytest.raises(interrupt):
        import_gguf(store, source, stop)
    assert left_behind(store) == []


@pytest.mark.parametrize("change", ["grow", "cut", "write"])
def test_a_source_that_changes_is_refused(store: ModelStore, source: Path, change: str) -> None:
    def meddle(done: int, total: int) -> None:
        if done > BLOCK_BYTES:
            return
        if change == "grow":
            os.truncate(source, total + 1)
        elif change == "cut":
            os.truncate(source, total - 1)
        else:
            with source.open("r+b") as file:
                file.seek(40)
                file.write(b"\xff")
            os.utime(source, ns=(1, 1))

    with pytest.raises(ImportSourceChanged):
        import_gguf(store, source, meddle)
    assert left_behind(store) == []


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_kill_9_in_the_middle_leaves_a_store_that_cleans_itself(tmp_path: Path, source: Path, blocks: int) -> None:
    root = tmp_path / "store"
    with start(import_command(root, source)) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for number in range(blocks):
            assert child.stdout.read(1) == b"x"
            if number < blocks - 1:
                child.stdin.write(b"g")
                child.stdin.flush()
        half = list((root / ".staging").iterdir())
        assert len(half) == 1
        living = ModelStore(root)  # opened while the import lives: it is left alone
        assert half[0].is_dir()
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    store = ModelStore(root)
    assert left_behind(store) == []
    assert living.list().models == ()
    assert import_gguf(store, source).is_new


def test_kill_9_at_many_points_never_leaves_half_a_model(tmp_path: Path, source: Path) -> None:
    root = tmp_path / "store"
    kill_imports(root, source, rounds=12, most_steps=7, seed=4)
    assert import_gguf(ModelStore(root), source).is_new


@pytest.mark.parametrize("limit_bytes", [100, BLOCK_BYTES + 1, BIG - 1])
def test_a_file_that_may_not_grow_is_a_plain_error(tmp_path: Path, source: Path, limit_bytes: int) -> None:
    """A real EFBIG, as from a file system that ends at 4 GiB (FAT32)."""
    root = tmp_path / "store"
    command = import_command(root, source, limit_bytes=limit_bytes, wait=False)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("store_not_writable: ")
    assert "File too large" in done.stdout
    store = ModelStore(root)
    assert left_behind(store) == []
    assert import_gguf(store, source).is_new


def test_a_set_whose_second_part_fails_leaves_nothing(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write_set(tmp_path / "set", 3)
    monkeypatch.setattr(os, "write", failing(os.write, errno.ENOSPC, 1))
    with pytest.raises(NoSpace):
        import_path(store, parts[0])
    monkeypatch.undo()
    assert left_behind(store) == []
    assert import_path(store, parts[0]).is_new


@pytest.mark.parametrize("change", ["grow", "touch", "swap"])
def test_a_part_that_changes_while_another_is_copied_is_refused(store: ModelStore, tmp_path: Path, change: str) -> None:
    parts = write_set(tmp_path / "set", 3)

    def meddle(_done: int, _total: int) -> None:
        if change == "grow":
            with parts[0].open("ab") as file:
                file.write(b"x")
        elif change == "touch":
            os.utime(parts[2], ns=(1, 1))
        else:
            os.truncate(parts[1], 0)

    with pytest.raises(ImportSourceChanged):
        import_path(store, parts[0], meddle)
    assert left_behind(store) == []


def at_once(*runs: Callable[[], ImportResult]) -> list[ImportResult]:
    """Runs imports in threads that begin together."""
    meet = threading.Barrier(len(runs))
    results: list[ImportResult] = []

    def run(one: Callable[[], ImportResult]) -> None:
        meet.wait(30)
        results.append(one())

    threads = [threading.Thread(target=run, args=(one,)) for one in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_two_imports_of_the_same_bytes_at_once_make_one_model(store: ModelStore, source: Path) -> None:
    meet = threading.Barrier(2)

    def run() -> ImportResult:
        waited = False

        def progress(_done: int, _total: int) -> None:
            nonlocal waited
            if not waited:
                waited = True
                meet.wait(30)

        return import_gguf(ModelStore(store.root), source, progress)

    results = at_once(run, run)
    assert sorted(r.is_new for r in results) == [False, True]
    assert results[0].model == results[1].model
    assert [m.id for m in store.list().models] == ["big-q8_0"]
    assert list((store.root / ".staging").iterdir()) == []
    assert store.verify("big-q8_0").size_bytes == source.stat().st_size


def test_the_same_set_twice_at_once(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path / "set", 5)
    results = at_once(*(partial(import_path, ModelStore(store.root), part) for part in parts[:3]))
    assert sorted(r.is_new for r in results) == [False, False, True]
    (model,) = store.list().models
    assert store.verify(model.id) == model
    assert list((store.root / ".staging").iterdir()) == []


def test_two_different_models_of_one_name_at_once(store: ModelStore, tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
    paths = [write_small(tmp_path / str(seed) / "Twin.gguf", seed=seed) for seed in (1, 2)]
    at_once(*(partial(import_gguf, ModelStore(store.root), path) for path in paths))
    ids = [m.id for m in store.list().models]
    assert len(ids) == 2
    assert ids[0] == "twin-q8_0"
    assert ids[1].startswith("twin-q8_0-")


def test_two_imports_at_once_cannot_both_have_the_last_room(store: ModelStore, tmp_path: Path) -> None:
    one, two = (write_dense(tmp_path / f"{n}.gguf", BIG, seed=n) for n in (1, 2))
    limited = ModelStore(store.root, budget=DiskBudget(max_bytes=BIG + BIG // 2))
    refused: list[str] = []

    def second(done: int, _total: int) -> None:
        if done >= BLOCK_BYTES and not refused:
            with pytest.raises(BudgetExceeded) as caught:
                import_gguf(ModelStore(store.root, budget=limited.budget), two)
            refused.append(caught.value.code)

    assert import_gguf(limited, one, second).is_new
    assert refused == ["store_budget_exceeded"]
    assert [m.id for m in store.list().models] == ["1-q8_0"]
