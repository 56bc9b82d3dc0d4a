"""Reads the header of a GGUF file and trusts nothing in it.

Every count, length and offset is bounded before it is used and compared with the file's size; memory stays under about
70 MB and time under ``READ_TIME_LIMIT_S`` whatever the bytes say. The file is read with ``pread`` and never mapped: a
stick pulled out under a mapping would kill the process with SIGBUS. The checks are those of llama.cpp's own reader
(ggml gguf.cpp) or stricter, so that what passes here does not fail there for its header's sake.
"""

from __future__ import annotations

import os
import re
import stat
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

from models import gguf_format as fmt
from models.errors import (
    CorruptHeader,
    GgufTruncated,
    GitLfsPointer,
    ImportSourceUnreadable,
    NotGguf,
    UnsupportedGgufVersion,
    UnsupportedTensorType,
)
from models.gguf_cursor import Cursor
from models.gguf_header import ArrayRef, GgufHeader, Scalar, TensorInfo, Value

__all__ = ["ArrayRef", "GgufHeader", "TensorInfo", "open_model_file", "read_header", "read_token_types", "read_tokens"]

_TOKENS = "tokenizer.ggml.tokens"
_TYPES_OF_TOKENS = "tokenizer.ggml.token_type"
_LFS_PREFIX = b"version https://git-lfs.github.com/spec/"
_LFS_SIZE = re.compile(rb"^size ([0-9]{1,18})$", re.MULTILINE)
_SPECIAL_ROLES = ("bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "cls", "mask")
"""``seperator`` is how the format spells it."""


def open_model_file(path: Path, *, follow: bool = True) -> int:
    """Opens an ordinary file for reading and returns its descriptor, which the caller closes.

    Never blocks on a pipe or device; ``follow`` says whether ``path`` may be a link. Raises ``ImportSourceUnreadable``.
    """
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise ImportSourceUnreadable(path, "there is no such file", "Check the path.") from error
    except (PermissionError, IsADirectoryError) as error:
        raise ImportSourceUnreadable(
            path, error.strerror or "not allowed", "Check the file's owner and mode."
        ) from error
    except (OSError, ValueError) as error:
        raise ImportSourceUnreadable(path, str(error), "Check the path and the medium.") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    what = "it is a folder" if stat.S_ISDIR(mode) else "it is not an ordinary file"
    raise ImportSourceUnreadable(path, what, "Give the .gguf file itself.")


def read_header(path: Path, *, clock: Callable[[], float] = time.monotonic) -> GgufHeader:
    """Reads and checks the header of ``path``.

    Raises ``ImportSourceUnreadable``, ``NotGguf``, ``GitLfsPointer``, ``UnsupportedGgufVersion``, ``GgufTruncated``,
    ``UnsupportedTensorType`` or ``CorruptHeader``.
    """
    descriptor = open_model_file(path)
    try:
        return read_header_from(descriptor, path, clock=clock)
    finally:
        os.close(descriptor)


def read_header_from(descriptor: int, path: Path, *, clock: Callable[[], float] = time.monotonic) -> GgufHeader:
    """As ``read_header``, from an open file; ``path`` names it in errors. Does not move the descriptor's position."""
    cursor = Cursor(descriptor, path, clock)
    version = _read_preamble(cursor)
    tensor_count = cursor.count("tensor count", fmt.MAX_TENSORS)
    entry_count = cursor.count("metadata entry count", fmt.MAX_METADATA_ENTRIES)
    metadata, arrays, token_offsets = _read_metadata(cursor, entry_count)
    alignment = _alignment(cursor.path, metadata)
    raw_tensors = _read_tensor_table(cursor, tensor_count)
    data_start = _align(cursor.position, alignment)
    tensors = _place_tensors(cursor, raw_tensors, data_start, alignment)
    return GgufHeader(
        path=path,
        version=version,
        file_bytes=cursor.file_bytes,
        header_bytes=data_start,
        alignment=alignment,
        metadata=MappingProxyType(metadata),
        arrays=MappingProxyType(arrays),
        tensors=tensors,
        special_tokens=MappingProxyType(_special_tokens(cursor, metadata, token_offsets)),
    )


def read_tokens(header: GgufHeader) -> list[str]:
    """All token texts in the order of their ids, read from the file again. Raises what ``read_header`` raises."""
    return [v for v in _read_array(header, _TOKENS, fmt.STRING) if isinstance(v, str)]


def read_token_types(header: GgufHeader) -> list[int]:
    """Type of each token (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte); empty when not given."""
    return [v for v in _read_array(header, _TYPES_OF_TOKENS, 5) if isinstance(v, int)]


def _read_array(header: GgufHeader, key: str, element_type: int) -> Sequence[Scalar]:
    inline = header.metadata.get(key)
    if isinstance(inline, tuple):
        return inline
    reference = header.arrays.get(key)
    if reference is None:
        return ()
    if reference.element_type != element_type:
        raise CorruptHeader(header.path, key, "the list holds values of another type", reference.offset)
    descriptor = open_model_file(header.path)
    try:
        cursor = Cursor(descriptor, header.path)
        cursor.position = reference.offset
        return cursor.values(reference.element_type, reference.count, key)
    finally:
        os.close(descriptor)


def _read_preamble(cursor: Cursor) -> int:
    """Magic and version. Recognises what people hand in by mistake."""
    first = _peek(cursor, 512)
    if first[:4] != fmt.MAGIC:
        if first.startswith(_LFS_PREFIX):
            size = _LFS_SIZE.search(first)
            raise GitLfsPointer(cursor.path, int(size.group(1)) if size else None)
        raise NotGguf(cursor.path, _looks_like(first))
    cursor.position = 4
    version = cursor.u32("version")
    if version in fmt.READABLE_VERSIONS:
        return version
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    big_endian = swapped in fmt.READABLE_VERSIONS
    raise UnsupportedGgufVersion(cursor.path, swapped if big_endian else version, big_endian=big_endian)


def _peek(cursor: Cursor, size: int) -> bytes:
    first = cursor.take(min(size, cursor.file_bytes), "beginning")
    cursor.position = 0
    return first


def _looks_like(first: bytes) -> str | None:
    if not first:
        return "an empty file"
    if first.startswith((b"lmgg", b"tjgg", b"algg", b"fmgg", b"ggml")):
        return "a GGML file from before GGUF (2023)"
    if first.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "a PyTorch file"
    if first[8:10] == b'{"' and int.from_bytes(first[:8], "little") < 2**32:
        return "a safetensors file"
    if first.lstrip()[:15].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, saved instead of the file"
    if not any(first):
        return "a file of zeros, perhaps an unfinished download"
    return None


def _read_metadata(cursor: Cursor, entry_count: int) -> tuple[dict[str, Value], dict[str, ArrayRef], array[int] | None]:
    metadata: dict[str, Value] = {}
    arrays: dict[str, ArrayRef] = {}
    token_offsets: array[int] | None = None
    for number in range(entry_count):
        offset = cursor.position
        cursor.check_time(f"metadata entry {number}")
        key = cursor.text(f"name of metadata entry {number}", fmt.MAX_KEY_BYTES)
        if not key:
            raise CorruptHeader(cursor.path, f"metadata entry {number}", "has no name", offset)
        if key in metadata or key in arrays:
            raise CorruptHeader(cursor.path, key, "stands twice", offset)
        value_type = cursor.u32(f"type of {key}")
        if value_type == fmt.STRING:
            metadata[key] = cursor.text(key, fmt.MAX_STRING_BYTES)
        elif value_type in fmt.NUMBER_FORMATS:
            metadata[key] = cursor.number(value_type, key)
        elif value_type == fmt.ARRAY:
            offsets: array[int] | None = array("Q") if key == _TOKENS else None
            entry = _read_array_entry(cursor, key, offsets)
            if isinstance(entry, ArrayRef):
                arrays[key] = entry
                token_offsets = offsets if offsets is not None else token_offsets
            else:
                metadata[key] = entry
        else:
            raise CorruptHeader(cursor.path, key, f"has the unknown value type {value_type}", offset)
    return metadata, arrays, token_offsets


def _read_array_entry(cursor: Cursor, key: str, offsets: array[int] | None) -> ArrayRef | tuple[Scalar, ...]:
    element_type = cursor.u32(f"element type of {key}")
    count_offset = cursor.position
    count = cursor.u64(f"length of {key}")
    if element_type == fmt.STRING:
        element_bytes = 8
    elif element_type in fmt.NUMBER_FORMATS:
        element_bytes = fmt.NUMBER_FORMATS[element_type].size
    else:
        raise CorruptHeader(cursor.path, key, f"is a list of the unknown type {element_type}", count_offset)
    if count * element_bytes > fmt.MAX_HEADER_BYTES or (element_type == fmt.STRING and count > fmt.MAX_ARRAY_STRINGS):
        raise CorruptHeader(cursor.path, key, f"claims {count:,} elements, more than can be there", count_offset)
    if cursor.position + count * element_bytes > cursor.file_bytes:
        raise GgufTruncated(cursor.path, cursor.position + count * element_bytes, cursor.file_bytes, key)
    start = cursor.position
    if count <= fmt.MAX_INLINE_ELEMENTS:
        return cursor.values(element_type, count, key)
    if element_type == fmt.STRING:
        cursor.skip_strings(count, key, offsets)
    else:
        cursor.skip(count * element_bytes, key)
    return ArrayRef(element_type=element_type, count=count, offset=start)


def _alignment(path: Path, metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", fmt.DEFAULT_ALIGNMENT)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CorruptHeader(path, "general.alignment", "should be a whole number")
    if not 1 <= value <= fmt.MAX_ALIGNMENT or value & (value - 1):
        raise CorruptHeader(path, "general.alignment", f"{value} is no power of two up to {fmt.MAX_ALIGNMENT:,}")
    return value


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


_RawTensor = tuple[str, tuple[int, ...], fmt.TensorType, int, int]
"""Name, shape, type, offset within the data section, size in bytes."""


def _read_tensor_table(cursor: Cursor, tensor_count: int) -> list[_RawTensor]:
    tensors: list[_RawTensor] = []
    names: set[str] = set()
    for number in range(tensor_count):
        start = cursor.position
        cursor.check_time(f"tensor {number}")
        name = cursor.text(f"name of tensor {number}", fmt.MAX_TENSOR_NAME_BYTES)
        field = f"tensor '{name}'"
        if name in names:
            raise CorruptHeader(cursor.path, field, "stands twice", start)
        names.add(name)
        dimension_count = cursor.u32(f"dimensions of {field}")
        if dimension_count > fmt.MAX_DIMENSIONS:
            raise CorruptHeader(cursor.path, field, f"has {dimension_count} dimensions", start)
        shape = tuple(cursor.u64(f"shape of {field}") for _ in range(dimension_count))
        type_id = cursor.u32(f"type of {field}")
        offset = cursor.u64(f"offset of {field}")
        tensor_type = fmt.TENSOR_TYPES.get(type_id)
        if tensor_type is None:
            raise UnsupportedTensorType(cursor.path, name, type_id)
        tensors.append((name, shape, tensor_type, offset, _tensor_bytes(cursor, field, shape, tensor_type, start)))
    return tensors


def _tensor_bytes(cursor: Cursor, field: str, shape: tuple[int, ...], tensor_type: fmt.TensorType, start: int) -> int:
    elements = 1
    for length in shape:
        if length == 0 or length >= 2**63:
            raise CorruptHeader(cursor.path, field, f"has a side of {length:,} elements", start)
        elements *= length
    row = shape[0] if shape else 1
    if row % tensor_type.block_elements:
        raise CorruptHeader(cursor.path, field, f"rows of {row:,} are not whole {tensor_type.name} blocks", start)
    return elements // tensor_type.block_elements * tensor_type.block_bytes


def _place_tensors(
    cursor: Cursor, raw_tensors: list[_RawTensor], data_start: int, alignment: int
) -> tuple[TensorInfo, ...]:
    """Checks that the tensors follow each other without gap or overlap (llama.cpp asks for it) and end in the file."""
    expected = 0
    tensors: list[TensorInfo] = []
    for name, shape, tensor_type, offset, size in raw_tensors:
        if offset != expected:
            raise CorruptHeader(cursor.path, f"tensor '{name}'", f"begins at {offset:,} instead of {expected:,}")
        tensors.append(TensorInfo(name, shape, tensor_type.name, data_start + offset, size))
        expected = _align(offset + size, alignment)
    if tensors:
        last = tensors[-1]
        end = last.offset + last.size_bytes
        if end > cursor.file_bytes:
            first_lost = next(t for t in tensors if t.offset + t.size_bytes > cursor.file_bytes)
            raise GgufTruncated(cursor.path, end, cursor.file_bytes, f"the model data (from '{first_lost.name}' on)")
    return tuple(tensors)


def _special_tokens(cursor: Cursor, metadata: dict[str, Value], offsets: array[int] | None) -> dict[int, str]:
    """Texts of the tokens whose ids the metadata name."""
    inline = metadata.get(_TOKENS)
    found: dict[int, str] = {}
    for role in _SPECIAL_ROLES:
        number = metadata.get(f"tokenizer.ggml.{role}_token_id")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            continue
        if isinstance(inline, tuple) and number < len(inline):
            text = inline[number]
            if isinstance(text, str):
                found[number] = text
        elif offsets is not None and number < len(offsets):
            cursor.position = offsets[number]
            found[number] = cursor.text(f"token {number}", fmt.MAX_STRING_BYTES)
    return found
