"""Imports that go on after a crash, and what opening the store does with those that do not."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from models.errors import ImportRunning, StoreNotWritable
from models.importer import import_gguf
from models.model_store import ModelStore
from models.store_manifest import FileEntry, Manifest, encode
from models.store_staging import EXPIRY_S, Staging
from models.store_types import Provenance
from tests.fakes.gguf_writer import write_small

ROOT = Path(__file__).parents[2]
KEY = "hub:somebody/Some-R1@abc/Q8_0"
BYTES = b"weights" * 1000


def manifest(*names: str, model_id: str = "some-r1-q8_0", data: bytes = BYTES) -> Manifest:
    return Manifest(
        id=model_id,
        name="Some R1",
        architecture="qwen2",
        quantization="Q8_0",
        parameters=1,
        context_length_trained=4096,
        has_chat_template=True,
        imported_at="2026-01-01T00:00:00+00:00",
        files=tuple(FileEntry(name, len(data), sha256(data).hexdigest()) for name in names),
        provenance=Provenance("hub", "Some-R1", "somebody/Some-R1", "abc"),
    )


def staged(store: ModelStore) -> list[str]:
    return sorted(p.name for p in (store.root / ".staging").iterdir())


def test_an_interrupted_import_goes_on_in_the_same_folder(store: ModelStore) -> None:
    def begin() -> None:
        with store.resumable(KEY) as staging:
            staging.path("model.gguf").write_bytes(BYTES[:10])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    again = ModelStore(store.root)
    assert [(u.key, u.is_running) for u in again.usage().unfinished] == [(KEY, False)]
    with again.resumable(KEY) as staging:
        assert staging.path("model.gguf").read_bytes() == BYTES[:10]
        assert again.usage().unfinished[0].is_running
        staging.path("model.gguf").write_bytes(BYTES)
        model, is_new = again.publish(staging, manifest("model.gguf"))
    assert is_new
    assert model.provenance == Provenance("hub", "Some-R1", "somebody/Some-R1", "abc")
    assert staged(store) == []
    assert {p.name for p in (store.root / model.id).iterdir()} == {"manifest.json", "model.gguf"}


def test_other_keys_other_folders_and_a_used_one_is_refused(store: ModelStore) -> None:
    with store.resumable(KEY) as one, store.resumable(KEY + "2") as two:
        assert one.folder != two.folder
        with pytest.raises(ImportRunning, match="already running"), ModelStore(store.root).resumable(KEY):
            pytest.fail("two at once")
    with store.resumable(KEY):
        pass
    for key in ("", "x" * 5000):
        with pytest.raises(ValueError, match="key"), store.resumable(key):
            pass


def test_another_process_is_refused_too(store: ModelStore) -> None:
    child = (
        "import sys; from pathlib import Path; from models.model_store import ModelStore\n"
        "from models.errors import ImportRunning\n"
        "try:\n"
        "    with ModelStore(Path(sys.argv[1])).resumable(sys.argv[2]): print('taken')\n"
        "except ImportRunning as error: print(error.code)\n"
    )

    def run() -> str:
        command = [sys.executable, "-c", child, str(store.root), KEY]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    with store.resumable(KEY):
        assert run() == "import_running"
    assert run() == "taken"


def test_discard_throws_away(store: ModelStore) -> None:
    with store.resumable(KEY) as staging:
        staging.path("model.gguf").write_bytes(BYTES)
        staging.discard()
    assert staged(store) == []


def test_unfinished_imports_expire_after_two_weeks_without_work(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with ModelStore(root).resumable(KEY) as staging:
        last = (staging.folder / ".lock").stat().st_mtime
    assert len(staged(ModelStore(root, clock=lambda: last + EXPIRY_S - 1))) == 1
    assert staged(ModelStore(root, clock=lambda: last + EXPIRY_S + 1)) == []


def test_working_on_it_puts_the_expiry_off_and_a_running_one_never_expires(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with ModelStore(root).resumable(KEY) as staging:
        os.utime(staging.folder / ".lock", (1, 1))
        assert len(staged(ModelStore(root))) == 1
        staging.touch()
        last = (staging.folder / ".lock").stat().st_mtime
    assert len(staged(ModelStore(root, clock=lambda: last + 5))) == 1


def test_a_clock_that_was_set_back_does_not_keep_an_import_for_ever(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with ModelStore(root).resumable(KEY) as staging:
        os.utime(staging.folder / ".lock", (9e9, 9e9))
    assert len(staged(ModelStore(root, clock=lambda: 1e9))) == 1
    assert staged(ModelStore(root, clock=lambda: 1e9 + EXPIRY_S + 1)) == []


@pytest.mark.parametrize("key_file", [None, b"", b"{\xff", b'{"key": "another"}', b'{"key": 5}'])
def test_a_folder_that_only_looks_resumable_goes(store: ModelStore, key_file: bytes | None) -> None:
    with store.resumable(KEY) as staging:
        folder = staging.folder
    if key_file is None:
        (folder / ".key.json").unlink()
    else:
        (folder / ".key.json").write_bytes(key_file)
    ModelStore(store.root)
    assert staged(store) == []


def complete_but_unpublished(store: ModelStore) -> Path:
    """As after a power cut between the manifest and the rename."""
    with store.resumable(KEY) as staging:
        staging.path("model.gguf").write_bytes(BYTES)
        (staging.folder / ".journal").mkdir()
        (staging.folder / "manifest.json").write_bytes(encode(manifest("model.gguf")))
    return staging.folder


def test_opening_finishes_what_was_complete(store: ModelStore) -> None:
    complete_but_unpublished(store)
    again = ModelStore(store.root)
    assert [m.id for m in again.list().models] == ["some-r1-q8_0"]
    assert again.default_id() == "some-r1-q8_0"
    assert {p.name for p in (store.root / "some-r1-q8_0").iterdir()} == {"manifest.json", "model.gguf"}
    assert staged(store) == []
    assert again.verify("some-r1-q8_0").sha256 == sha256(BYTES).hexdigest()


def test_opening_does_not_finish_a_running_import(store: ModelStore) -> None:
    complete_but_unpublished(store)
    with store.resumable(KEY):
        assert ModelStore(store.root).list().models == ()


def test_a_disk_that_is_full_at_opening_puts_the_finish_off(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    complete_but_unpublished(store)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    ModelStore(store.root)
    monkeypatch.undo()
    assert [m.id for m in ModelStore(store.root).list().models] == ["some-r1-q8_0"]


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "link"])
def test_what_is_not_complete_after_all_is_cleaned(store: ModelStore, damage: str) -> None:
    folder = complete_but_unpublished(store)
    if damage == "cut":
        os.truncate(folder / "model.gguf", 5)
    elif damage == "manifest":
        (folder / "manifest.json").write_bytes(b"{")
    else:
        (folder / "model.gguf").unlink()
        if damage == "link":
            (folder / "model.gguf").symlink_to("/etc/hostname")
    again = ModelStore(store.root)
    assert again.list() == type(again.list())((), ())
    assert staged(store) == []


def test_a_model_that_was_being_removed_does_not_come_back(store: ModelStore, tmp_path: Path) -> None:
    model = import_gguf(store, write_small(tmp_path / "Alpha.gguf")).model
    (store.root / model.id).rename(store.root / ".staging" / "0123456789abcdef-removed")
    again = ModelStore(store.root)
    assert again.list().models == ()
    assert staged(store) == []


def test_publishing_the_same_content_again_keeps_what_is_there(store: ModelStore) -> None:
    for number in range(2):
        with store.resumable(f"{KEY}{number}") as staging:
            staging.path("model.gguf").write_bytes(BYTES)
            model, is_new = store.publish(staging, manifest("model.gguf", model_id=f"m{number}"))
            assert (model.id, is_new) == ("m0", number == 0)
    assert staged(store) == []


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "", ".hidden", "manifest.json", "a\nb", "x" * 300, "-rf", "ü"]
)
def test_names_that_could_leave_the_folder_are_refused(store: ModelStore, name: str) -> None:
    with store.staging() as staging:
        with pytest.raises(ValueError, match="no name"):
            staging.path(name)
        with pytest.raises(ValueError, match="no name"):
            store.publish(staging, manifest(name))


def write_none(_staging: Staging) -> None:
    """Leaves the manifest's file out."""


