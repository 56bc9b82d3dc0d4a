"""The store: what appears appears whole, what is damaged is named, and several processes may work at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import (
    BudgetExceeded,
    ModelDamaged,
    ModelIdAmbiguous,
    ModelInUse,
    ModelIsDefault,
    ModelNotFound,
    NoSpace,
    StoreNotWritable,
)
from models.importer import import_gguf
from models.model_store import ModelStore
from models.store_manifest import MAX_MANIFEST_BYTES, Manifest, make_id
from models.store_types import DiskBudget
from models.types import InstalledModel
from tests.fakes.gguf_writer import write_small


@pytest.fixture
def add(store: ModelStore, tmp_path: Path) -> Callable[..., InstalledModel]:
    """Imports a small model under a name; ``seed`` makes its bytes differ."""

    def _add(name: str, seed: int = 0) -> InstalledModel:
        path = write_small(tmp_path / f"{name}.gguf", seed=seed)
        return import_gguf(store, path).model

    return _add


@pytest.mark.parametrize(
    ("name", "quantization", "model_id"),
    [
        ("DeepSeek R1 Distill Qwen 7B", "Q4_K_M", "deepseek-r1-distill-qwen-7b-q4_k_m"),
        ("SmolLM2-135M-Instruct", "Q4_1", "smollm2-135m-instruct-q4_1"),
        ("../../etc/passwd", "Q8_0", "etc-passwd-q8_0"),
        ("深度求索", "Q8_0", "model-q8_0"),
        ("", "", "model"),
        ("a" * 300, "Q8_0", "a" * 91 + "-q8_0"),
    ],
)
def test_ids(name: str, quantization: str, model_id: str) -> None:
    assert make_id(name, quantization) == model_id


@given(name=st.text(max_size=200), quantization=st.text(max_size=40))
def test_ids_are_always_safe_names(name: str, quantization: str) -> None:
    model_id = make_id(name, quantization)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,127}", model_id)
    assert len(model_id) <= 130
    assert "/" not in model_id


def test_layout_and_modes(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    model = add("Alpha")
    folder = store.root / "alpha-q8_0"
    assert model.path == folder / "model.gguf"
    assert {p.name for p in folder.iterdir()} == {"manifest.json", "model.gguf"}
    assert folder.stat().st_mode & 0o7777 == 0o750
    assert {p.stat().st_mode & 0o7777 for p in folder.iterdir()} == {0o640}
    assert list((store.root / ".staging").iterdir()) == []
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["schema"] == 2
    assert manifest["provenance"]["name"] == "Alpha.gguf"
    assert manifest["imported_at"].endswith("+00:00")


def test_get_by_id_by_beginning_and_the_ways_to_fail(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    with pytest.raises(ModelNotFound, match="no model") as empty:
        store.get("x")
    assert "empty" in (empty.value.hint or "")
    add("Alpha-One", 1)
    add("Alpha-Two", 2)
    assert store.get("alpha-one-q8_0").name == "Alpha-One"
    assert store.get("Alpha-O").id == "alpha-one-q8_0"
    with pytest.raises(ModelIdAmbiguous) as many:
        store.get("alpha")
    assert many.value.details["candidates"] == ["alpha-one-q8_0", "alpha-two-q8_0"]
    with pytest.raises(ModelNotFound) as near:
        store.get("alhpa-one-q8_0")
    assert "alpha-one-q8_0" in (near.value.hint or "")
    for bad in ("", "..", "../store", ".staging", "a/b", "\0"):
        with pytest.raises(ModelNotFound):
            store.get(bad)


def test_first_model_is_the_default_until_it_is_removed(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    assert store.default_id() is None
    add("Alpha", 1)
    add("Beta", 2)
    assert store.default_id() == "alpha-q8_0"
    store.set_default("beta")
    assert store.default_id() == "beta-q8_0"
    with pytest.raises(ModelIsDefault, match="default") as caught:
        store.remove("beta-q8_0")
    assert "--force" in (caught.value.hint or "")
    assert store.get("beta-q8_0").id == store.default_id()
    assert store.remove("beta-q8_0", force=True) == "beta-q8_0"
    assert store.default_id() is None
    assert [m.id for m in store.list().models] == ["alpha-q8_0"]
    with pytest.raises(ModelNotFound):
        store.set_default("beta-q8_0")


@pytest.mark.parametrize("content", [b"", b"../..\n", b"\xff\xfe", b"x" * 100_000, b"gone-q8_0\n"])
def test_a_damaged_default_is_no_default(store: ModelStore, add: Callable[..., InstalledModel], content: bytes) -> None:
    add("Alpha")
    (store.root / "default").write_bytes(content)
    assert store.default_id() is None


def test_remove_takes_only_whole_ids(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    add("Alpha")
    with pytest.raises(ModelNotFound) as caught:
        store.remove("alpha")
    assert "alpha-q8_0" in (caught.value.hint or "")
    for bad in ("..", ".staging", "", "no-such"):
        with pytest.raises(ModelNotFound):
            store.remove(bad)
    store.remove("alpha-q8_0", force=True)
    assert store.list().models == ()
    assert list((store.root / ".staging").iterdir()) == []


def damage_manifest(folder: Path, change: dict[str, object]) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "manifest is missing": lambda f: (f / "manifest.json").unlink(),
    "model.gguf is missing": lambda f: (f / "model.gguf").unlink(),
    "not readable": lambda f: (f / "manifest.json").write_bytes(b"{\xff"),
    "too long": lambda f: os.truncate(f / "manifest.json", MAX_MANIFEST_BYTES + 1),
    "bytes instead of": lambda f: os.truncate(f / "model.gguf", 100),
    "another model or a newer version": lambda f: damage_manifest(f, {"schema": 3}),
    "another model": lambda f: damage_manifest(f, {"id": "beta"}),
    "sha256": lambda f: damage_manifest(f, {"files": [{"name": "model.gguf", "size_bytes": 1, "sha256": 5}]}),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_damage_is_named_and_can_be_removed(store: ModelStore, add: Callable[..., InstalledModel], said: str) -> None:
    add("Alpha", 1)
    add("Beta", 2)
    DAMAGES[said](store.root / "alpha-q8_0")
    listing = store.list()
    assert [m.id for m in listing.models] == ["beta-q8_0"]
    assert [d.id for d in listing.damaged] == ["alpha-q8_0"]
    if said != "manifest is missing":
        assert said in listing.damaged[0].problem
    with pytest.raises(ModelDamaged) as caught:
        store.get("alpha-q8_0")
    assert "models remove alpha-q8_0" in (caught.value.hint or "")
    store.remove("alpha-q8_0")
    assert store.list().damaged == ()


def test_verify_finds_one_flipped_byte(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    model = add("Alpha")
    seen: list[tuple[int, int]] = []
    assert store.verify(model.id, lambda done, total: seen.append((done, total))) == model
    assert seen[-1] == (model.size_bytes, model.size_bytes)
    with model.path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(ModelDamaged, match="bytes have changed"):
        store.verify(model.id)


def test_leftovers_of_the_dead_are_removed_and_the_living_are_left_alone(store: ModelStore) -> None:
    dead = store.root / ".staging" / "0123456789abcdef"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "model.gguf").write_bytes(b"half")
    (store.root / ".staging" / "half-default").write_bytes(b"x")
    with store.staging() as living:
        ModelStore(store.root)
        assert not dead.exists()
        assert living.folder.is_dir()
    assert list((store.root / ".staging").iterdir()) == []


def test_a_taken_id_gets_eight_digits_of_the_hash(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    first = add("Alpha", 1)
    second = add("Alpha", 2)
    assert second.id == f"{first.id}-{second.sha256[:8]}"
    assert store.get(first.id).sha256 == first.sha256


def test_unusable_folders_are_one_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreNotWritable, match="cannot be used"):
        ModelStore(tmp_path / "file" / "store")
    with pytest.raises(StoreNotWritable):
        ModelStore(tmp_path / "file")


def test_a_folder_nobody_made_here_is_damaged_not_a_crash(store: ModelStore) -> None:
    (store.root / "lost+found").mkdir()
    assert [d.id for d in store.list().damaged] == ["lost+found"]


def test_manifests_of_a_later_version_may_have_more_fields(
    store: ModelStore, add: Callable[..., InstalledModel]
) -> None:
    model = add("Alpha")
    damage_manifest(store.root / model.id, {"signed_by": "somebody"})
    assert store.get(model.id) == model
    assert "files" in Manifest.__struct_fields__


def test_a_manifest_of_the_first_version_is_read_and_left_as_it_is(
    store: ModelStore, add: Callable[..., InstalledModel]
) -> None:
    model = add("Alpha")
    path = store.root / model.id / "manifest.json"
    first = {
        "schema": 1,
        "id": model.id,
        "name": "Alpha",
        "architecture": "qwen2",
        "quantization": "Q8_0",
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "parameters": model.parameters,
        "context_length_trained": 4096,
        "has_chat_template": True,
        "imported_at": model.imported_at,
        "source": "Alpha.gguf",
    }
    path.write_text(json.dumps(first))
    before = path.read_bytes()
    old = ModelStore(store.root).get(model.id)
    assert (old.sha256, old.size_bytes, old.path, old.source) == (
        model.sha256,
        model.size_bytes,
        model.path,
        "Alpha.gguf",
    )
    assert [f.name for f in old.files] == ["model.gguf"]
    assert (old.variant, old.recognised_by, old.profile, old.warnings) == (None, None, None, ())
    assert store.verify(model.id) == old
    assert not import_gguf(store, model.path).is_new
    assert path.read_bytes() == before


def test_what_is_served_is_not_removed_without_force(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    add("Alpha", 1)
    model = add("Beta", 2)
    with ModelStore(store.root).hold(model.id) as held, store.hold(model.id):
        assert held == model
        with pytest.raises(ModelInUse, match="being served"):
            store.remove(model.id)
    with store.hold(model.id):
        assert store.remove(model.id, force=True) == model.id
    add("Beta", 2)
    with pytest.raises(RuntimeError), store.hold(model.id):
        raise RuntimeError
    assert store.remove(model.id) == model.id


def test_a_damaged_default_model_is_removed_without_force(
    store: ModelStore, add: Callable[..., InstalledModel]
) -> None:
    model = add("Alpha")
    os.truncate(model.path, 3)
    assert store.remove(model.id) == model.id
    assert store.default_id() is None


def test_verify_all_names_what_is_damaged(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    whole, flipped, cut = add("Alpha", 1), add("Beta", 2), add("Gamma", 3)
    with flipped.path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x01")
    os.truncate(cut.path, 5)
    seen: list[tuple[int, int]] = []
    results = store.verify_all(lambda done, total: seen.append((done, total)))
    assert [r.id for r in results] == [whole.id, flipped.id, cut.id]
    assert results[0].problems == ()
    assert results[1].problems == ("model.gguf: its bytes have changed",)
    assert "bytes instead of" in results[2].problems[0]
    total = whole.size_bytes + flipped.size_bytes
    assert seen[-1] == (total, total)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_budget_counts_what_is_there_and_says_what_could_go(
    tmp_path: Path, store: ModelStore, add: Callable[..., InstalledModel]
) -> None:
    default, other = add("Alpha", 1), add("Beta", 2)
    used = store.usage().used_bytes
    assert used >= default.size_bytes + other.size_bytes
    new = write_small(tmp_path / "Gamma.gguf", seed=3)
    tight = ModelStore(store.root, budget=DiskBudget(max_bytes=used + new.stat().st_size - 100))
    with pytest.raises(BudgetExceeded) as caught:
        import_gguf(tight, new, lambda _done, _total: pytest.fail("a byte was copied"))
    assert caught.value.details["removable"] == [other.id]
    assert other.id in (caught.value.hint or "")
    assert [m.id for m in store.list().models] == [default.id, other.id]
    with store.hold(other.id), pytest.raises(BudgetExceeded) as caught:
        import_gguf(tight, new)
    assert caught.value.details["removable"] == []
    roomy = ModelStore(store.root, budget=DiskBudget(max_bytes=used + new.stat().st_size + 4096))
    assert import_gguf(roomy, new).is_new
    assert not import_gguf(tight, new).is_new, "what is there already needs no room"


def test_room_that_others_have_claimed_is_taken(store: ModelStore, add: Callable[..., InstalledModel]) -> None:
    add("Alpha", 1)
    limited = ModelStore(store.root, budget=DiskBudget(max_bytes=10_000_000, keep_free_bytes=0))
    with store.staging() as first, store.staging() as second:
        limited.reserve(first, 6_000_000)
        with pytest.raises(BudgetExceeded):
            limited.reserve(second, 6_000_000)
        (first.folder / "part").write_bytes(b"x" * 2_000_000)
        with pytest.raises(BudgetExceeded):
            limited.reserve(second, 6_000_000)
        limited.reserve(first, 100)  # claims less than before
        limited.reserve(second, 6_000_000)
        free = ModelStore(store.root, budget=DiskBudget(keep_free_bytes=store.free_bytes()))
        with pytest.raises(NoSpace):
            free.reserve(second, 1)
    with store.staging() as third:
        limited.reserve(third, 9_000_000)  # those that ended claim nothing
