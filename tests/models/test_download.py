"""A model from a hub into the store, over both protocols."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.cli.models import check_chat_template
from models.download import PullContext, choose
from models.download_errors import (
    CatalogueHashConflict,
    HashMismatch,
    HubFileReplaced,
    HubRefused,
    HubUnreachable,
    NotPublished,
    RepositoryUnknown,
)
from models.download_select import make_request
from models.errors import BudgetExceeded, NoSpace, NotGguf
from models.hubs import HubAccess, HubName, make_hub
from models.importer import import_gguf
from models.model_store import ModelStore
from models.store_types import DiskBudget, ModelFormat
from models.types import Catalogue
from tests.fakes.hub import COMMIT, NO_FAULT, FakeHub, Fault
from tests.models.download_parts import (
    BOTH,
    CHUNK_BYTES,
    NO_PLANS,
    Waits,
    choice_of,
    clean_environment,
    hub_at,
    model_bytes,
    pull_from,
)
from tests.models.store_samples import write_hub_folder, write_set

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


@pytest.mark.parametrize("name", BOTH)
def test_a_real_model_arrives_checked_and_with_its_origin(fake: FakeHub, store: ModelStore, name: HubName) -> None:
    fake.add(REPOSITORY, tiny_files())
    context = PullContext(check_template=check_chat_template, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    result = pull_from(store, hub_at(fake, name), f"{REPOSITORY}:Q4_K_M", context)
    model = result.model
    assert result.is_new
    assert model.path.read_bytes() == (TINY / "Tiny-R1-Q4_K_M.gguf").read_bytes()
    assert (model.id, model.quantization, model.has_chat_template) == ("tiny-r1-q4_k_m", "Q4_K_M", True)
    assert model.imported_at == "2026-01-02T00:00:00+00:00"
    origin = model.provenance
    assert origin is not None
    assert (origin.kind, origin.hub, origin.repository, origin.revision, origin.name) == (
        "hub", name.value, REPOSITORY, COMMIT, "Tiny-R1-Q4_K_M.gguf",
    )  # fmt: skip
    assert store.verify(model.id) == model
    assert len(model.files[0].chunks) == -(-model.size_bytes // CHUNK_BYTES)
    assert list((store.root / ".staging").iterdir()) == []
    assert store.default_id() == model.id


@pytest.mark.parametrize("name", BOTH)
def test_every_byte_is_fetched_once_and_at_the_commit(fake: FakeHub, store: ModelStore, name: HubName) -> None:
    fake.add(REPOSITORY, tiny_files())
    model = pull_from(store, hub_at(fake, name), f"{REPOSITORY}:Q8_0").model
    assert fake.sent_bytes == model.size_bytes
    ranges = sorted(seen.range for seen in fake.at("storage") if seen.range)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == model.size_bytes - 1
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ranges))
    asked = [seen for seen in fake.at("hub") if "resolve" in seen.path or seen.path.endswith("/repo")]
    assert asked
    assert all(COMMIT in seen.path or seen.query.get("Revision") == COMMIT for seen in asked)


@pytest.mark.parametrize("name", BOTH)
def test_a_split_set_in_a_folder_of_the_repository(
    fake: FakeHub, store: ModelStore, name: HubName, tmp_path: Path
) -> None:
    parts = write_set(tmp_path, 3, prefix="Big-R1-Q8_0")
    fake.add("acme/Big", {f"Big-R1-Q8_0/{p.name}": p.read_bytes() for p in reversed(parts)}, lfs_from=100)
    model = pull_from(store, hub_at(fake, name), "acme/Big:Q8_0").model
    assert [f.name for f in model.files] == [f"model-{n:05d}-of-00003.gguf" for n in (1, 2, 3)]
    assert [f.path.read_bytes() for f in model.files] == [p.read_bytes() for p in parts]
    assert model.id.startswith("big-r1")


@pytest.mark.parametrize("name", BOTH)
def test_a_safetensors_repository_without_code_and_pickles(
    fake: FakeHub, store: ModelStore, name: HubName, tmp_path: Path
) -> None:
    folder = write_hub_folder(tmp_path / "R1-Tiny", shards=2)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    extra = {"pytorch_model.bin": b"x", "modeling.py": b"x", "logo.png": b"x", "original/params.json": b"{}"}
    fake.add("acme/R1-Tiny", files | extra | {".gitattributes": b"x"}, lfs_from=5000)
    result = pull_from(store, hub_at(fake, name), "acme/R1-Tiny", form=ModelFormat.SAFETENSORS)
    assert {f.name: f.path.read_bytes() for f in result.model.files} == files
    assert result.model.format is ModelFormat.SAFETENSORS
    assert result.model.files[0].name == "config.json"
    # Small files of Hugging Face have no sha256 there: the hash git names them by is compared instead.
    assert store.verify(result.model.id) == result.model


def test_a_small_file_that_is_not_gits_is_refused(fake: FakeHub, store: ModelStore, tmp_path: Path) -> None:
    folder = write_hub_folder(tmp_path / "R1-Tiny", shards=1)
    fake.add("acme/R1-Tiny", {p.name: p.read_bytes() for p in folder.iterdir()}, lfs_from=5000)
    fake.answer = lambda seen: Fault(flip_at=3) if seen.path.endswith("/tokenizer.json") else NO_FAULT
    with pytest.raises(HashMismatch, match=r"tokenizer\.json"):
        pull_from(store, hub_at(fake), "acme/R1-Tiny", form=ModelFormat.SAFETENSORS)
    assert store.list().models == ()


# --- what is there already -------------------------------------------------------------------------------------------


def test_pulled_twice_is_fetched_once(fake: FakeHub, store: ModelStore) -> None:
    fake.add(REPOSITORY, tiny_files())
    first = pull_from(store, hub_at(fake), f"{REPOSITORY}:Q8_0")
    again = pull_from(store, hub_at(fake, HubName.MODELSCOPE), f"{REPOSITORY}:Q8_0")
    assert again == replace(first, is_new=False)
    assert fake.sent_bytes == first.model.size_bytes


def test_a_part_that_is_installed_is_linked(fake: FakeHub, store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path / "set", 2, prefix="Big-R1-Q8_0")
    import_gguf(store, parts[0])
    other = write_set(tmp_path / "other", 2, prefix="Big-R1-Q8_0", seed=7)
    fake.add("acme/Big", {parts[0].name: parts[0].read_bytes(), other[1].name: other[1].read_bytes()}, lfs_from=100)
    result = pull_from(store, hub_at(fake), "acme/Big")
    assert result.is_new
    assert fake.sent_bytes == other[1].stat().st_size
    assert result.model.files[0].path.stat().st_nlink == 2


def test_room_is_looked_for_before_a_byte_is_fetched(fake: FakeHub, tmp_path: Path) -> None:
    fake.add(REPOSITORY, tiny_files())
    small = ModelStore(tmp_path / "small", budget=DiskBudget(max_bytes=1_000_000))
    with pytest.raises(BudgetExceeded):
        pull_from(small, hub_at(fake), f"{REPOSITORY}:Q8_0")
    full = ModelStore(tmp_path / "full", budget=DiskBudget(keep_free_bytes=2**60))
    with pytest.raises(NoSpace):
        pull_from(full, hub_at(fake), f"{REPOSITORY}:Q8_0")
    assert fake.sent_bytes == 0


def test_what_is_no_model_leaves_nothing(fake: FakeHub, store: ModelStore) -> None:
    fake.add("acme/Fake", {"Fake-Q8_0.gguf": b"PK\x03\x04" + bytes(300_000)})
    with pytest.raises(NotGguf):
        pull_from(store, hub_at(fake), "acme/Fake")
    assert list((store.root / ".staging").iterdir()) == []


# --- the catalogue ---------------------------------------------------------------------------------------------------


def test_other_bytes_than_the_catalogues_are_refused_until_accepted(fake: FakeHub, catalogue: Catalogue) -> None:
    entry = catalogue.variants[-1].files[0]
    fake.add(entry.repository, {entry.path: b"GGUF" + bytes(200_000)})
    target = f"{catalogue.variants[-1].id}:{entry.quantization}"
    with pytest.raises(HubFileReplaced, match="in the catalogue") as refused:
        choice_of(hub_at(fake), target)
    assert "--accept-changed" in refused.value.hint
    named = choice_of(hub_at(fake), f"{entry.repository}@{COMMIT}:{entry.path}")
    assert (named.warnings, named.is_free) == ((), True)
    request = make_request(catalogue, target, ModelFormat.GGUF, None, lambda: NO_PLANS)
    choice = choose([hub_at(fake)], request, accept_changed=True)
    assert len(choice.warnings) == 1
    assert "was uploaded anew since the catalogue's entry" in choice.warnings[0]
    assert entry.sha256[:16] in choice.warnings[0]


def test_the_catalogues_own_bytes_are_no_warning(fake: FakeHub, catalogue: Catalogue) -> None:
    entry = catalogue.variants[-1].files[0]
    fake.add(entry.repository, {entry.path: b"GGUF" + bytes(200_000)}, hashes={entry.path: entry.sha256})
    choice = choice_of(hub_at(fake), f"{catalogue.variants[-1].id}:{entry.quantization}")
    assert choice.warnings == ()
    assert choice.files[0].sha256 == entry.sha256


def test_other_bytes_at_the_catalogues_revision_are_refused(fake: FakeHub, catalogue: Catalogue) -> None:
    variant = catalogue.variants[-1]
    entry = msgspec.structs.replace(variant.files[0], revision=COMMIT)
    pinned = msgspec.structs.replace(variant, files=(entry,))
    book = msgspec.structs.replace(catalogue, variants=(pinned,))
    fake.add(entry.repository, {entry.path: b"GGUF" + bytes(200_000)})
    target = f"{variant.id}:{entry.quantization}"
    request = make_request(book, target, ModelFormat.GGUF, None, lambda: NO_PLANS)
    with pytest.raises(CatalogueHashConflict):
        choose([hub_at(fake)], request)
    assert fake.at("hub")[0].path.endswith(f"/revision/{COMMIT}")


def test_a_file_that_was_replaced_since_the_last_pull_is_refused(
    fake: FakeHub, store: ModelStore, tmp_path: Path
) -> None:
    fake.add("acme/R1", {"R1-Q8_0.gguf": model_bytes(tmp_path, seed=1)}, lfs_from=100)
    first = pull_from(store, hub_at(fake), "acme/R1")
    assert pull_from(store, hub_at(fake), "acme/R1").is_new is False
    later = "c" * 40
    fake.add("acme/R1", {"R1-Q8_0.gguf": model_bytes(tmp_path, seed=2)}, lfs_from=100, commit=later)
    before = fake.sent_bytes
    with pytest.raises(HubFileReplaced, match=f"pulled at revision {COMMIT[:12]}"):
        pull_from(store, hub_at(fake), "acme/R1")
    assert fake.sent_bytes == before
    assert [model.id for model in store.list().models] == [first.model.id]
    second = pull_from(store, hub_at(fake), f"acme/R1@{later}")
    assert second.is_new
    assert second.model.provenance is not None
    assert second.model.provenance.revision == later


# --- hubs one after the other ----------------------------------------------------------------------------------------


def nobody(name: HubName) -> HubAccess:
    """A hub at a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return HubAccess(name, f"http://127.0.0.1:{taken.getsockname()[1]}", patience=Waits().patience())


