"""Importing: the real demo model, and every kind of file that must be refused before a byte is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    CorruptHeader,
    GgufTruncated,
    GitLfsPointer,
    ImportSourceUnreadable,
    ModelError,
    NotAChatModel,
    NotGguf,
    SplitSetInconsistent,
    UnsupportedArchitecture,
)
from models.gguf import read_header
from models.importer import MAX_TEMPLATE_BYTES, check_model_file, display_name, import_gguf
from models.model_store import ModelStore
from tests.fakes.gguf_writer import Tensor, small_metadata, small_tensors, write_gguf, write_small
from tests.models.smollm2 import SMOLLM2


def contents(store: ModelStore) -> list[str]:
    """Everything in the store but its lock."""
    return sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.name not in (".lock", ".staging"))


def test_demo_model(store: ModelStore) -> None:
    seen: list[tuple[int, int]] = []
    result = import_gguf(store, SMOLLM2, lambda done, total: seen.append((done, total)))
    model = result.model
    assert result.is_new
    assert model.id == "smollm2-135m-instruct-q4_1"
    assert model.name == "SmolLM2-135M-Instruct"
    assert (model.architecture, model.quantization, model.parameters) == ("llama", "Q4_1", 134_515_008)
    assert model.context_length_trained == 8192
    assert model.has_chat_template
    assert model.sha256 == hashlib.sha256(SMOLLM2.read_bytes()).hexdigest()
    assert model.size_bytes == model.path.stat().st_size == SMOLLM2.stat().st_size
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert seen[-1] == (model.size_bytes, model.size_bytes)
    assert store.default_id() == model.id
    assert store.verify(model.id) == model


def test_same_bytes_again_return_the_model_that_is_there(store: ModelStore, tmp_path: Path) -> None:
    first = import_gguf(store, write_small(tmp_path / "Alpha.gguf"))
    before = contents(store)
    again = import_gguf(store, write_small(tmp_path / "Renamed.gguf"))
    assert again.model == first.model
    assert not again.is_new
    assert contents(store) == before
    assert not import_gguf(store, first.model.path).is_new


def test_same_size_other_bytes_is_another_model(store: ModelStore, tmp_path: Path) -> None:
    import_gguf(store, write_small(tmp_path / "Alpha.gguf", seed=1))
    assert import_gguf(store, write_small(tmp_path / "Beta.gguf", seed=2)).is_new


def test_own_name(store: ModelStore, tmp_path: Path) -> None:
    model = import_gguf(store, write_small(tmp_path / "x.gguf"), name="Ward 3\x1b[2J R1").model
    assert model.id == "ward-3-2j-r1-q8_0"
    assert "\x1b" not in model.name


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("DeepSeek-R1-Distill-Qwen-7B-Q8_0.gguf", "DeepSeek-R1-Distill-Qwen-7B"),
        ("Some.Model.q8_0.gguf", "Some.Model"),
        ("model.gguf", "Small Model"),
        ("ggml-model-Q8_0.gguf", "Small Model"),
        ("Q8_0.gguf", "Q8_0"),
    ],
)
def test_names_come_from_the_file_unless_it_says_nothing(tmp_path: Path, file_name: str, name: str) -> None:
    assert display_name(read_header(write_small(tmp_path / file_name))) == name


def written(metadata: dict[str, Any], tensors: list[Tensor] | None = None) -> Callable[[Path], object]:
    return lambda path: write_gguf(path, metadata, small_tensors() if tensors is None else tensors)


NO_EMBEDDING = [t for t in small_tensors() if t[0] != "token_embd.weight"]
REFUSED: dict[str, tuple[Callable[[Path], object], type[ModelError], str]] = {
    "not a gguf": (lambda p: p.write_bytes(b"hello" * 100), NotGguf, "not a GGUF"),
    "empty": (lambda p: p.touch(), NotGguf, "an empty file"),
    "git-lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n"),
        GitLfsPointer,
        "git-LFS pointer",
    ),
    "cut": (
        lambda p: p.write_bytes(write_small(p.with_suffix(".whole")).read_bytes()[:-10]),
        GgufTruncated,
        "is cut off",
    ),
    "architecture": (written(small_metadata("warp9")), UnsupportedArchitecture, "'warp9'"),
    "no architecture": (written(small_metadata(general__architecture=None)), CorruptHeader, "general.architecture"),
    "shard": (written(small_metadata(split__count=3, split__no=1)), SplitSetInconsistent, "part 2 of 3"),
    "no tensors": (written(small_metadata(), []), NotAChatModel, "no tensors"),
    "no tokenizer": (written(small_metadata(tokenizer__ggml__model="no_vocab")), NotAChatModel, "no tokenizer"),
    "no tokens": (written(small_metadata(tokenizer__ggml__tokens=None)), NotAChatModel, "no tokenizer"),
    "no embedding": (written(small_metadata(), NO_EMBEDDING), NotAChatModel, "no token embedding"),
    "no layers": (written(small_metadata(qwen2__block_count=None)), NotAChatModel, "block_count"),
    "too many tokens": (written(small_metadata(tokens=33)), CorruptHeader, "33 tokens for 32"),
    "bos outside": (written(small_metadata(tokenizer__ggml__bos_token_id=32)), CorruptHeader, "bos_token_id"),
    "huge template": (
        written(small_metadata(tokenizer__chat_template="x" * (MAX_TEMPLATE_BYTES + 1))),
        CorruptHeader,
        "chat template 'default'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_a_byte_is_copied(store: ModelStore, tmp_path: Path, case: str) -> None:
    make, error, said = REFUSED[case]
    path = tmp_path / "bad.gguf"
    make(path)
    before = contents(store)
    with pytest.raises(error) as caught:
        import_gguf(store, path)
    assert said in caught.value.message
    assert caught.value.hint
    assert contents(store) == before == []
    with pytest.raises(error):
        check_model_file(path)


def test_missing_and_folders(store: ModelStore, tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ImportSourceUnreadable):
            import_gguf(store, path)


def test_a_link_to_a_model_is_followed(store: ModelStore, tmp_path: Path) -> None:
    """Hubs keep their downloads as links to blobs."""
    blob = write_small(tmp_path / "blob")
    link = tmp_path / "Linked-Q8_0.gguf"
    link.symlink_to(blob)
    assert import_gguf(store, link).model.id == "linked-q8_0"
