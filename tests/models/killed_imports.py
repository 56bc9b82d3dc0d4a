"""Real child processes that import and are killed with SIGKILL at chosen points; what must hold afterwards."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from models.model_store import ModelStore

ROOT = Path(__file__).parents[2]
KEY = "bundle:b1"
CHUNK_BYTES = 64 * 1024

_IMPORT = """
import os, resource, sys
from pathlib import Path
from models.errors import ModelError
from models.importer import import_path
from models.model_store import ModelStore

root, source, limit, wait = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "wait"

def tell_and_wait(done, total):
    if wait:
        os.write(1, b"x")
        os.read(0, 1)

store = ModelStore(root)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    model = import_path(store, source, tell_and_wait).model
    os.write(1, b"m")
except ModelError as error:
    os.write(1, f"{error.code}: {error}".encode())
"""

_RESUME = """
import hashlib, os, sys
from pathlib import Path
from models.hashing import sha256_of
from models.model_store import ModelStore
from models.store_manifest import FileEntry, Manifest
from models.types import Provenance

root, source, key, chunk_bytes = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
data = source.read_bytes()
store = ModelStore(root)
with store.resumable(key) as staging:
    with staging.journal("model.gguf", len(data), chunk_bytes) as journal:
        for number in journal.missing():
            offset, length = journal.span(number)
            piece = data[offset : offset + length]
            journal.write(number, piece, hashlib.sha256(piece).hexdigest())
            if number % 4 == 3:
                journal.commit()
            os.write(1, b"x")
            os.read(0, 1)
        journal.commit()
        chunks = journal.hashes()
    entry = FileEntry("model.gguf", len(data), sha256_of(staging.path("model.gguf")), chunk_bytes, chunks)
    os.write(1, b"x")
    os.read(0, 1)
    store.publish(staging, Manifest(
        id="resumed-q8_0", name="Resumed", architecture="qwen2", quantization="Q8_0", parameters=1,
        context_length_trained=4096, has_chat_template=True, imported_at="2026-01-01T00:00:00+00:00",
        files=(entry,), provenance=Provenance("bundle", "b1", bundle="b1"),
    ))
"""


def import_command(root: Path, source: Path, *, limit_bytes: int = 0, wait: bool = True) -> list[str]:
    """A child that imports; with ``wait`` it writes an ``x`` at every block and waits for a byte; ``limit_bytes`` is
    the largest file it may write."""
    return [sys.executable, "-c", _IMPORT, str(root), str(source), str(limit_bytes), "wait" if wait else "run"]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def let_go_on(child: subprocess.Popen[bytes], steps: int) -> None:
    """Lets the child do ``steps`` of its waits, or as many as it has."""
    assert child.stdin is not None
    assert child.stdout is not None
    for _ in range(steps):
        if child.stdout.read(1) != b"x":
            return
        child.stdin.write(b"g")
        child.stdin.flush()


def kill(child: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kills the child somewhere in what follows its last wait."""
    for _ in range(chance.choice((0, 10, 1000, 100_000, 400_000, 1_000_000, 3_000_000))):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait(30)


def kill_imports(root: Path, source: Path, rounds: int, most_steps: int, seed: int) -> int:
    """Plain imports, killed ``rounds`` times; the store is clean after each. Returns how many had ended before."""
    chance = random.Random(seed)
    ended = 0
    for number in range(rounds):
        with start(import_command(root, source)) as child:
            let_go_on(child, chance.randint(1, most_steps))
            kill(child, chance)
        store = ModelStore(root)
        listing = store.list()
        assert listing.damaged == (), number
        assert list((root / ".staging").iterdir()) == [], number
        if listing.models:
            ended += 1
            (model,) = listing.models
            assert store.verify(model.id) == model, number
            store.remove(model.id, force=True)
    return ended


def kill_resumes(root: Path, source: Path, rounds: int, most_steps: int, seed: int) -> int:
    """Resumable imports, killed ``rounds`` times: what the journal says is true, nothing committed is lost, a model
    that appears is whole. Returns how many models were completed."""
    data = source.read_bytes()
    chance = random.Random(seed)
    completed = 0
    committed = 0
    for number in range(rounds):
        with start([sys.executable, "-c", _RESUME, str(root), str(source), KEY, str(CHUNK_BYTES)]) as child:
            let_go_on(child, chance.randint(1, most_steps))
            kill(child, chance)
        store = ModelStore(root)
        listing = store.list()
        assert listing.damaged == (), number
        if listing.models:
            (model,) = listing.models
            assert model.sha256 == sha256(data).hexdigest(), number
            assert store.verify(model.id) == model, number
            assert list((root / ".staging").iterdir()) == [], number
            store.remove(model.id, force=True)
            completed += 1
            committed = 0
            continue
        with store.resumable(KEY) as staging, staging.journal("model.gguf", len(data), CHUNK_BYTES) as journal:
            assert journal.recheck() == [], number
            assert journal.done_bytes >= committed, number
            committed = journal.done_bytes
    return completed
