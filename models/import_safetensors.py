"""Hugging Face model folders: config.json, weights in safetensors, a tokenizer. For vLLM, vLLM-Ascend and MindIE.

Nothing in such a folder is trusted: every JSON is bounded before it is read, every tensor lies within its file, names
that the index mentions are plain file names, and neither pickles nor Python code are taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from models.errors import CorruptHeader, ModelFolderUnusable, NotAChatModel, NotGguf, PickleRefused, printable
from models.import_copy import unreadable
from models.import_source import CONFIG_FILE, INDEX_FILE, PICKLES, WEIGHTS_FILE, SourceFile
from models.store_manifest import is_file_name
from models.types import ModelShape

MAX_FILES = 1024
MAX_SMALL_FILE_BYTES = 256 * 1024 * 1024
_MAX_CONFIG_BYTES = 4 * 1024 * 1024
_MAX_INDEX_BYTES = 64 * 1024 * 1024
_MAX_HEADER_BYTES = 64 * 1024 * 1024
_MAX_TENSORS = 262_144
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
_NOT_TAKEN = frozenset({".py", ".gguf", ".onnx", ".h5", ".msgpack", ".exe", ".so", ".sh"})
_ARCHITECTURES = {"deepseek_v3": "deepseek2"}
"""Names of config.json's model_type that GGUF, and with it the catalogue, spells otherwise."""

_TORCH_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_MODEL_TYPE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# fmt: off
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}
# fmt: on


