"""Takes a GGUF into the store, in this order:

1. open it (an ordinary file, no pointer, pipe or folder) and check its header, all before a byte is copied;
2. the same bytes already in the store: done;
3. room on the disk;
4. copy into a staging folder, hashing on the way, and fsync;
5. the source did not change meanwhile, and the copy's header is the one that was checked;
6. publish by one rename.

Whatever goes wrong, an interrupt from the keyboard included, leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.errors import (
    CorruptHeader,
    ImportSourceChanged,
    ImportSourceUnreadable,
    NoSpace,
    NotAChatModel,
    SplitModel,
    UnsupportedArchitecture,
    printable,
)
from models.gguf import GgufHeader, open_model_file, read_header, read_header_from
from models.gguf_format import known_architectures
from models.hashing import BLOCK_BYTES, Progress, ignore_progress, sha256_of_descriptor
from models.model_store import MANIFEST_SCHEMA, Manifest, ModelStore, Staging, make_id, write_error
from models.types import InstalledModel

SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk beside the model, for the manifest and everybody else."""

MAX_TEMPLATE_BYTES = 512 * 1024
"""R1's own template has about 3 kB; a huge one is an attack on whoever renders it."""

_NO_NAME = frozenset({"", "model", "ggml-model", "ggml", "gguf", "unsloth", "output", "merged", "converted"})
_MAX_NAME_LENGTH = 120


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The model in the store; ``is_new`` is false when the same bytes were there before."""

    model: InstalledModel
    is_new: bool


def check_model_file(path: Path) -> GgufHeader:
    """Reads the header of ``path`` and checks that the box can use the model. Raises a ``ModelFileError``."""
    header = read_header(path)
    check_usable(header)
    return header


def check_usable(header: GgufHeader) -> None:
    """Raises ``SplitModel``, ``UnsupportedArchitecture``, ``NotAChatModel`` or ``CorruptHeader``."""
    split = header.split
    if split is not None:
        raise SplitModel(header.path, *split)
    architecture = header.architecture
    if architecture not in known_architectures():
        raise UnsupportedArchitecture(header.path, architecture)
    if not header.tensors:
        raise NotAChatModel(header.path, "it holds no tensors")
    if not header.has_tokenizer:
        raise NotAChatModel(header.path, "it brings no tokenizer")
    shape = header.shape()
    if header.tensor("token_embd.weight") is None:
        raise NotAChatModel(header.path, "it has no token embedding")
    if header.token_count > shape.vocab_size:
        raise CorruptHeader(
            header.path,
            "tokenizer.ggml.tokens",
            f"{header.token_count:,} tokens for {shape.vocab_size:,} embedding rows",
        )
    for role in ("bos", "eos"):
        number = header.token_id(role)
        if number is not None and number >= header.token_count:
            raise CorruptHeader(header.path, f"tokenizer.ggml.{role}_token_id", f"{number} is no token")
    for name, template in header.chat_templates.items():
        if len(template.encode("utf-8", errors="replace")) > MAX_TEMPLATE_BYTES:
            raise CorruptHeader(header.path, f"chat template '{name}'", f"is longer than {MAX_TEMPLATE_BYTES:,} bytes")


def import_gguf(
    store: ModelStore,
    path: Path,
    progress: Progress = ignore_progress,
    *,
    name: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ImportResult:
    """Copies the model at ``path`` into ``store``; importing the same bytes again returns the model that is there.

    ``name`` replaces the name taken from the file. Raises a ``ModelFileError`` (what is wrong with the file),
    ``NoSpace`` or ``StoreNotWritable``.
    """
    descriptor = open_model_file(path)
    try:
        before = os.fstat(descriptor)
        header = read_header_from(descriptor, path)
        check_usable(header)
        known = _already_there(store, descriptor, path, before.st_size)
        if known is not None:
            progress(before.st_size, before.st_size)
            return ImportResult(known, is_new=False)
        free = store.free_bytes()
        if free < before.st_size + SPARE_BYTES:
            raise NoSpace(store.root, before.st_size + SPARE_BYTES, free)
        with store.staging() as staging:
            sha256 = _copy(store, staging, descriptor, path, before.st_size, progress)
            _check_unchanged(path, before, os.fstat(descriptor))
            if _facts(read_header(staging.model_path)) != _facts(header):
                raise ImportSourceChanged(path, "its header is another one now")
            manifest = _manifest(header, path, sha256, before.st_size, name, now())
            return ImportResult(*store.publish(staging, manifest))
    finally:
        os.close(descriptor)


def _already_there(store: ModelStore, descriptor: int, path: Path, size_bytes: int) -> InstalledModel | None:
    """Hashes the source first only when a model of its very size is there: reading is cheaper than copying."""
    if not store.has_size(size_bytes):
        return None
    try:
        return store.find_sha256(sha256_of_descriptor(descriptor))
    except OSError as error:
        raise _unreadable(path, error) from error


def _copy(store: ModelStore, staging: Staging, source: int, path: Path, size_bytes: int, progress: Progress) -> str:
    """Copies ``size_bytes`` in blocks and returns their sha256; one thread hashes a block while the next is copied."""
    try:
        target = os.open(staging.model_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise write_error(store, error, size_bytes) from error
    digest = hashlib.sha256()
    buffers = (memoryview(bytearray(BLOCK_BYTES)), memoryview(bytearray(BLOCK_BYTES)))
    pending: Future[None] | None = None
    done = 0
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="import-hash") as hasher:
            while True:
                buffer = buffers[done // BLOCK_BYTES % 2]
                block = buffer[: _read_block(source, path, buffer, done)]
                if not block:
                    break
                if pending is not None:
                    pending.result()
                pending = hasher.submit(digest.update, block)
                _write_block(store, target, block, size_bytes)
                done += len(block)
                progress(done, size_bytes)
            if pending is not None:
                pending.result()
        if done != size_bytes:
            raise ImportSourceChanged(path, f"{done:,} bytes were read of {size_bytes:,}")
        try:
            os.fsync(target)
        except OSError as error:
            raise write_error(store, error, size_bytes) from error
    finally:
        os.close(target)
    return digest.hexdigest()


def _read_block(source: int, path: Path, buffer: memoryview, offset: int) -> int:
    """Fills ``buffer`` unless the file ends; returns the bytes read."""
    filled = 0
    try:
        while filled < len(buffer) and (read := os.preadv(source, [buffer[filled:]], offset + filled)):
            filled += read
    except OSError as error:
        raise _unreadable(path, error) from error
    return filled


def _write_block(store: ModelStore, target: int, block: memoryview, size_bytes: int) -> None:
    try:
        while block:
            block = block[os.write(target, block) :]
    except OSError as error:
        raise write_error(store, error, size_bytes) from error


def _unreadable(path: Path, error: OSError) -> ImportSourceUnreadable:
    hint = "Check the medium it lies on; was a stick pulled out?"
    return ImportSourceUnreadable(path, error.strerror or str(error), hint)


def _check_unchanged(path: Path, before: os.stat_result, after: os.stat_result) -> None:
    if after.st_size != before.st_size:
        raise ImportSourceChanged(path, f"it had {before.st_size:,} bytes and has {after.st_size:,} now")
    if after.st_mtime_ns != before.st_mtime_ns:
        raise ImportSourceChanged(path, "it was written to")


def _facts(header: GgufHeader) -> tuple[object, ...]:
    return (header.file_bytes, header.header_bytes, dict(header.metadata), dict(header.arrays), header.tensors)


def _manifest(
    header: GgufHeader, path: Path, sha256: str, size_bytes: int, name: str | None, imported_at: datetime
) -> Manifest:
    title = _printable(name) if name else display_name(header)
    quantization = header.quantization
    return Manifest(
        schema=MANIFEST_SCHEMA,
        id=make_id(title, quantization),
        name=title,
        architecture=header.architecture,
        quantization=quantization,
        size_bytes=size_bytes,
        sha256=sha256,
        parameters=header.parameters,
        context_length_trained=header.context_length,
        has_chat_template=header.chat_template is not None,
        imported_at=imported_at.astimezone(UTC).isoformat(timespec="seconds"),
        source=_printable(path.name),
    )


def display_name(header: GgufHeader) -> str:
    """The file's name without ending and quantization, which is the name people know; ``general.name`` (often that of a
    training run) when the file is called ``model.gguf`` or the like."""
    stem = _printable(header.path.stem)
    for label in {header.quantization, *(t for t in header.bytes_by_type)}:
        cut = re.sub(rf"[-._ ]{re.escape(label)}$", "", stem, flags=re.IGNORECASE)
        if cut != stem:
            stem = cut
            break
    if stem.lower() in _NO_NAME:
        stem = _printable(header.name)
    return stem or "model"


def _printable(text: str) -> str:
    """A name without control and direction characters, bounded: it is shown on terminals and pages."""
    return printable(text).strip()[:_MAX_NAME_LENGTH]
