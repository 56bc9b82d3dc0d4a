"""Everything hostile or damaged in a bundle is refused, with the store as it was."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle.errors import (
    BundleContradiction,
    BundleDamaged,
    BundleEntryRefused,
    BundleManifestInvalid,
    BundleMismatch,
    BundleStickMissing,
    BundleUnreadable,
)
from models.bundle.receive import (
    ImportOptions,
    import_bundle,
)
from models.errors import TemplateRefused
from models.import_checks import ChatTemplateFacts
from models.model_store import ModelStore
from tests.models.bundle_samples import (
    CHUNK,
    KEY,
    KEYS,
    Sample,
    assert_untouched,
    flip,
    make_bundle,
    reads,
    rewrite,
    unfinished,
)
from tests.models.store_samples import write_set


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_bundle(tmp_path / "made")


@pytest.fixture
def sticks(tmp_path: Path) -> Sample:
    return make_bundle(tmp_path / "made", stick_bytes=600_000)


# --- hostile folders -----------------------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, elsewhere: path.symlink_to(elsewhere),
    "link to nothing": lambda path, _: path.symlink_to("nothing"),
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "socket": lambda path, _: _socket(path),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.gguf", "manifest.json", "manifest.json.minisig"])
def test_only_ordinary_files_are_opened(
    tmp_path: Path, store: ModelStore, sample: Sample, kind: str, name: str
) -> None:
    path = sample.folder / name
    kept = path.rename(tmp_path / "kept")
    KINDS[kind](path, kept)
    with pytest.raises((BundleEntryRefused, BundleUnreadable)):
        import_bundle(store, [sample.folder], KEYS)
    assert_untouched(store)


def test_a_device_is_not_touched(store: ModelStore, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/tty through a mount of ours would need root; what ``stat`` says of it does not."""
    real = os.stat
    device = real("/dev/null")
    opened: list[str] = []
    real_open = os.open

    def stat_(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        return device if path == "model.gguf" else real(path, *args, **kwargs)

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        if kwargs.get("dir_fd") is not None:
            opened.append(str(path))
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat_)
    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(BundleEntryRefused, match="a device"):
        import_bundle(store, [sample.folder], KEYS)
    assert "model.gguf" not in opened


def test_folders_in_a_bundle_are_not_links(tmp_path: Path, store: ModelStore, sample: Sample) -> None:
    rewrite(sample.folder, lambda m: m["files"][0]["parts"][0].update(path="a/b/model.gguf"))
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    sample.payload.rename(outside / "b" / "model.gguf")
    (sample.folder / "a").symlink_to(outside)
    with pytest.raises(BundleEntryRefused):
        import_bundle(store, [sample.folder], KEYS)
    (sample.folder / "a").unlink()
    (sample.folder / "a").write_text("a file")
    with pytest.raises(BundleEntryRefused):
        import_bundle(store, [sample.folder], KEYS)
    (sample.folder / "a").unlink()
    shutil.copytree(outside, sample.folder / "a")
    assert import_bundle(store, [sample.folder], KEYS).is_new


def test_traversal_in_a_signed_manifest(store: ModelStore, sample: Sample) -> None:
    for path in ("../../model.gguf", "/etc/passwd", "a\\b", "x\0y"):
        rewrite(sample.folder, lambda m, path=path: m["files"][0]["parts"][0].update(path=path))  # type: ignore[misc]
        with pytest.raises(BundleManifestInvalid):
            import_bundle(store, [sample.folder], KEYS)
    assert_untouched(store)


def test_a_folder_that_is_none(tmp_path: Path, store: ModelStore) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path / "file", tmp_path):
        with pytest.raises(BundleUnreadable):
            import_bundle(store, [path], KEYS)


def test_two_bundles_on_a_stick(tmp_path: Path, store: ModelStore) -> None:
    for number in (1, 2):
        made = make_bundle(tmp_path / f"made{number}", seed=number)
        shutil.copytree(made.folder, tmp_path / "usb" / f"b{number}")
    with pytest.raises(BundleUnreadable, match=r"several bundles \(b1, b2\)"):
        import_bundle(store, [tmp_path / "usb"], KEYS)
    with pytest.raises(BundleMismatch):
        import_bundle(store, [tmp_path / "usb" / "b1", tmp_path / "usb" / "b2"], KEYS)
    assert import_bundle(store, [tmp_path / "usb" / "b2"], KEYS).is_new


def test_a_bundle_beside_other_things_on_a_stick(tmp_path: Path, store: ModelStore, sample: Sample) -> None:
    usb = tmp_path / "usb"
    (usb / "photos").mkdir(parents=True)
    (usb / "System Volume Information").mkdir()
    sample.folder.rename(usb / "big")
    assert import_bundle(store, [usb], KEYS).is_new


# --- damage --------------------------------------------------------------------------------------------------------


