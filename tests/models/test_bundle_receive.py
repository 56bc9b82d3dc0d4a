"""Bundles are imported whole and from trusted hands, over any number of sticks, and never what the box has already."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from models.bundle.errors import (
    BundleDoesNotFit,
    BundleError,
    BundleKeyUnknown,
    BundleManifestInvalid,
    BundleSignatureInvalid,
    BundleStickMissing,
    BundleUnsigned,
)
from models.bundle.judge import Judgement
from models.bundle.receive import (
    UNSIGNED_WARNING,
    ImportOptions,
    StickRequest,
    UntrustedImport,
    import_bundle,
)
from models.bundle.trust import TrustedKeys
from models.errors import ImportRunning, NoSpace
from models.importer import import_gguf
from models.model_store import ModelStore
from models.types import EngineName
from tests.models.bundle_samples import (
    CHUNK,
    KEY,
    KEYS,
    NOBODY,
    OTHER_KEY,
    Sample,
    assert_untouched,
    flip,
    make_bundle,
    reads,
    rewrite,
    unfinished,
)
from tests.models.store_samples import write_hub_folder, write_set


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_bundle(tmp_path / "made")


@pytest.fixture
def sticks(tmp_path: Path) -> Sample:
    return make_bundle(tmp_path / "made", stick_bytes=600_000)


# --- what is good --------------------------------------------------------------------------------------------------


def test_a_signed_bundle(store: ModelStore, sample: Sample) -> None:
    seen: list[tuple[int, int]] = []
    result = import_bundle(store, [sample.folder], KEYS, lambda done, total: seen.append((done, total)))
    model = result.model
    assert result.is_new
    assert model.id == "big-r1-q8_0"
    assert model.path.read_bytes() == sample.source.read_bytes()
    assert UNSIGNED_WARNING not in model.warnings
    assert model.provenance is not None
    assert (model.provenance.kind, model.provenance.bundle) == ("bundle", "big-r1-q8_0")
    assert model.files[0].chunk_bytes == CHUNK
    assert model.files[0].chunks == sample.made.manifest.files[0].chunks
    assert seen[-1] == (model.size_bytes, model.size_bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert store.verify(model.id) == model
    assert unfinished(store) == []
    assert list((store.root / ".staging").iterdir()) == []


def test_the_same_model_by_hand_and_by_bundle_are_one(store: ModelStore, sample: Sample) -> None:
    by_hand = import_gguf(store, sample.source).model
    result = import_bundle(store, [sample.folder], KEYS)
    assert not result.is_new
    assert result.model == by_hand


def test_sets_and_folders(tmp_path: Path, store: ModelStore) -> None:
    split = make_bundle(tmp_path / "a", source=write_set(tmp_path / "set", 3)[2])
    model = import_bundle(store, [split.folder], KEYS).model
    assert [f.name for f in model.files] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    folder = make_bundle(tmp_path / "b", source=write_hub_folder(tmp_path / "R1-Hub"))
    model = import_bundle(store, [folder.folder], KEYS).model
    assert model.format == "safetensors"
    assert model.path.name == "config.json"
    assert store.verify_all()[0].problems == ()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 0, 1, 2, 1)])
def test_sticks_in_any_order(store: ModelStore, sticks: Sample, order: tuple[int, ...]) -> None:
    model = import_bundle(store, [sticks.made.folders[n] for n in order], KEYS).model
    assert model.path.read_bytes() == sticks.source.read_bytes()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_one_stick_after_the_other_on_separate_days(
    store: ModelStore, sticks: Sample, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    seen = reads(monkeypatch, sticks.folder.parent)
    for number in order[:2]:
        with pytest.raises(BundleStickMissing) as caught:
            import_bundle(store, [sticks.made.folders[number]], KEYS)
        assert len(unfinished(store)) == 1
        assert_untouched(store)
    assert caught.value.details["sticks"] == [sticks.made.manifest.stick_name(order[2] + 1)]
    assert caught.value.details["missing_files"] == [f"model.gguf.part-00{order[2] + 1}"]
    model = import_bundle(store, [sticks.made.folders[order[2]]], KEYS).model
    assert model.path.read_bytes() == sticks.source.read_bytes()
    assert len(seen) == len(set(seen)) == len(model.files[0].chunks)  # every chunk was read once


def test_the_next_stick_is_asked_for_by_name(tmp_path: Path, store: ModelStore, sticks: Sample) -> None:
    other = make_bundle(tmp_path / "other", seed=5)
    empty = tmp_path / "empty"
    empty.mkdir()
    answers = [other.folder, empty, tmp_path / "none", *sticks.made.folders]
    asked: list[StickRequest] = []

    def next_stick(request: StickRequest) -> Path | None:
        asked.append(request)
        return answers.pop(0)

    result = import_bundle(store, [sticks.folder], KEYS, options=ImportOptions(next_stick=next_stick))
    assert result.is_new
    name = "big-r1-q8_0"
    assert [r.name for r in asked] == [f"stick 2 of 3 ({name}-2)"] * 5 + [f"stick 3 of 3 ({name}-3)"]
    assert asked[0].problem is None
    mixed = f"{other.folder} holds the same bundle, but made or signed at another time; it does not belong to the other"
    assert [str(r.problem) for r in asked[1:5]] == [
        f"{mixed} folders, which are {name}",
        f"The bundle in {empty} cannot be read: there is no manifest.json in it",
        f"The bundle in {tmp_path / 'none'} cannot be read: no such file or directory",
        f"{sticks.folder} has none of the files that are missing",
    ]
    assert asked[0].files == ("model.gguf.part-002",)
    assert answers == []


def test_the_second_stick_first_and_the_others_by_asking(store: ModelStore, sticks: Sample) -> None:
    """The first chunks come last: what is hashed of the whole file must not run ahead."""
    answers = [sticks.made.folders[2], sticks.made.folders[0]]
    options = ImportOptions(next_stick=lambda _request: answers.pop(0))
    model = import_bundle(store, [sticks.made.folders[1]], KEYS, options=options).model
    assert model.path.read_bytes() == sticks.source.read_bytes()


def test_nobody_answers(store: ModelStore, sticks: Sample) -> None:
    with pytest.raises(BundleStickMissing):
        import_bundle(store, [sticks.folder], KEYS, options=ImportOptions(next_stick=lambda _request: None))
    assert len(unfinished(store)) == 1


def test_files_of_the_store_are_linked_and_not_read(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders of safetensors that share one file of weights."""
    one = write_hub_folder(tmp_path / "One")
    two = tmp_path / "Two"
    shutil.copytree(one, two)
    flip(two / "model-00002-of-000002.safetensors", -1 % (two / "model-00002-of-000002.safetensors").stat().st_size)
    import_bundle(store, [make_bundle(tmp_path / "a", source=one).folder], KEYS)
    second = make_bundle(tmp_path / "b", source=two)
    seen = reads(monkeypatch, tmp_path / "b")
    model = import_bundle(store, [second.folder], KEYS).model
    assert {name for name, _ in seen} == {"model-00002-of-000002.safetensors"}
    assert next(f for f in model.files if f.name.startswith("model-00001")).path.stat().st_nlink == 2
    assert store.verify(model.id)


