"""Hugging Face folders: what is taken, what is left, and every lie that a header or index can tell."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    CorruptHeader,
    ImportSourceUnreadable,
    ModelError,
    ModelFolderUnusable,
    NotAChatModel,
    NotGguf,
    PickleRefused,
)
from models.importer import import_path
from models.model_store import ModelStore
from models.store_types import ModelFormat
from tests.models.store_samples import CONFIG, safetensors, write_hub_folder

TINY_R1 = Path(__file__).parents[1] / "fixtures" / "tiny_r1" / "hf"


def test_a_real_folder(store: ModelStore) -> None:
    model = import_path(store, TINY_R1, name="Tiny R1").model
    assert model.format is ModelFormat.SAFETENSORS
    assert model.architecture == "qwen2"
    assert model.has_chat_template
    assert {f.name for f in model.files} == {p.name for p in TINY_R1.iterdir()}
    assert model.path.name == "config.json"
    assert model.parameters > 1_000_000
    assert store.verify(model.id) == model
    assert not import_path(store, TINY_R1).is_new
    assert store.default_id() is None, "what is served by default is for the engine that every box has"


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_all_files_are_kept_under_their_names(store: ModelStore, tmp_path: Path, shards: int) -> None:
    folder = write_hub_folder(tmp_path / "My-R1", shards=shards)
    model = import_path(store, folder).model
    assert model.name == "My-R1"
    assert model.id == "my-r1-bf16"
    assert model.quantization == "BF16"
    assert model.context_length_trained == 4096
    assert model.parameters == 2 * shards * 64 * 64
    assert {f.name: f.path.read_bytes() for f in model.files} == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_what_is_no_part_of_the_model_is_left_and_said(store: ModelStore, tmp_path: Path) -> None:
    folder = write_hub_folder(tmp_path / "hub")
    (folder / "modeling_deepseek.py").write_text("import os")
    (folder / ".gitattributes").write_text("x")
    (folder / "figures").mkdir()
    (folder / "a b.txt").write_text("x")
    (folder / "LICENSE").write_text("MIT")
    model = import_path(store, folder).model
    names = {f.name for f in model.files}
    assert "LICENSE" in names
    assert not names & {"modeling_deepseek.py", ".gitattributes", "figures", "a b.txt"}
    said = " ".join(model.warnings)
    for name in ("modeling_deepseek.py", "figures", "a b.txt"):
        assert name in said


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"quant_method": "awq"}, "AWQ"),
        ({"quant_method": "gptq"}, "GPTQ"),
        ({"quant_method": "fp8"}, "FP8"),
        ({"quant_method": "\x1b[2Jx"}, "[2JX"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "g": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}
                },
            },
            "W8A8",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}},
            "W4A16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "FP8",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": []}, "COMPRESSED"),
        ({"quant_method": 5}, "5"),
    ],
)
def test_quantizations_are_named(store: ModelStore, tmp_path: Path, settings: dict[str, Any], label: str) -> None:
    folder = write_hub_folder(tmp_path / "hub", config={"quantization_config": settings})
    assert import_path(store, folder).model.quantization == label


def test_names_of_huggingface_become_those_of_gguf(store: ModelStore, tmp_path: Path) -> None:
    config = {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"]}
    assert import_path(store, write_hub_folder(tmp_path / "hub", config=config)).model.architecture == "deepseek2"


def header(table: Any, data: bytes = b"") -> bytes:
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def one(dtype: str, shape: list[int], offsets: list[int]) -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


WEIGHTS: dict[str, tuple[bytes, type[ModelError]]] = {
    "empty": (b"", CorruptHeader),
    "shorter than its length": (b"\x01\0\0", CorruptHeader),
    "endless table": (struct.pack("<Q", 2**63) + b"{}", CorruptHeader),
    "table beyond the file": (struct.pack("<Q", 500) + b"{}" + bytes(100), CorruptHeader),
    "no json": (header(b"{not json at all}"), CorruptHeader),
    "no table": (header(b"[1, 2, 3]"), NotGguf),
    "deep": (header(b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), CorruptHeader),
    "tensor is text": (header({"x": "y"}), CorruptHeader),
    "unknown type": (header(one("Q9", [2], [0, 2]), bytes(2)), CorruptHeader),
    "negative side": (header(one("U8", [-2], [0, 2]), bytes(2)), CorruptHeader),
    "ends before it begins": (header(one("U8", [2], [4, 2]), bytes(4)), CorruptHeader),
    "starts below zero": (header(one("U8", [2], [-2, 0]), bytes(4)), CorruptHeader),
    "another size": (header(one("U8", [3], [0, 2]), bytes(2)), CorruptHeader),
    "huge side": (header(one("U8", [2**62, 8], [0, 2]), bytes(2)), CorruptHeader),
    "beyond the file": (header(one("U8", [9], [0, 9]), bytes(2)), CorruptHeader),
    "cut": (safetensors({"a": ("U8", (500,), 500)})[:-20], CorruptHeader),
    "more data than tensors": (header(one("U8", [2], [0, 2]), bytes(9)), CorruptHeader),
    "overlap": (
        header({n: {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} for n in "ab"}, bytes(2)),
        CorruptHeader,
    ),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_lie_are_refused(store: ModelStore, tmp_path: Path, case: str) -> None:
    raw, error = WEIGHTS[case]
    folder = write_hub_folder(tmp_path / "hub", shards=1)
    (folder / "model.safetensors").write_bytes(raw)
    refused(store, folder, error)


def rewrite(name: str, **changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        content = {k: v for k, v in (content | changes).items() if v is not None}
        (folder / name).write_text(json.dumps(content))

    return change


INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-000002.safetensors"
FOLDERS: dict[str, tuple[Callable[[Path], object], type[ModelError], str]] = {
    "missing shard": (lambda f: (f / SHARD).unlink(), ModelFolderUnusable, SHARD),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), NotAChatModel, "tokenizer"),
    "half a tokenizer": (lambda f: (f / "tokenizer.json").rename(f / "vocab.json"), NotAChatModel, "tokenizer"),
    "pickle beside": (lambda f: (f / "optimizer.pt").write_bytes(b"x"), PickleRefused, "optimizer.pt"),
    "traversal in the index": (
        rewrite(INDEX, weight_map={"a": "../../etc/passwd"}),
        CorruptHeader,
        "../../etc/passwd",
    ),
    "absolute in the index": (rewrite(INDEX, weight_map={"a": "/etc/passwd"}), CorruptHeader, "/etc/passwd"),
    "index maps nowhere": (rewrite(INDEX, weight_map={"a": 5}), CorruptHeader, "weight_map"),
    "index without map": (rewrite(INDEX, weight_map=None), CorruptHeader, "weight_map"),
    "tensor in no file": (rewrite(INDEX, weight_map={"lost": SHARD}), CorruptHeader, "'lost'"),
    "tensor in two files": (
        lambda f: (f / "model-00002-of-000002.safetensors").write_bytes((f / SHARD).read_bytes()),
        CorruptHeader,
        "two files",
    ),
    "config is no object": (lambda f: (f / "config.json").write_text("[]"), CorruptHeader, "config.json"),
    "config is no json": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), CorruptHeader, "config.json"),
    "config is huge": (lambda f: os.truncate(f / "config.json", 5_000_000), CorruptHeader, "5,000,000"),
    "config is deep": (lambda f: (f / "config.json").write_text("[" * 100_000), CorruptHeader, "config.json"),
    "no model type": (rewrite("config.json", model_type=None), NotAChatModel, "model_type"),
    "model type steers": (rewrite("config.json", model_type="../x"), NotAChatModel, "model_type"),
    "no language model": (rewrite("config.json", architectures=["Wav2Vec2Model"]), NotAChatModel, "ForCausalLM"),
    "no sizes": (rewrite("config.json", hidden_size=None), NotAChatModel, "hidden_size"),
    "silly sizes": (rewrite("config.json", vocab_size=10**30), NotAChatModel, "vocab_size"),
    "zero heads": (rewrite("config.json", num_attention_heads=0), NotAChatModel, "num_attention_heads"),
    "huge text": (lambda f: os.truncate(f / "tokenizer.json", 300_000_000), ModelFolderUnusable, "tokenizer.json"),
    "weights are a link": (
        lambda f: ((f / SHARD).rename(f.parent / "away"), (f / SHARD).symlink_to(f.parent / "away")),
        ImportSourceUnreadable,
        "link",
    ),
    "weights are a pipe": (
        lambda f: ((f / SHARD).unlink(), os.mkfifo(f / SHARD)),
        ImportSourceUnreadable,
        "ordinary",
    ),
    "weights are a folder": (
        lambda f: ((f / SHARD).unlink(), (f / SHARD).mkdir()),
        ModelFolderUnusable,
        SHARD,
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_lie_are_refused(store: ModelStore, tmp_path: Path, case: str) -> None:
    change, error, said = FOLDERS[case]
    folder = write_hub_folder(tmp_path / "hub")
    change(folder)
    assert said in refused(store, folder, error)


def refused(store: ModelStore, folder: Path, error: type[ModelError]) -> str:
    with pytest.raises(error) as caught:
        import_path(store, folder)
    assert caught.value.hint
    assert store.list().models == ()
    assert list((store.root / ".staging").iterdir()) == []
    return caught.value.message


def test_the_samples_are_sound(store: ModelStore, tmp_path: Path) -> None:
    """What the tests above change at one point is accepted as it is."""
    assert import_path(store, write_hub_folder(tmp_path / "hub", config=CONFIG)).is_new
