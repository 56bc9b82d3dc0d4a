"""Imports that go wrong half way: nothing is left behind, and the store is as it was."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import ImportSourceChanged, ImportSourceUnreadable, NoSpace, StoreNotWritable
from models.hashing import BLOCK_BYTES
from models.importer import ImportResult, import_gguf
from models.model_store import ModelStore
from tests.fakes.gguf_writer import write_small

ROOT = Path(__file__).parents[2]
BIG = 3 * BLOCK_BYTES


def left_behind(store: ModelStore) -> list[Path]:
    return [p for p in store.root.iterdir() if p.name not in (".lock", ".staging")] + list(
        (store.root / ".staging").iterdir()
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_small(tmp_path / "Big.gguf", filler_bytes=BIG)


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


CHILD = """
import os, sys
from pathlib import Path
from models.importer import import_gguf
from models.model_store import ModelStore

def tell_and_wait(done, total):
    os.write(1, b"x")
    os.read(0, 1)

import_gguf(ModelStore(Path(sys.argv[1])), Path(sys.argv[2]), tell_and_wait)
"""


def start_child(store: Path, source: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store), str(source)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_kill_9_in_the_middle_leaves_a_store_that_cleans_itself(tmp_path: Path, source: Path, blocks: int) -> None:
    root = tmp_path / "store"
    with start_child(root, source) as child:
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


def test_two_imports_of_the_same_bytes_at_once_make_one_model(store: ModelStore, source: Path) -> None:
    meet = threading.Barrier(2)
    results: list[ImportResult] = []

    def run() -> None:
        waited = False

        def progress(_done: int, _total: int) -> None:
            nonlocal waited
            if not waited:
                waited = True
                meet.wait(30)

        results.append(import_gguf(ModelStore(store.root), source, progress))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(r.is_new for r in results) == [False, True]
    assert results[0].model == results[1].model
    assert [m.id for m in store.list().models] == ["big-q8_0"]
    assert list((store.root / ".staging").iterdir()) == []


def test_two_different_models_of_one_name_at_once(store: ModelStore, tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
    paths = [write_small(tmp_path / str(seed) / "Twin.gguf", seed=seed) for seed in (1, 2)]
    threads = [threading.Thread(target=import_gguf, args=(ModelStore(store.root), path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ids = [m.id for m in store.list().models]
    assert len(ids) == 2
    assert ids[0] == "twin-q8_0"
    assert ids[1].startswith("twin-q8_0-")
