"""Files with the same bytes lie on the disk once, whatever happens to the models that share them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from models.errors import ModelDamaged, StoreNotWritable
from models.importer import import_path
from models.model_store import ModelStore
from tests.fakes.gguf_writer import write_small
from tests.models.store_samples import write_hub_folder, write_set


def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two models that differ in config.json alone."""
    one = write_hub_folder(tmp_path / "one")
    return one, write_hub_folder(tmp_path / "two", config={"max_position_embeddings": 8192})


def test_shared_files_are_one_on_the_disk_and_survive_a_removal(store: ModelStore, tmp_path: Path) -> None:
    first, second = (import_path(store, folder).model for folder in two_folders(tmp_path))
    assert first.sha256 != second.sha256
    shared = [f.name for f in first.files if f.path.samefile(store.root / second.id / f.name)]
    assert sorted(shared) == sorted({f.name for f in first.files} - {"config.json"})
    usage = store.usage()
    assert usage.saved_bytes == sum(f.size_bytes for f in first.files if f.name in shared)
    store.remove(second.id)
    assert store.verify(first.id) == first
    assert store.usage().saved_bytes == 0


def test_shared_files_are_verified_once_and_damage_is_named_in_both(store: ModelStore, tmp_path: Path) -> None:
    first, second = (import_path(store, folder).model for folder in two_folders(tmp_path))
    name = "model-00001-of-000002.safetensors"
    with (store.root / first.id / name).open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\0\0\0")
    total = first.size_bytes + second.files[0].size_bytes
    seen: list[tuple[int, int]] = []
    results = store.verify_all(lambda done, size: seen.append((done, size)))
    assert [r.problems for r in results] == [(f"{name}: its bytes have changed",)] * 2
    assert seen[-1] == (total, total)


def test_damage_does_not_spread_to_a_new_import(store: ModelStore, tmp_path: Path) -> None:
    one, two = two_folders(tmp_path)
    first = import_path(store, one).model
    name = "model-00001-of-000002.safetensors"
    with (store.root / first.id / name).open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\0\0\0")
    second = import_path(store, two).model
    assert store.verify(second.id) == second
    assert not (store.root / first.id / name).samefile(store.root / second.id / name)
    with pytest.raises(ModelDamaged, match=name):
        store.verify(first.id)


def test_importing_again_mends_a_damaged_model(store: ModelStore, tmp_path: Path) -> None:
    part = write_set(tmp_path / "set", 3)[1]
    model = import_path(store, part).model
    with model.files[2].path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ModelDamaged, match="model-00003-of-00003"):
        store.verify(model.id)
    again = import_path(store, part)
    assert again.is_new
    assert again.model.id == model.id
    assert store.verify(model.id).sha256 == model.sha256
    assert [m.id for m in store.list().models] == [model.id]
    assert store.default_id() == model.id


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_without_hard_links_files_are_copied(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    models = [import_path(store, folder).model for folder in two_folders(tmp_path)]
    assert all(store.verify(model.id) == model for model in models)
    assert store.usage().saved_bytes == 0
    assert not import_path(store, tmp_path / "one").is_new


def test_the_same_set_again_copies_nothing(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path / "set", 3)
    first = import_path(store, parts[0])
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for part in parts:
        part.rename(renamed / part.name.replace("Big-R1", "Other-Name"))
    inodes = {f.path.stat().st_ino for f in first.model.files}
    again = import_path(store, renamed)
    assert not again.is_new
    assert again.model == first.model
    assert {f.path.stat().st_ino for f in again.model.files} == inodes
    assert list((store.root / ".staging").iterdir()) == []


def test_a_mending_that_fails_leaves_the_damaged_model(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_small(tmp_path / "Alpha.gguf", seed=3)
    model = import_path(store, source).model
    with model.path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x09")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if target == store.root / model.id and not path.name.endswith("-removed"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreNotWritable):
        import_path(store, source)
    monkeypatch.undo()
    assert store.get(model.id) == model
    assert list((store.root / ".staging").iterdir()) == []
    assert import_path(ModelStore(store.root), source).is_new
    assert store.verify(model.id).sha256 == model.sha256