def test_one_flipped_byte_is_named_and_only_its_range_is_read_again(
    store: ModelStore, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(sample.payload, 4 * CHUNK + 1)
    with pytest.raises(BundleDamaged) as caught:
        import_bundle(store, [sample.folder], KEYS)
    assert caught.value.details["ranges"] == [
        f"model.gguf (stick 1) bytes {4 * CHUNK:,} to {5 * CHUNK:,}: they are not those of the manifest"
    ]
    assert caught.value.details["damaged_bytes"] == CHUNK
    assert_untouched(store)
    assert len(unfinished(store)) == 1
    flip(sample.payload, 4 * CHUNK + 1)
    seen = reads(monkeypatch, sample.folder)
    model = import_bundle(store, [sample.folder], KEYS).model
    assert seen == [("model.gguf", 4 * CHUNK)]
    assert model.path.read_bytes() == sample.source.read_bytes()


def test_a_file_cut_short_by_a_bad_copy(store: ModelStore, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample.payload.read_bytes()
    os.truncate(sample.payload, 5 * CHUNK + 100)
    with pytest.raises(BundleDamaged, match="they are not those of the manifest"):
        import_bundle(store, [sample.folder], KEYS)
    sample.payload.write_bytes(whole)
    seen = reads(monkeypatch, sample.folder)
    import_bundle(store, [sample.folder], KEYS)
    assert {offset for _, offset in seen} == {n * CHUNK for n in range(5, -(-len(whole) // CHUNK))}


def test_a_missing_shard_is_named(tmp_path: Path, store: ModelStore) -> None:
    made = make_bundle(tmp_path / "a", source=write_set(tmp_path / "set", 3)[0])
    (made.folder / "model-00002-of-00003.gguf").unlink()
    with pytest.raises(BundleStickMissing) as caught:
        import_bundle(store, [made.folder], KEYS)
    assert caught.value.details["missing_files"] == ["model-00002-of-00003.gguf"]
    assert_untouched(store)


def test_a_second_copy_of_the_stick_helps(tmp_path: Path, store: ModelStore, sample: Sample) -> None:
    shutil.copytree(sample.folder, tmp_path / "copy")
    flip(sample.payload, 9)
    flip(tmp_path / "copy" / "model.gguf", 3 * CHUNK)
    assert import_bundle(store, [sample.folder, tmp_path / "copy"], KEYS).is_new


def test_a_file_that_changes_while_it_is_read(store: ModelStore, sample: Sample) -> None:
    """What is hashed is what is written: bytes that change behind the reader cannot get in."""

    def meddle(done: int, _total: int) -> None:
        if done == CHUNK:
            flip(sample.payload, 6 * CHUNK)
            flip(sample.payload, 0)  # behind: this chunk is in already, as it was signed

    with pytest.raises(BundleDamaged) as caught:
        import_bundle(store, [sample.folder], KEYS, meddle)
    assert len(caught.value.details["ranges"]) == 1  # type: ignore[arg-type]
    assert f"bytes {6 * CHUNK:,}" in caught.value.message
    flip(sample.payload, 6 * CHUNK)
    model = import_bundle(store, [sample.folder], KEYS).model
    assert model.path.read_bytes() == sample.source.read_bytes()


def test_a_staged_file_that_the_disk_spoiled_is_read_again(
    store: ModelStore, sticks: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleStickMissing):
        import_bundle(store, [sticks.folder], KEYS)
    (staged,) = (store.root / ".staging").glob("*/model.gguf")
    flip(staged, CHUNK + 3)
    seen = reads(monkeypatch, sticks.folder)
    model = import_bundle(store, sticks.made.folders, KEYS).model
    assert seen == [("model.gguf.part-001", CHUNK)]
    assert model.path.read_bytes() == sticks.source.read_bytes()


# --- lies ----------------------------------------------------------------------------------------------------------

LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "sha256": lambda m: m["files"][0].update(sha256="0" * 64),
    "architecture": lambda m: m["model"].update(architecture="llama"),
    "parameters": lambda m: m["model"].update(parameters=7),
    "weights": lambda m: [
        m["hardware"].update({k: m["hardware"][k] - 320}) for k in ("weights_bytes", "repeating_bytes")
    ],
    "types": lambda m: m["hardware"].update(matrix_types=["F16"]),
    "layers": lambda m: m["hardware"]["shape"].update(layers=1),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_about_its_files(store: ModelStore, sample: Sample, lie: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        LIES[lie](manifest)
        hardware = manifest["hardware"]
        hardware["largest_layer_bytes"] = hardware["repeating_bytes"]

    rewrite(sample.folder, change)
    with pytest.raises(BundleContradiction):
        import_bundle(store, [sample.folder], KEYS)
    assert_untouched(store)
    assert unfinished(store) == []


def test_the_chat_template_is_rendered_as_in_any_import(store: ModelStore, sample: Sample) -> None:
    class Refusing:
        refusal = "it loops"
        warnings = ()

    seen: list[ChatTemplateFacts] = []

    def check(facts: ChatTemplateFacts) -> Refusing:
        seen.append(facts)
        return Refusing()

    with pytest.raises(TemplateRefused):
        import_bundle(store, [sample.folder], KEYS, options=ImportOptions(check_template=check))
    assert len(seen) == 1
    assert_untouched(store)
    assert unfinished(store) == []


def test_an_unsigned_bundle_is_not_believed_what_only_it_says(store: ModelStore, tmp_path: Path) -> None:
    for key in (None, KEY):
        made = make_bundle(tmp_path / str(key is None), seed=1 if key else 2)
        rewrite(made.folder, lambda m: m["model"].update(profile="r1-0528", variant="R1"), key)
        model = import_bundle(store, [made.folder], KEYS, options=ImportOptions(allow_unsigned=True)).model
        assert (model.profile, model.variant) == (("r1-0528", "R1") if key else (None, None))
