"""Imports of bundles that are killed, run out of disk or lose their stick: the same command goes on, nothing is lost.

``R1BOX_KILL_ROUNDS=200`` runs the kill -9 test that often; a dozen is usual.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle.errors import BundleDamaged, BundleUnreadable
from models.bundle.receive import import_bundle
from models.bundle.verify import verify_bundle
from models.errors import NoSpace, StoreNotWritable
from models.model_store import ModelStore
from tests.models.bundle_samples import CHUNK, KEYS, Sample, make_bundle

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("R1BOX_KILL_ROUNDS", "12"))

CHILD = """
import os, signal, sys
from pathlib import Path
from models.bundle.receive import ImportOptions, import_bundle
from models.model_store import ModelStore
from tests.models.bundle_samples import KEYS

last = int(sys.argv[2])     # the operation on the disk that the process does not survive
count = 0

def counted(real, before):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == last and before:
            os.kill(os.getpid(), signal.SIGKILL)
        if count == last and real is os_pwrite:     # torn: half of it reaches the disk
            real(args[0], args[1][: len(args[1]) // 2], args[2])
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

os_pwrite = os.pwrite
before = sys.argv[3] == "before"
for name in ("pwrite", "fdatasync", "fsync", "ftruncate", "rename", "replace", "unlink", "link", "mkdir", "open"):
    setattr(os, name, counted(getattr(os, name), before))

store = ModelStore(Path(sys.argv[1]))
options = ImportOptions(commit_bytes=2 * 65536)
import_bundle(store, [Path(p) for p in sys.argv[4:]], KEYS, options=options)
print(count)
"""


def run_child(store: Path, last: int, when: str, folders: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(store), str(last), when, *map(str, folders)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def read_offsets(monkeypatch: pytest.MonkeyPatch, below: Path) -> list[tuple[str, int]]:
    seen: list[tuple[str, int]] = []
    real = os.preadv

    def preadv(descriptor: int, buffers: Any, offset: int) -> int:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(below):
            seen.append((path.name, offset))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    return seen


def test_kill_9_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before, in or after any operation on the disk, up to three times in a row; then it goes on and ends well.

    What was noted in the journal is not read again, and no model is ever seen that is not whole.
    """
    sample = make_bundle(tmp_path / "made", stick_bytes=600_000)
    folders = list(sample.made.folders)
    whole = run_child(tmp_path / "uncut", 0, "after", folders)
    assert whole.returncode == 0, whole.stderr
    operations = int(whole.stdout)
    assert operations > 40
    content = sample.source.read_bytes()
    seen = read_offsets(monkeypatch, tmp_path / "made")
    rng = random.Random(20260301)
    lost: list[int] = []
    kills = kept = 0
    for number in range(ROUNDS):
        root = tmp_path / f"store-{number}"
        for attempt in range(1 + number % 3):
            last = rng.randint(1, operations) if attempt else 1 + (number * operations) // ROUNDS
            killed = run_child(root, last, ("before", "after")[number % 2], folders)
            assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
            kills += killed.returncode != 0
            for folder in root.iterdir() if root.exists() else ():
                if not folder.name.startswith(".") and folder.is_dir():
                    assert (folder / "model.gguf").read_bytes() == content
        store = ModelStore(root)
        noted = _noted_chunks(root)
        kept += len(noted)
        seen.clear()
        model = import_bundle(store, folders, KEYS).model
        assert model.path.read_bytes() == content
        assert store.verify(model.id) == model
        assert [p.name for p in (root / ".staging").iterdir()] == []
        assert [m.id for m in store.list().models] == [model.id]
        read_again = {_chunk(sample, name, offset) for name, offset in seen} & noted
        lost += sorted(read_again)
    assert lost == []
    assert kills > ROUNDS // 2
    assert kept
    print(f"{ROUNDS} rounds over {operations} operations: {kills} kills, {kept} chunks kept")


def _noted_chunks(root: Path) -> set[int]:
    """Numbers that the journal of the interrupted import has, read independently of the code under test."""
    noted: set[int] = set()
    for journal in (root / ".staging").glob("resume-*/.journal/model.gguf"):
        for line in journal.read_text().splitlines()[1:]:
            words = line.split()
            if len(words) == 3 and len(words[1]) == 64 and len(words[2]) == 8:
                noted.add(int(words[0]))
    return noted


def _chunk(sample: Sample, name: str, offset: int) -> int:
    start = 0
    for part in sample.made.manifest.files[0].parts:
        if part.path == name:
            return (start + offset) // CHUNK
        start += part.size_bytes
    raise AssertionError(name)


EXPORT = """
import os, signal, sys
from pathlib import Path
from models.bundle.create import CreateOptions, Sticks, create_bundle, source_of_path
from models.bundle.layout import StickSpace
from tests.models.bundle_samples import KEY, CHUNK

last, count = int(sys.argv[3]), 0

def counted(real):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

for name in ("pwrite", "fdatasync", "fsync", "ftruncate", "rename", "replace", "mkdir", "open"):
    setattr(os, name, counted(getattr(os, name)))
sticks = Sticks((StickSpace(600_000),), lambda number, _: Path(sys.argv[2]) / f"usb{number}" / "big", True)
create_bundle(source_of_path(Path(sys.argv[1])), sticks, options=CreateOptions(key=KEY, chunk_bytes=CHUNK))
print(count)
"""


def test_an_export_killed_at_any_moment_goes_on(tmp_path: Path) -> None:
    sample = make_bundle(tmp_path / "made")

    def run(folder: Path, last: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", EXPORT, str(sample.source), str(folder), str(last)],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    uncut = run(tmp_path / "uncut", 0)
    assert uncut.returncode == 0, uncut.stderr
    operations = int(uncut.stdout)
    rounds = max(ROUNDS // 4, 3)
    for number in range(rounds):
        folder = tmp_path / f"usb-{number}"
        killed = run(folder, 1 + number * operations // rounds)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        for usb in folder.glob("usb*/big"):  # what has its final name is whole
            assert verify_bundle([usb], KEYS).bad == ()
        done = run(folder, 0)
        assert done.returncode == 0, done.stderr
        usbs = sorted(folder.glob("usb*"))
        assert len(usbs) == 3
        assert verify_bundle([usb / "big" for usb in usbs], KEYS).is_whole
        assert [sorted(p.name for p in usb.iterdir()) for usb in usbs] == [["big"]] * 3


LIMITED = """
import json, resource, sys
from pathlib import Path
from models.bundle.receive import import_bundle
from models.errors import ModelError
from models.model_store import ModelStore
from tests.models.bundle_samples import KEYS
store = ModelStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    import_bundle(store, [Path(sys.argv[2])], KEYS)
except ModelError as error:
    print(json.dumps([error.code, error.message]))
"""


@pytest.mark.parametrize("limit", [1000, 200_000, 599_999])
def test_a_disk_that_takes_no_more(tmp_path: Path, store: ModelStore, limit: int) -> None:
    sample = make_bundle(tmp_path / "made")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store.root), str(sample.folder), str(limit)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    code, message = json.loads(done.stdout)
    assert code == "store_not_writable"
    assert "does not take a file" in message
    assert store.list().models == ()
    assert import_bundle(ModelStore(store.root), [sample.folder], KEYS).is_new


def failing(real: Callable[..., Any], error: int, after: int, times: int = 10**9) -> Callable[..., Any]:
    """``real``, until it was called ``after`` times; then ``error``, ``times`` times."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if after < calls <= after + times:
            raise OSError(error, os.strerror(error))
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("function", "error", "after", "expected"),
    [
        ("pwrite", errno.ENOSPC, 4, NoSpace),
        ("pwrite", errno.EDQUOT, 2, NoSpace),
        ("pwrite", errno.EIO, 3, StoreNotWritable),
        ("fdatasync", errno.ENOSPC, 0, NoSpace),
        ("fsync", errno.EIO, 3, StoreNotWritable),
        ("ftruncate", errno.ENOSPC, 1, NoSpace),
    ],
)
def test_a_full_or_failing_disk(
    tmp_path: Path,
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    error: int,
    after: int,
    expected: type[Exception],
) -> None:
    sample = make_bundle(tmp_path / "made")
    monkeypatch.setattr(os, function, failing(getattr(os, function), error, after))
    with pytest.raises(expected):
        import_bundle(store, [sample.folder], KEYS)
    monkeypatch.undo()
    assert store.list().models == ()
    model = import_bundle(ModelStore(store.root), [sample.folder], KEYS).model
    assert model.path.read_bytes() == sample.source.read_bytes()


def test_the_stick_is_pulled_out_half_way(tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = make_bundle(tmp_path / "made")
    chunks = len(sample.made.manifest.files[0].chunks)
    monkeypatch.setattr(os, "preadv", failing(os.preadv, errno.EIO, chunks // 2))
    with pytest.raises(BundleUnreadable, match="was the stick pulled out") as caught:
        import_bundle(store, [sample.folder], KEYS)
    assert "what was copied stays" in str(caught.value.hint)
    monkeypatch.undo()
    assert store.list().models == ()
    seen = read_offsets(monkeypatch, sample.folder)
    model = import_bundle(store, [sample.folder], KEYS).model
    assert sorted(offset for _, offset in seen) == [n * CHUNK for n in range(chunks // 2, chunks)]
    assert model.path.read_bytes() == sample.source.read_bytes()


def test_a_stick_that_is_gone_is_noticed_at_the_first_read(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_bundle(tmp_path / "made")
    real = os.preadv

    def preadv(*args: Any) -> int:
        if sample.folder.exists():
            sample.folder.rename(tmp_path / "made" / "gone")
            (tmp_path / "made" / "gone" / "manifest.json").unlink()
        if Path(f"/proc/self/fd/{args[0]}").readlink().is_relative_to(tmp_path / "made"):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return real(*args)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(BundleUnreadable, match="no such device"):
        import_bundle(store, [sample.folder], KEYS)


def test_one_bad_place_on_a_stick_is_no_end(tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails once is tried again; one that fails always is named, and everything else is copied."""
    sample = make_bundle(tmp_path / "made")
    monkeypatch.setattr(os, "preadv", failing(os.preadv, errno.EIO, 3, times=1))
    assert import_bundle(store, [sample.folder], KEYS).is_new
    monkeypatch.undo()
    other = ModelStore(tmp_path / "other")
    real = os.preadv

    def preadv(descriptor: int, buffers: Any, offset: int) -> int:
        if offset == 3 * CHUNK and Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(sample.folder):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(BundleDamaged) as caught:
        import_bundle(other, [sample.folder], KEYS)
    assert caught.value.details["damaged_bytes"] == CHUNK
    monkeypatch.undo()
    seen = read_offsets(monkeypatch, sample.folder)
    assert import_bundle(other, [sample.folder], KEYS).is_new
    assert [offset for _, offset in seen] == [3 * CHUNK]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupt_from_the_keyboard(tmp_path: Path, store: ModelStore, interrupt: type[BaseException]) -> None:
    sample = make_bundle(tmp_path / "made")

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise interrupt

    with pytest.raises(interrupt):
        import_bundle(store, [sample.folder], KEYS, stop)
    assert store.list().models == ()
    seen: list[int] = []
    import_bundle(store, [sample.folder], KEYS, lambda done, _total: seen.append(done))
    assert seen[0] > 4 * CHUNK  # it went on


def test_a_disk_that_loses_what_is_written_is_told(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk is noted as written, and other bytes come back each time."""
    sample = make_bundle(tmp_path / "made")
    real = os.pwrite

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        if len(data) == CHUNK and offset == 2 * CHUNK:
            real(descriptor, bytes(CHUNK), offset)
            return CHUNK
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr("models.bundle.lanes.Digest.feed", lambda *_: None)  # as after a restart: read from the disk
    with pytest.raises(StoreNotWritable, match="other bytes than were written"):
        import_bundle(store, [sample.folder], KEYS)
    assert store.list().models == ()