def test_the_next_hub_is_asked_when_one_is_out_of_reach(fake: FakeHub, store: ModelStore) -> None:
    fake.add(REPOSITORY, tiny_files())
    hubs = [make_hub(nobody(HubName.HUGGINGFACE)), hub_at(fake, HubName.MODELSCOPE)]
    model = pull_from(store, hubs, f"{REPOSITORY}:Q4_K_M").model
    assert model.provenance is not None
    assert model.provenance.hub == "modelscope"


@pytest.mark.parametrize("name", BOTH)
def test_without_a_way_the_files_are_named_for_a_stick(catalogue: Catalogue, name: HubName) -> None:
    variant = next(v for v in catalogue.variants if v.id == "R1-Distill-Qwen-7B")
    with pytest.raises(HubUnreachable) as caught:
        choice_of(make_hub(nobody(name)), "qwen 7b:Q4_0")
    error = caught.value
    assert error.message == "This box has no way to 127.0.0.1: nobody listens there."
    assert "r1box models import PATH" in str(error.hint)
    assert "r1box bundle create" in str(error.hint)
    known = next(f for f in variant.files if f.quantization == "Q4_0")
    assert known.path in str(error.hint)
    assert known.sha256 in str(error.hint)
    assert "4,444,121,056 bytes" in str(error.hint)


@pytest.mark.parametrize("name", BOTH)
def test_unknown_and_gated_repositories(fake: FakeHub, name: HubName) -> None:
    with pytest.raises(RepositoryUnknown):
        choice_of(hub_at(fake, name), "acme/Nothing")
    fake.add("acme/Gated", tiny_files(), gated=True)
    with pytest.raises(HubRefused) as caught:
        choice_of(hub_at(fake, name), "acme/Gated:Q8_0")
    assert "HF_TOKEN" in str(caught.value.hint) or "MODELSCOPE_API_TOKEN" in str(caught.value.hint)
    fake.add("acme/Open", tiny_files())
    with pytest.raises(RepositoryUnknown, match="revision nowhere"):
        choice_of(hub_at(fake, name), "acme/Open@nowhere:Q8_0")


def test_a_missing_form_names_what_is_there(fake: FakeHub) -> None:
    fake.add(REPOSITORY, tiny_files())
    with pytest.raises(NotPublished) as caught:
        choice_of(hub_at(fake), f"{REPOSITORY}:Q5_K_M")
    assert caught.value.details["there"] == ["Tiny-R1-Q4_K_M", "Tiny-R1-Q8_0"]
