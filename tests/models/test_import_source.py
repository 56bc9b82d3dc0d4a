"""What a path is: one model in a folder, several, none; and things that only look like files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.errors import ImportSourceUnreadable, ModelError, ModelFolderUnusable, PickleRefused
from models.hashing import Progress
from models.import_source import MAX_FOLDER_ENTRIES, SourceKind, classify
from models.importer import ImportResult, import_gguf, import_path
from models.model_store import ModelStore
from models.store_types import ModelFormat
from tests.fakes.gguf_writer import write_small
from tests.models.store_samples import write_hub_folder, write_set


def test_a_folder_with_one_gguf(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    write_small(folder / "Alpha-Q8_0.gguf")
    (folder / "README.md").write_text("hello")
    (folder / "config.json").write_text("{}")
    model = import_path(store, folder).model
    assert (model.id, model.source, model.format) == ("alpha-q8_0", "Alpha-Q8_0.gguf", ModelFormat.GGUF)


def test_a_folder_with_one_set(store: ModelStore, tmp_path: Path) -> None:
    write_set(tmp_path / "stick", 3)
    assert len(import_path(store, tmp_path / "stick").model.files) == 3


def test_a_folder_with_several_models_is_refused_and_they_are_named(store: ModelStore, tmp_path: Path) -> None:
    write_set(tmp_path, 3)
    write_small(tmp_path / "Alpha.gguf")
    with pytest.raises(ModelFolderUnusable, match="2 models") as caught:
        import_path(store, tmp_path)
    assert "Alpha.gguf" in caught.value.message
    assert "Big-R1-00001-of-00003.gguf" in caught.value.message
    folder = write_hub_folder(tmp_path / "hub")
    write_small(folder / "Beta.gguf")
    with pytest.raises(ModelFolderUnusable, match="2 models"):
        import_path(store, folder)


def test_a_folder_without_a_model_says_where_one_is(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "Q8_0").mkdir()
    write_small(tmp_path / "Q8_0" / "Alpha.gguf")
    with pytest.raises(ModelFolderUnusable, match="neither") as caught:
        import_path(store, tmp_path)
    assert "Q8_0" in (caught.value.hint or "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFolderUnusable, match="folder"):
        import_path(store, tmp_path / "empty")


def test_pickles_alone_are_refused_with_the_reason(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(PickleRefused, match="can run code"):
        import_path(store, tmp_path)


def test_a_bundle_goes_to_its_own_import(store: ModelStore, tmp_path: Path) -> None:
    write_small(tmp_path / "Alpha.gguf")
    (tmp_path / "manifest.json").write_text("{}")
    assert classify(tmp_path)[0] is SourceKind.GGUF
    (tmp_path / "manifest.json.minisig").write_text("x")
    with pytest.raises(ModelFolderUnusable, match="bundle"):
        import_path(store, tmp_path)
    asked: list[Path] = []

    def take(into: ModelStore, folder: Path, progress: Progress) -> ImportResult:
        asked.append(folder)
        return import_gguf(into, folder / "Alpha.gguf", progress)

    assert import_path(store, tmp_path, import_bundle=take).is_new
    assert asked == [tmp_path]


def test_what_is_no_file_is_refused_at_once(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fifo = folder / "pipe.gguf"
    os.mkfifo(fifo)
    for path in (fifo, folder, Path("/dev/null"), Path("/dev/zero"), tmp_path / "none", tmp_path / "a\0b"):
        with pytest.raises(ImportSourceUnreadable):
            import_path(store, path)
    fifo.unlink()
    (folder / "dangling.gguf").symlink_to(tmp_path / "none")
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(ImportSourceUnreadable):
        import_path(store, folder / "loop")
    with pytest.raises(ImportSourceUnreadable):
        import_path(store, folder)


def test_a_link_in_a_folder_is_refused_and_a_named_one_is_followed(store: ModelStore, tmp_path: Path) -> None:
    secret = write_small(tmp_path / "secret.gguf")
    folder = tmp_path / "stick"
    folder.mkdir()
    link = folder / "Alpha.gguf"
    link.symlink_to(secret)
    with pytest.raises(ImportSourceUnreadable, match="link"):
        import_path(store, folder)
    assert import_path(store, link).is_new


@pytest.mark.parametrize("outside", [False, True])
def test_a_hubs_cache_keeps_links_to_its_own_blobs(store: ModelStore, tmp_path: Path, outside: bool) -> None:
    repository = tmp_path / "models--somebody--Some-R1"
    snapshot = repository / "snapshots" / "abc"
    blobs = tmp_path / "blobs" if outside else repository / "blobs"
    blobs.mkdir(parents=True)
    plain = write_hub_folder(tmp_path / "plain")
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(plain.iterdir())):
        blob = file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    if outside:
        with pytest.raises(ImportSourceUnreadable, match="link"):
            import_path(store, snapshot)
    else:
        model = import_path(store, snapshot).model
        assert store.verify(model.id) == model
        assert not any(f.path.is_symlink() for f in model.files)


def test_a_folder_without_end_is_refused(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.import_source.MAX_FOLDER_ENTRIES", 20)
    assert MAX_FOLDER_ENTRIES > 1000
    for number in range(21):
        (tmp_path / f"{number}.gguf").touch()
    with pytest.raises(ModelFolderUnusable, match="more than 20"):
        import_path(store, tmp_path)


@pytest.mark.parametrize("name", ["\x1b[2J.gguf", "a\nb.gguf", "‮evil.gguf", "深度.gguf", "-rf.gguf", "a b.gguf"])
def test_odd_names_are_taken_without_harm(store: ModelStore, tmp_path: Path, name: str) -> None:
    model = import_path(store, write_small(tmp_path / name)).model
    assert model.path.name == "model.gguf"
    assert model.name.isprintable()
    assert model.source.isprintable()


def test_errors_are_typed(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        import_path(ModelStore(tmp_path / "s"), tmp_path)
    assert caught.value.hint
