"""Reading headers: real ones, every field, and what is refused."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from models import gguf_format
from models.catalogue import kv_elements_per_token
from models.errors import (
    CorruptHeader,
    GgufTruncated,
    GitLfsPointer,
    ImportSourceUnreadable,
    ModelError,
    NotAChatModel,
    NotGguf,
    UnsupportedGgufVersion,
    UnsupportedTensorType,
)
from models.gguf import read_header, read_token_types, read_tokens
from models.types import Catalogue
from tests.fakes import gguf_writer as gw
from tests.fakes.gguf_writer import Typed, TypedList, small_metadata, small_tensors, write_gguf, write_small
from tests.models.smollm2 import SMOLLM2

R1_7B = json.loads((Path(__file__).parents[1] / "fixtures/gguf/r1-distill-qwen-7b-q4_k_m.json").read_text())


def write_r1_7b(path: Path) -> Path:
    """The published header again, with made-up token texts where only their number was kept; the data is a hole."""
    metadata = dict(R1_7B["metadata"])
    specials = {int(k): v for k, v in R1_7B["special_tokens"].items()}
    for key, (element_type, count) in R1_7B["array_lengths"].items():
        if element_type == gw.STRING:
            values: list[Any] = [specials.get(i, f"{i:x}") for i in range(count)]
        else:
            values = [1] * count
        metadata[key] = TypedList(element_type, values)
    return write_gguf(path, metadata, [(n, tuple(s), t) for n, s, t in R1_7B["tensors"]])


def test_smollm2_from_its_package() -> None:
    header = read_header(SMOLLM2)
    assert header.architecture == "llama"
    assert header.quantization == "Q4_1"
    assert header.parameters == 134_515_008
    assert header.tensor_bytes == 96_576_768
    assert header.token_embd_bytes == 30_081_024
    assert not header.has_output_tensor
    assert header.context_length == 8192
    assert header.token_text("bos") == "<|im_start|>"
    assert header.token_text("eos") == "<|im_end|>"
    assert header.add_bos_token is False
    assert header.chat_template is not None
    assert list(header.chat_templates) == ["default"]
    shape = header.shape()
    assert (shape.layers, shape.heads, shape.kv_heads, shape.key_length, shape.vocab_size) == (30, 9, 3, 64, 49_152)
    last = header.tensors[-1]
    assert last.offset + last.size_bytes == SMOLLM2.stat().st_size
    tokens = read_tokens(header)
    assert len(tokens) == len(read_token_types(header)) == header.token_count == 49_152
    assert tokens[1] == "<|im_start|>"


def test_r1_distill_qwen_7b_header(tmp_path: Path, catalogue: Catalogue) -> None:
    header = read_header(write_r1_7b(tmp_path / "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf"))
    variant = catalogue.variant("R1-Distill-Qwen-7B")
    assert variant is not None
    size = variant.quantizations["Q4_K_M"]
    assert header.name == "DeepSeek R1 Distill Qwen 7B"
    assert header.quantization == "Q4_K_M"
    assert header.parameters == variant.parameters
    assert header.tensor_bytes == size.tensor_bytes == 4_677_120_000
    assert header.token_embd_bytes == size.token_embd_bytes
    assert header.output_bytes == size.output_bytes
    assert header.token_id("bos") == 151_646
    assert header.token_text("bos") == "<｜begin▁of▁sentence｜>"
    assert header.token_text("eos") == "<｜end▁of▁sentence｜>"
    assert header.add_bos_token is True
    assert "<｜Assistant｜>" in (header.chat_template or "")
    assert header.matrix_types == {"Q4_K", "Q6_K"}
    shape = header.shape()
    for name in ("layers", "embedding_length", "feed_forward_length", "heads", "kv_heads", "key_length", "vocab_size"):
        assert getattr(shape, name) == getattr(variant.shape, name), name


def mla_metadata(*, legacy: bool) -> dict[str, Any]:
    a = "deepseek2"
    metadata = small_metadata(a)
    metadata |= {
        f"{a}.block_count": 61,
        f"{a}.embedding_length": 7168,
        f"{a}.attention.head_count": 128,
        f"{a}.attention.head_count_kv": 128 if legacy else 1,
        f"{a}.attention.kv_lora_rank": 512,
        f"{a}.attention.key_length": 192 if legacy else 576,
        f"{a}.attention.value_length": 128 if legacy else 512,
        f"{a}.rope.dimension_count": 64,
        f"{a}.expert_count": 256,
        f"{a}.expert_used_count": 8,
    }
    if not legacy:
        metadata |= {f"{a}.attention.key_length_mla": 192, f"{a}.attention.value_length_mla": 128}
    return metadata


@pytest.mark.parametrize(("legacy", "elements"), [(False, 35_136), (True, 2_498_560)])
def test_mla_and_the_legacy_files_without_it(tmp_path: Path, *, legacy: bool, elements: int) -> None:
    header = read_header(write_gguf(tmp_path / "r1.gguf", mla_metadata(legacy=legacy), small_tensors()))
    assert header.is_legacy_mla is legacy
    assert kv_elements_per_token(header.shape()) == elements
    assert header.shape().experts_used == 8


def test_small_model_round_trip(tmp_path: Path) -> None:
    header = read_header(write_small(tmp_path / "m.gguf"))
    assert header.version == 3
    assert header.split is None
    assert read_tokens(header)[:2] == ["t0", "t1"]
    assert read_token_types(header) == [1] * 32
    assert header.token_text("unknown") is None
    assert header.file_bytes == header.tensors[-1].offset + header.tensors[-1].size_bytes


def test_version_2_and_other_alignments_are_read(tmp_path: Path) -> None:
    metadata = small_metadata(general__alignment=64)
    header = read_header(write_gguf(tmp_path / "m.gguf", metadata, small_tensors(), version=2, alignment=64))
    assert (header.version, header.alignment) == (2, 64)
    assert all(t.offset % 64 == 0 for t in header.tensors)


def test_long_arrays_are_left_in_the_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", small_metadata(tokens=5000), small_tensors())
    header = read_header(path)
    assert header.arrays["tokenizer.ggml.tokens"].count == 5000
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert header.special_tokens == {0: "t0", 1: "t1"}
    assert read_tokens(header)[4999] == "t4999"


def test_per_layer_lists_are_answered_with_the_largest(tmp_path: Path) -> None:
    metadata = small_metadata(qwen2__attention__head_count_kv=[2, 4])
    assert read_header(write_gguf(tmp_path / "m.gguf", metadata, small_tensors())).shape().kv_heads == 4


def test_named_chat_templates(tmp_path: Path) -> None:
    metadata = small_metadata(tokenizer__chat_template__tool_use="TOOLS")
    header = read_header(write_gguf(tmp_path / "m.gguf", metadata, small_tensors()))
    assert header.chat_templates["tool_use"] == "TOOLS"


def test_label_is_believed_only_when_the_tensors_bear_it_out(tmp_path: Path) -> None:
    lying = write_gguf(tmp_path / "a.gguf", small_metadata(general__file_type=15), small_tensors())
    silent = write_gguf(tmp_path / "b.gguf", small_metadata(general__file_type=None), small_tensors(type_name="F16"))
    assert read_header(lying).quantization == "Q8_0"
    assert read_header(silent).quantization == "F16"


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b"", "an empty file"),
        (b"GG", None),
        (b"hello, this is text", None),
        (b"PK\x03\x04rest", "a PyTorch file"),
        (struct.pack("<Q", 60) + b'{"__metadata__"', "a safetensors file"),
        (b"<!DOCTYPE html><html>", "a web page, saved instead of the file"),
        (b"tjggrest", "a GGML file from before GGUF (2023)"),
        (bytes(4096), "a file of zeros, perhaps an unfinished download"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, looks_like: str | None) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(NotGguf) as caught:
        read_header(path)
    assert caught.value.details["looks_like"] == looks_like


def test_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4683073248\n")
    with pytest.raises(GitLfsPointer) as caught:
        read_header(path)
    assert "4.4 GiB" in caught.value.message
    assert "git lfs pull" in (caught.value.hint or "")


@pytest.mark.parametrize(("version", "big_endian"), [(b"\1\0\0\0", False), (b"\0\0\0\3", True), (b"\4\0\0\0", False)])
def test_other_versions_and_byte_orders(tmp_path: Path, version: bytes, *, big_endian: bool) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + version + bytes(16))
    with pytest.raises(UnsupportedGgufVersion) as caught:
        read_header(path)
    assert caught.value.details["big_endian"] is big_endian


def test_cut_anywhere_in_the_header_is_truncated(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m.gguf")
    for size in range(read_header(path).header_bytes - 1, 3, -2):
        os.truncate(path, size)
        with pytest.raises(GgufTruncated):
            read_header(path)


def test_cut_in_the_data_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m.gguf")
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(GgufTruncated) as caught:
        read_header(path)
    assert caught.value.details["needed_bytes"] == size
    assert caught.value.details["available_bytes"] == size - 1


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in [(tmp_path / "no", "no such file"), (tmp_path, "folder"), (tmp_path / "pipe", "ordinary file")]:
        with pytest.raises(ImportSourceUnreadable, match=said):
            read_header(path)


U64 = 10
HOSTILE: dict[str, tuple[type[ModelError], bytes]] = {
    "tensor count": (CorruptHeader, struct.pack("<IQQ", 3, 2**63, 0)),
    "entry count": (CorruptHeader, struct.pack("<IQQ", 3, 0, 2**63)),
    "key length": (CorruptHeader, struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62) + bytes(64)),
    "empty key": (CorruptHeader, struct.pack("<IQQ", 3, 0, 1) + gw.entry("", 1) + bytes(64)),
    "value type": (CorruptHeader, struct.pack("<IQQ", 3, 0, 1) + gw.text("k") + struct.pack("<I", 13) + bytes(64)),
    "string length": (
        CorruptHeader,
        struct.pack("<IQQ", 3, 0, 1) + gw.text("k") + struct.pack("<IQ", 8, 2**40) + bytes(64),
    ),
    "nested list": (
        CorruptHeader,
        struct.pack("<IQQ", 3, 0, 1) + gw.text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64),
    ),
    "list length": (
        CorruptHeader,
        struct.pack("<IQQ", 3, 0, 1) + gw.text("k") + struct.pack("<IIQ", 9, U64, 2**61) + bytes(64),
    ),
    "string list length": (
        CorruptHeader,
        struct.pack("<IQQ", 3, 0, 1) + gw.text("k") + struct.pack("<IIQ", 9, 8, 2**24) + bytes(64),
    ),
    "duplicate key": (CorruptHeader, struct.pack("<IQQ", 3, 0, 2) + gw.entry("k", 1) * 2 + bytes(64)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_preambles(tmp_path: Path, name: str) -> None:
    error, content = HOSTILE[name]
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + content)
    with pytest.raises(error):
        read_header(path)


def tensor_entry(name: str, shape: tuple[int, ...], type_id: int, offset: int) -> bytes:
    head = gw.text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return head + struct.pack("<IQ", type_id, offset)


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ([tensor_entry("a", (32,), 0, 0), tensor_entry("a", (32,), 0, 128)], CorruptHeader),
        ([tensor_entry("a", (32,), 0, 1)], CorruptHeader),
        ([tensor_entry("a", (32,), 0, 0), tensor_entry("b", (32,), 0, 64)], CorruptHeader),
        ([tensor_entry("a", (33,), 8, 0)], CorruptHeader),
        ([tensor_entry("a", (0, 4), 0, 0)], CorruptHeader),
        ([tensor_entry("a", (2**63, 4), 0, 0)], CorruptHeader),
        ([tensor_entry("a", (2**62, 2**62, 2**62), 0, 0)], GgufTruncated),
        ([tensor_entry("a", (1, 1, 1, 1, 1), 0, 0)], CorruptHeader),
        ([tensor_entry("n" * 64, (1,), 0, 0)], CorruptHeader),
        ([tensor_entry("a", (32,), 4, 0)], UnsupportedTensorType),
        ([tensor_entry("a", (32,), 4_000_000_000, 0)], UnsupportedTensorType),
        ([tensor_entry("a", (2**20,), 0, 0)], GgufTruncated),
    ],
)
def test_hostile_tensor_tables(tmp_path: Path, entries: list[bytes], error: type[ModelError]) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(entries), 0) + b"".join(entries) + bytes(4096))
    with pytest.raises(error):
        read_header(path)


@pytest.mark.parametrize("value", [0, 3, 2**31, True, "32", 32.0])
def test_bad_alignment(tmp_path: Path, value: Any) -> None:
    with pytest.raises(CorruptHeader, match="alignment"):
        read_header(write_gguf(tmp_path / "m.gguf", small_metadata(general__alignment=value), small_tensors()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qwen2.block_count", 2**31),
        ("qwen2.block_count", "28"),
        ("qwen2.attention.head_count", 0),
        ("qwen2.attention.head_count_kv", ["a", "b"]),
        ("qwen2.context_length", Typed(10, 2**63)),
        ("qwen2.embedding_length", Typed(5, -1)),
        ("qwen2.feed_forward_length", 1.5),
    ],
)
def test_absurd_dimensions_are_refused_when_asked_for(tmp_path: Path, key: str, value: Any) -> None:
    header = read_header(write_gguf(tmp_path / "m.gguf", small_metadata() | {key: value}, small_tensors()))
    with pytest.raises(CorruptHeader, match=key):
        header.shape()


def test_missing_dimensions_say_which(tmp_path: Path) -> None:
    metadata = small_metadata(qwen2__context_length=None)
    header = read_header(write_gguf(tmp_path / "m.gguf", metadata, small_tensors()))
    with pytest.raises(NotAChatModel, match=r"qwen2\.context_length"):
        header.shape()


def test_wrong_types_of_well_known_fields_name_the_field(tmp_path: Path) -> None:
    metadata = small_metadata(general__name=3, tokenizer__ggml__add_bos_token="yes")
    header = read_header(write_gguf(tmp_path / "m.gguf", metadata, small_tensors()))
    with pytest.raises(CorruptHeader, match=r"general\.name"):
        _ = header.name
    with pytest.raises(CorruptHeader, match="add_bos"):
        _ = header.add_bos_token


def test_special_token_outside_the_vocabulary_has_no_text(tmp_path: Path) -> None:
    metadata = small_metadata(tokenizer__ggml__bos_token_id=4_000_000_000)
    header = read_header(write_gguf(tmp_path / "m.gguf", metadata, small_tensors()))
    assert header.special_tokens == {1: "t1"}


def test_a_slow_medium_cannot_hold_us_up(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m.gguf")
    now = iter(range(0, 10_000, 3))
    with pytest.raises(CorruptHeader, match="took over 10 s"):
        read_header(path, clock=lambda: float(next(now)))


def test_a_header_of_eight_million_empty_strings_is_bounded_in_time_and_memory(tmp_path: Path) -> None:
    """The worst list the limits allow: 4,194,304 strings of length zero."""
    count = gguf_format.MAX_ARRAY_STRINGS
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gw.text("tokenizer.ggml.merges"))
        file.write(struct.pack("<IIQ", 9, 8, count))
        file.truncate(file.tell() + 8 * count + 4096)
    began = time.process_time()
    header = read_header(path)
    assert time.process_time() - began < gguf_format.READ_TIME_LIMIT_S
    assert header.arrays["tokenizer.ggml.merges"].count == count


def test_known_architectures_hold_those_of_r1() -> None:
    assert {"qwen2", "qwen3", "llama", "deepseek2"} <= gguf_format.known_architectures()
    assert "clip" not in gguf_format.known_architectures()