def test_a_damaged_model_is_repaired_by_its_bad_chunks_alone(
    store: ModelStore, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = import_bundle(store, [sample.folder], KEYS).model
    flip(model.path, 2 * CHUNK + 7)
    seen = reads(monkeypatch, sample.folder)
    result = import_bundle(store, [sample.folder], KEYS)
    assert result.model.id == model.id
    assert seen == [("model.gguf", 2 * CHUNK)]
    assert store.verify(model.id)
    assert [m.id for m in store.list().models] == [model.id]


def test_pieces_of_other_models_are_not_read_from_the_stick(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_bundle(tmp_path / "a")
    import_bundle(store, [first.folder], KEYS)
    changed = tmp_path / "Other-R1-Q8_0.gguf"
    shutil.copy(first.source, changed)
    flip(changed, 6 * CHUNK + 1)
    second = make_bundle(tmp_path / "b", source=changed)
    seen = reads(monkeypatch, tmp_path / "b")
    model = import_bundle(store, [second.folder], KEYS).model
    assert seen == [("model.gguf", 6 * CHUNK)]
    assert model.path.read_bytes() == changed.read_bytes()
    assert len(store.list().models) == 2


# --- who signed it -------------------------------------------------------------------------------------------------


def test_unsigned_and_unknown_keys_need_the_flag_and_are_recorded(tmp_path: Path, store: ModelStore) -> None:
    records: list[UntrustedImport] = []
    for key, error in ((None, BundleUnsigned), (OTHER_KEY, BundleKeyUnknown)):
        made = make_bundle(tmp_path / str(error.__name__), key=key, seed=1 if key else 0)
        with pytest.raises(error):
            import_bundle(store, [made.folder], KEYS, options=ImportOptions(audit=records.append))
        assert records == []
        assert unfinished(store) == []
        options = ImportOptions(allow_unsigned=True, audit=records.append)
        model = import_bundle(store, [made.folder], KEYS, options=options).model
        assert UNSIGNED_WARNING in model.warnings
        record = records.pop()
        assert record.bundle == made.made.manifest.id
        assert record.key_id == (key.id if key else None)
        assert record.content_sha256 == made.made.manifest.content_sha256
        assert len(record.manifest_sha256) == 64
        assert record.path == str(made.folder)


def test_nothing_is_recorded_of_a_trusted_one(store: ModelStore, sample: Sample) -> None:
    options = ImportOptions(allow_unsigned=True, audit=lambda _record: pytest.fail("recorded"))
    assert import_bundle(store, [sample.folder], KEYS, options=options).is_new


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("file", ["manifest.json", "manifest.json.minisig"])
def test_no_flipped_byte_passes(store: ModelStore, sample: Sample, file: str, allow: bool) -> None:
    """Every byte of the signature's binding part and a sample of the manifest's; the flag does not help."""
    path = sample.folder / file
    whole = path.read_bytes()
    start = whole.index(b"\n") if file.endswith("minisig") else 0
    for place in range(start, len(whole) - 1, 1 if start else 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((BundleSignatureInvalid, BundleKeyUnknown, BundleManifestInvalid)) as caught:
            import_bundle(store, [sample.folder], KEYS, options=ImportOptions(allow_unsigned=False))
        if allow and not isinstance(caught.value, BundleKeyUnknown):
            with pytest.raises(type(caught.value)):
                import_bundle(store, [sample.folder], KEYS, options=ImportOptions(allow_unsigned=True))
        assert_untouched(store)
    assert unfinished(store) == []


def test_signature_by_the_wrong_key_under_a_trusted_id(store: ModelStore, sample: Sample) -> None:
    forger = replace(OTHER_KEY, key_id=KEY.key_id)
    rewrite(sample.folder, lambda _m: None, forger)
    with pytest.raises(BundleSignatureInvalid):
        import_bundle(store, [sample.folder], KEYS, options=ImportOptions(allow_unsigned=True))
    assert_untouched(store)


def test_rotation(store: ModelStore, sample: Sample) -> None:
    both = TrustedKeys((("new.pub", OTHER_KEY.public("New")), *KEYS.keys))
    assert import_bundle(store, [sample.folder], both).is_new


# --- does it fit ---------------------------------------------------------------------------------------------------


def test_fit_is_judged_before_a_byte_is_copied(
    store: ModelStore, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = reads(monkeypatch, sample.folder)
    too_large = Judgement(False, EngineName.LLAMA_CPP, "it needs 9 GiB", 9, 3)
    with pytest.raises(BundleDoesNotFit) as caught:
        import_bundle(store, [sample.folder], KEYS, options=ImportOptions(judge=lambda _m: too_large))
    assert caught.value.details["needed_bytes"] == 9
    assert seen == []
    assert unfinished(store) == []
    unknown = Judgement(None, EngineName.LLAMA_CPP, "nobody knows")
    assert import_bundle(store, [sample.folder], KEYS, options=ImportOptions(judge=lambda _m: unknown)).is_new


def test_room_is_asked_for_first(store: ModelStore, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reads(monkeypatch, sample.folder)
    monkeypatch.setattr(ModelStore, "free_bytes", lambda _store: 1000)
    with pytest.raises(NoSpace):
        import_bundle(store, [sample.folder], KEYS)
    assert seen == []
    monkeypatch.undo()
    assert import_bundle(store, [sample.folder], KEYS).is_new


# --- at once -------------------------------------------------------------------------------------------------------


def test_two_imports_at_once(store: ModelStore, sample: Sample) -> None:
    caught: list[Exception] = []

    def second(done: int, _total: int) -> None:
        if done and not caught:
            try:
                import_bundle(ModelStore(store.root), [sample.folder], KEYS)
            except ImportRunning as error:
                caught.append(error)

    assert import_bundle(store, [sample.folder], KEYS, second).is_new
    assert len(caught) == 1
    assert not import_bundle(store, [sample.folder], KEYS).is_new


def test_bundle_and_plain_import_of_the_same_model_at_once(store: ModelStore, sample: Sample) -> None:
    done = threading.Event()

    def meanwhile(_done: int, _total: int) -> None:
        if not done.is_set():
            done.set()
            import_gguf(ModelStore(store.root), sample.source)

    result = import_bundle(store, [sample.folder], KEYS, meanwhile)
    assert not result.is_new
    assert len(store.list().models) == 1
    assert store.verify(result.model.id)


def test_every_refusal_is_plain(store: ModelStore, sample: Sample) -> None:
    with pytest.raises(BundleError) as caught:
        import_bundle(store, [sample.folder], NOBODY)
    assert caught.value.hint
    assert caught.value.message.endswith(".")


def test_an_earlier_link_is_never_written_into(store: ModelStore, tmp_path: Path) -> None:
    """An attempt that linked a stored file and died; by the next one that model is damaged. Its inode is another
    model's: writing there would change what is installed."""
    made = make_bundle(tmp_path / "a")
    model = import_bundle(store, [made.folder], KEYS).model
    key = f"bundle:{made.made.manifest.id}@{made.made.manifest.content_sha256[:32]}"
    with store.resumable(key) as staging:
        assert store.adopt(staging, "model.gguf", model.size_bytes, model.files[0].sha256)
    flip(model.path, 3 * CHUNK)
    damaged = model.path.read_bytes()
    kept = os.open(model.path, os.O_RDONLY)
    try:
        assert import_bundle(store, [made.folder], KEYS).model.id == model.id
        assert os.pread(kept, len(damaged), 0) == damaged
    finally:
        os.close(kept)
    assert store.verify(model.id)