def write_short(staging: Staging) -> None:
    staging.path("model.gguf").write_bytes(BYTES[:-1])


def write_link(staging: Staging) -> None:
    staging.path("model.gguf").symlink_to("/etc/hostname")


@pytest.mark.parametrize("write", [write_none, write_short, write_link])
def test_only_the_manifests_files_are_published(store: ModelStore, write: object) -> None:
    assert callable(write)
    with store.staging() as staging:
        write(staging)
        with pytest.raises((ValueError, StoreNotWritable)):
            store.publish(staging, manifest("model.gguf"))
    assert store.list().models == ()


def test_other_files_do_not_come_along(store: ModelStore) -> None:
    with store.staging() as staging:
        staging.path("model.gguf").write_bytes(BYTES)
        staging.path("notes.txt").write_text("left over")
        (staging.folder / "sub").mkdir()
        (staging.folder / "link").symlink_to("/etc")
        model, _ = store.publish(staging, manifest("model.gguf"))
    assert {p.name for p in (store.root / model.id).iterdir()} == {"manifest.json", "model.gguf"}
    assert Path("/etc").is_dir()


def test_adopt_takes_good_bytes_only(store: ModelStore, tmp_path: Path) -> None:
    model = import_gguf(store, write_small(tmp_path / "Alpha.gguf")).model
    with store.staging() as staging:
        assert not store.adopt(staging, "model.gguf", model.size_bytes, "0" * 64)
        assert not store.adopt(staging, "model.gguf", 5, model.sha256)
        assert store.adopt(staging, "model.gguf", model.size_bytes, model.sha256)
        assert staging.path("model.gguf").samefile(model.path)
        assert store.adopt(staging, "model.gguf", model.size_bytes, model.sha256), "again is no error"
        with model.path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x07")
        assert not store.adopt(staging, "other.gguf", model.size_bytes, model.sha256)


