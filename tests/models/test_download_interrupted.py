"""Pulls that are killed, stopped, out of room or started twice: they go on where they were."""

from __future__ import annotations

import errno
import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.download import PullContext
from models.download_errors import (
    HubBusy,
)
from models.errors import ImportRunning, NoSpace
from models.hubs import HubName
from models.model_store import ModelStore
from models.store_journal import ChunkJournal
from tests.fakes.hub import NO_FAULT, FakeHub, Fault, Seen
from tests.models.download_parts import (
    CHUNK_BYTES,
    OPTIONS,
    clean_environment,
    hub_at,
    model_bytes,
    pull_from,
)

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "fixtures" / "tiny_r1" / "gguf"
REPOSITORY = "acme/Tiny-R1-GGUF"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


def tiny_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(TINY.iterdir())} | {"README.md": b"# Tiny"}


# --- killed ----------------------------------------------------------------------------------------------------------

_CHILD = """
import sys
from pathlib import Path
from models.hubs import HubName
from models.model_store import ModelStore
from models.hubs import HubAccess, make_hub
from tests.models.download_parts import pull_from

hub = make_hub(HubAccess(HubName(sys.argv[3]), sys.argv[2]))
print(pull_from(ModelStore(Path(sys.argv[1])), hub, sys.argv[4]).model.sha256)
"""


@pytest.mark.parametrize(("name", "held_from"), [(HubName.HUGGINGFACE, 9), (HubName.MODELSCOPE, 21)])
def test_a_killed_pull_goes_on_where_it_was(fake: FakeHub, tmp_path: Path, name: HubName, held_from: int) -> None:
    """All connections are held at request ``held_from`` and after: what was asked for before has arrived by then."""
    data = model_bytes(tmp_path, 4096)
    fake.add("acme/Dense", {"Dense-Q8_0.gguf": data})
    go_on, held = threading.Event(), threading.Semaphore(0)

    def hold(seen: Seen) -> Fault:
        if seen.server == "storage" and seen.number >= held_from:
            held.release()
            return Fault(hold=go_on)
        return NO_FAULT

    fake.answer = hold
    root = tmp_path / "store"
    command = [sys.executable, "-c", _CHILD, str(root), fake.url, name.value, "acme/Dense"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        for _ in range(OPTIONS.workers):
            assert held.acquire(timeout=60)
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    first = (held_from - 1) * OPTIONS.run_chunks * CHUNK_BYTES  # what was asked for before the hold
    assert sum(seen.sent_bytes for seen in fake.at("storage") if seen.number < held_from) == first
    fake.answer = lambda _seen: NO_FAULT
    go_on.set()
    before = len(fake.at("storage"))

    store = ModelStore(root)
    assert store.list().models == ()
    (unfinished,) = store.usage().unfinished
    assert unfinished.key.startswith("pull acme/Dense/Dense-Q8_0.gguf")
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=120, check=True, text=True)
    assert result.stdout.split() == [hashlib.sha256(data).hexdigest()]
    second = sum(seen.sent_bytes for seen in fake.at("storage")[before:])
    assert len(data) - first <= second <= len(data) - first + OPTIONS.commit_bytes
    (model,) = ModelStore(root).list().models
    assert ModelStore(root).verify(model.id) == model


def test_a_broken_pull_goes_on_from_the_other_hub(fake: FakeHub, store: ModelStore, tmp_path: Path) -> None:
    data = model_bytes(tmp_path, 2048)
    fake.add("acme/Dense", {"Dense-Q8_0.gguf": data})
    fake.answer = lambda seen: Fault(status=503) if seen.server == "storage" and seen.number > 6 else NO_FAULT
    with pytest.raises(HubBusy):
        pull_from(store, hub_at(fake), "acme/Dense")
    arrived = fake.sent_bytes
    assert arrived == 6 * OPTIONS.run_chunks * CHUNK_BYTES
    fake.answer = lambda _seen: NO_FAULT
    model = pull_from(store, hub_at(fake, HubName.MODELSCOPE), "acme/Dense").model
    assert fake.sent_bytes == len(data)
    assert model.path.read_bytes() == data


def test_two_pulls_of_the_same_thing_at_once(fake: FakeHub, store: ModelStore) -> None:
    fake.add(REPOSITORY, tiny_files())
    first_is_on, go_on = threading.Event(), threading.Event()

    def hold(seen: Seen) -> Fault:
        if seen.server == "storage" and seen.number == 1:
            first_is_on.set()
            return Fault(hold=go_on)
        return NO_FAULT

    fake.answer = hold
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(pull_from, store, hub_at(fake), f"{REPOSITORY}:Q8_0")
        assert first_is_on.wait(60)
        with pytest.raises(ImportRunning):
            pull_from(store, hub_at(fake), f"{REPOSITORY}:Q8_0")
        go_on.set()
        assert first.result(60).is_new


def test_a_full_disk_keeps_what_arrived(fake: FakeHub, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add(REPOSITORY, tiny_files())
    write, written = ChunkJournal.write, []

    def full(journal: ChunkJournal, number: int, data: bytes, sha256: str | None = None) -> str:
        if len(written) == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(number)
        return write(journal, number, data, sha256)

    monkeypatch.setattr(ChunkJournal, "write", full)
    with pytest.raises(NoSpace):
        pull_from(store, hub_at(fake), f"{REPOSITORY}:Q8_0")
    monkeypatch.undo()
    clean_environment(monkeypatch)
    (unfinished,) = store.usage().unfinished
    assert unfinished.size_bytes >= 10 * CHUNK_BYTES
    before = fake.sent_bytes
    model = pull_from(store, hub_at(fake), f"{REPOSITORY}:Q8_0").model
    assert fake.sent_bytes - before == model.size_bytes - 10 * CHUNK_BYTES


def test_a_stop_from_the_keyboard_keeps_what_arrived(fake: FakeHub, store: ModelStore) -> None:
    class Impatient:
        def transferring(self, done_bytes: int, total_bytes: int) -> None:
            if done_bytes > total_bytes // 2:
                raise KeyboardInterrupt

        def checking(self, done_bytes: int, total_bytes: int) -> None:
            raise AssertionError

    fake.add(REPOSITORY, tiny_files())
    with pytest.raises(KeyboardInterrupt):
        pull_from(store, hub_at(fake), f"{REPOSITORY}:Q8_0", PullContext(report=Impatient()))
    (unfinished,) = store.usage().unfinished
    assert not unfinished.is_running
    before = fake.sent_bytes
    model = pull_from(store, hub_at(fake), f"{REPOSITORY}:Q8_0").model
    assert fake.sent_bytes - before < model.size_bytes // 2
    assert store.verify(model.id) == model