@dataclass(frozen=True, slots=True)
class HubModel:
    """What a folder says of itself. ``tensor_elements`` counts stored numbers (packed ones count as stored)."""

    architecture: str
    quantization: str
    shape: ModelShape
    tensor_elements: int
    chat_template: str | None
    control_tokens: frozenset[str]
    bos_token: str | None
    eos_token: str | None


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def folder_files(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files to take, config.json first, and warnings about what is left.

    Raises ``PickleRefused``, ``ModelFolderUnusable``, ``NotAChatModel`` or ``OSError``.
    """
    taken: list[str] = []
    warnings: list[str] = []
    pickles: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        suffix = Path(entry.name).suffix.lower()
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            warnings.append(f"The folder {printable(entry.name)} was not taken.")
        elif suffix in PICKLES:
            pickles.append(entry.name)
        elif suffix in _NOT_TAKEN:
            warnings.append(f"{printable(entry.name)} was not taken: it is no part of the weights.")
        elif not is_file_name(entry.name):
            warnings.append(f"{printable(entry.name)} was not taken: no file of a model may be called so.")
        else:
            taken.append(entry.name)
    if pickles:
        raise PickleRefused(folder, pickles)
    if len(taken) > MAX_FILES:
        raise ModelFolderUnusable(folder, f"it holds {len(taken):,} files", "Give a folder with one model alone.")
    if not any(all(name in taken for name in names) for names in _TOKENIZERS):
        raise NotAChatModel(folder, "the folder brings no tokenizer (tokenizer.json or tokenizer.model)")
    taken.remove(CONFIG_FILE)
    return [CONFIG_FILE, *taken], warnings


def read_folder(folder: Path, files: Sequence[SourceFile], *, weights_elsewhere: bool = False) -> HubModel:
    """Checks the opened files of a folder and says what the model is. Raises a ``ModelFileError``.

    ``weights_elsewhere``: the folder only describes a model that another server has.
    """
    by_name = {f.name: f for f in files}
    config = _json(by_name[CONFIG_FILE], _MAX_CONFIG_BYTES)
    for file in files:
        if not file.name.endswith(".safetensors") and file.size_bytes > MAX_SMALL_FILE_BYTES:
            raise ModelFolderUnusable(
                folder, f"{file.name} has {file.size_bytes:,} bytes and is no safetensors file", "Remove it."
            )
    weights = [f for f in files if f.name.endswith(".safetensors")]
    names: set[str] = set()
    elements = 0
    for file in weights:
        tensors = _read_tensors(file)
        twice = names & tensors.keys()
        if twice:
            raise CorruptHeader(file.path, f"tensor '{min(twice)}'", "stands in two files of the folder")
        names |= tensors.keys()
        elements += sum(_elements(t) for t in tensors.values())
    if not weights_elsewhere:
        _check_index(folder, by_name, names)
    tokenizer = _json(by_name["tokenizer_config.json"], _MAX_INDEX_BYTES) if "tokenizer_config.json" in by_name else {}
    return HubModel(
        architecture=_architecture(by_name[CONFIG_FILE].path, config),
        quantization=_quantization(config),
        shape=_shape(by_name[CONFIG_FILE].path, config),
        tensor_elements=elements,
        chat_template=_template(by_name, tokenizer),
        control_tokens=_added_tokens(tokenizer),
        bos_token=_token(tokenizer.get("bos_token")),
        eos_token=_token(tokenizer.get("eos_token")),
    )


def _read(file: SourceFile, limit: int) -> bytes:
    if file.size_bytes > limit:
        raise CorruptHeader(file.path, "the file", f"has {file.size_bytes:,} bytes, more than {limit:,}")
    return _read_at(file, 0, file.size_bytes)


def _read_at(file: SourceFile, offset: int, size: int) -> bytes:
    try:
        return os.pread(file.descriptor, size, offset)
    except OSError as error:
        raise unreadable(file.path, error) from error


def _json(file: SourceFile, limit: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_read(file, limit), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptHeader(file.path, "the JSON", str(error)[:200]) from error


def _read_tensors(file: SourceFile) -> dict[str, _Tensor]:
    """The table at the head of a safetensors file: 8 bytes with its length, then JSON."""
    length = int.from_bytes(_read_at(file, 0, 8), "little")
    if file.size_bytes < 10 or length > min(_MAX_HEADER_BYTES, file.size_bytes - 8):
        raise CorruptHeader(file.path, "the table of tensors", "reaches beyond the file; is the download complete?")
    raw = _read_at(file, 8, length)
    if not raw.startswith(b"{"):
        raise NotGguf(file.path, "no safetensors file either")
    try:
        entries = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        if len(entries) > _MAX_TENSORS:
            raise CorruptHeader(file.path, "the table of tensors", f"claims {len(entries):,} tensors")
        tensors = {name: msgspec.json.decode(entry, type=_Tensor) for name, entry in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptHeader(file.path, "the table of tensors", str(error)[:200]) from error
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        start, end = tensor.data_offsets
        bits = _BITS.get(tensor.dtype)
        if bits is None or min(tensor.shape, default=1) < 0:
            raise CorruptHeader(file.path, f"tensor '{name[:100]}'", f"has the unknown form {tensor.dtype[:20]}")
        if start != position or (end - start) * 8 != _elements(tensor) * bits:
            raise CorruptHeader(file.path, f"tensor '{name[:100]}'", "does not lie where it should")
        position = end
    if position != file.size_bytes - 8 - length:
        has = file.size_bytes - 8 - length
        raise CorruptHeader(file.path, "the weights", f"are {position:,} bytes, the file has {has:,}: incomplete?")
    return tensors


def _elements(tensor: _Tensor) -> int:
    elements = 1
    for side in tensor.shape:
        elements *= side
    return elements


def _check_index(folder: Path, by_name: Mapping[str, SourceFile], tensors: set[str]) -> None:
    """Every file the index names is there, under a plain name, and every tensor is in one of the files."""
    if INDEX_FILE not in by_name:
        if WEIGHTS_FILE not in by_name:
            raise ModelFolderUnusable(folder, f"it has no {WEIGHTS_FILE}", "Download the whole repository.")
        return
    weight_map = _json(by_name[INDEX_FILE], _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CorruptHeader(by_name[INDEX_FILE].path, "weight_map", "does not map tensors to files")
    wanted = sorted(set(weight_map.values()))
    for name in wanted:
        if not is_file_name(name):
            raise CorruptHeader(by_name[INDEX_FILE].path, "weight_map", f"names {printable(name)[:80]!r}")
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise ModelFolderUnusable(
            folder,
            f"{len(missing)} of {len(wanted)} files of the weights are missing ({', '.join(missing[:5])})",
            "Copy or download the whole repository again.",
            missing=missing,
        )
    lost = sorted(weight_map.keys() - tensors)
    if lost:
        raise CorruptHeader(by_name[INDEX_FILE].path, f"tensor '{lost[0][:100]}'", "is in none of the files")


def _architecture(path: Path, config: Mapping[str, Any]) -> str:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
        raise NotAChatModel(path, "it names no model_type")
    classes = config.get("architectures")
    if not isinstance(classes, list) or not any(isinstance(c, str) and c.endswith("ForCausalLM") for c in classes):
        raise NotAChatModel(path, "its architectures name no language model (...ForCausalLM)")
    return _ARCHITECTURES.get(model_type, model_type)


def _quantization(config: Mapping[str, Any]) -> str:
    """``AWQ``, ``GPTQ``, ``FP8``, ``W8A8``, ``W4A16`` ... from quantization_config, else the type of the weights."""
    settings = config.get("quantization_config")
    if isinstance(settings, dict):
        method = str(settings.get("quant_method", "unknown"))[:32]
        return _compressed(settings) if method == "compressed-tensors" else printable(method).upper()
    return _TORCH_TYPES.get(str(config.get("torch_dtype", config.get("dtype"))), "unknown")


def _compressed(settings: Mapping[str, Any]) -> str:
    groups = settings.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(weights, dict) or weights.get("num_bits") not in (4, 8):
        return "COMPRESSED"
    if weights.get("type") == "float" and weights["num_bits"] == 8:
        return "FP8"
    activations = first.get("input_activations")
    bits = activations.get("num_bits", 16) if isinstance(activations, dict) else 16
    return f"W{weights['num_bits']}A{bits if bits in (4, 8) else 16}"


def _shape(path: Path, config: Mapping[str, Any]) -> ModelShape:
    def number(name: str, default: int | None = None) -> int:
        value = config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**31:
            raise NotAChatModel(path, f"it gives no sensible {name}")
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    head_length = number("head_dim", max(hidden // heads, 1))
    return ModelShape(
        layers=number("num_hidden_layers"),
        embedding_length=hidden,
        feed_forward_length=number("intermediate_size", 4 * hidden),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        key_length=head_length,
        value_length=head_length,
        vocab_size=number("vocab_size"),
        context_length=number("max_position_embeddings"),
    )


def _template(by_name: Mapping[str, SourceFile], tokenizer: Mapping[str, Any]) -> str | None:
    if "chat_template.jinja" in by_name:
        return _read(by_name["chat_template.jinja"], _MAX_CONFIG_BYTES).decode("utf-8", errors="replace")
    template = tokenizer.get("chat_template")
    if isinstance(template, list):
        named = [t for t in template if isinstance(t, dict) and t.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None


def _added_tokens(tokenizer: Mapping[str, Any]) -> frozenset[str]:
    added = tokenizer.get("added_tokens_decoder")
    entries = added.values() if isinstance(added, dict) else ()
    return frozenset(t for t in map(_token, entries) if t)


def _token(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None