def test_a_journal_never_writes_to_a_file_that_was_adopted(store: ModelStore, tmp_path: Path) -> None:
    model = import_gguf(store, write_small(tmp_path / "Alpha.gguf")).model
    for _ in range(2):
        with store.resumable(KEY) as staging:
            assert store.adopt(staging, "model.gguf", model.size_bytes, model.sha256)
            with staging.journal("model.gguf", model.size_bytes, 1024) as journal:
                assert journal.missing() == list(range(journal.count))
                journal.write(0, b"\xff" * 1024)
        assert store.verify(model.id) == model


def test_verify_says_which_bytes_where_chunks_are_known(store: ModelStore) -> None:
    data = bytes(range(250)) * 40  # 10,000 bytes, chunks of 1,000
    chunks = tuple(sha256(data[n : n + 1000]).hexdigest() for n in range(0, len(data), 1000))
    entry = FileEntry("model.gguf", len(data), sha256(data).hexdigest(), 1000, chunks)
    with store.staging() as staging:
        staging.path("model.gguf").write_bytes(data)
        wanted = manifest("model.gguf", data=data)
        model, _ = store.publish(staging, type(wanted)(**{**_fields(wanted), "files": (entry,)}))
    assert model.files[0].chunks == chunks
    with model.path.open("r+b") as file:
        for offset in (2500, 3001, 9999):
            file.seek(offset)
            file.write(b"\xff")
    (result,) = store.verify_all()
    assert result.problems == ("model.gguf: its bytes have changed (bytes 2,000 to 4,000, 9,000 to 10,000)",)


def _fields(of: Manifest) -> dict[str, object]:
    return {name: getattr(of, name) for name in of.__struct_fields__}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": []}, "0 files"),
        ({"files": [{"name": "a", "size_bytes": 1, "sha256": "0" * 64}] * 2}, "twice"),
        ({"files": [{"name": "../a", "size_bytes": 1, "sha256": "0" * 64}]}, "no name"),
        ({"files": [{"name": "a", "size_bytes": -1, "sha256": "0" * 64}]}, "size or sha256"),
        ({"files": [{"name": "a", "size_bytes": 1, "sha256": "0" * 63}]}, "size or sha256"),
        (
            {"files": [{"name": "a", "size_bytes": 9, "sha256": "0" * 64, "chunk_bytes": 4, "chunks": ["0" * 64]}]},
            "do not make up",
        ),
        ({"files": [{"name": "a", "size_bytes": 9, "sha256": "0" * 64, "chunks": ["0" * 64]}]}, "do not make up"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_damage(store: ModelStore, change: dict[str, object], said: str) -> None:
    folder = store.root / "some-r1-q8_0"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(json.loads(encode(manifest("a"))) | change))
    (damaged,) = store.list().damaged
    assert said in damaged.problem


def test_values_of_a_later_version_are_unknown_not_damage(store: ModelStore) -> None:
    with store.staging() as staging:
        staging.path("model.gguf").write_bytes(BYTES)
        model, _ = store.publish(staging, manifest("model.gguf"))
    path = store.root / model.id / "manifest.json"
    later = {"profile": "r1-2027", "recognised_by": "smell", "licence": {"name": "MIT", "url": "x"}, "new": [1]}
    path.write_text(json.dumps(json.loads(path.read_text()) | later))
    again = store.get(model.id)
    assert (again.profile, again.recognised_by) == (None, None)
    assert again.licence is not None
    assert again.licence.name == "MIT"
