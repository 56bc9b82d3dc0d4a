"""Takes a model into the store, in this order:

1. find out what the path is, open all its files (ordinary ones, no pointer, pipe or link) and check them: headers,
   completeness of a set, tokenizer, chat template; all before a byte is copied;
2. files whose bytes are in the store already are linked instead of copied;
3. room on the disk and within the store's budget;
4. copy into a staging folder, hashing on the way, and fsync;
5. the source did not change meanwhile, and the copy's headers are the ones that were checked;
6. publish by one rename.

Whatever goes wrong, an interrupt from the keyboard included, leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from models.catalogue import load_catalogue
from models.errors import (
    CorruptHeader,
    ImportSourceChanged,
    ModelFolderUnusable,
    NotAChatModel,
    UnsupportedArchitecture,
)
from models.gguf import GgufHeader, read_header, read_header_from
from models.gguf_format import known_architectures
from models.gguf_set import combine, part_name, parts_of, prefix_of
from models.hashing import Progress, ignore_progress
from models.import_checks import TemplateCheck
from models.import_copy import Counter, copy_hashed, hole_warnings, unreadable
from models.import_safetensors import folder_files, read_folder
from models.import_source import SourceFile, SourceKind, classify, opened
from models.model_facts import ModelFacts, folder_facts, gguf_facts, manifest_of, shown_name
from models.model_store import ModelStore
from models.store_files import same_bytes
from models.store_manifest import MODEL_FILE, FileEntry, content_sha256
from models.store_staging import Staging
from models.store_types import ModelFile, Provenance
from models.types import Catalogue, InstalledModel

MAX_TEMPLATE_BYTES = 512 * 1024
"""R1's own template has about 3 kB; a huge one is an attack on whoever renders it."""

_NO_NAME = frozenset({"", "model", "ggml-model", "ggml", "gguf", "unsloth", "output", "merged", "converted"})


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The model in the store; ``is_new`` is false when the same bytes were there before."""

    model: InstalledModel
    is_new: bool


BundleImport = Callable[[ModelStore, Path, Progress], ImportResult]
"""Imports a signed bundle: the store, the bundle's folder, progress."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A checked model with its opened files; ``headers`` are those of a GGUF's parts, by their names in the store."""

    path: Path
    files: tuple[SourceFile, ...]
    facts: ModelFacts
    headers: Mapping[str, GgufHeader]

    @property
    def size_bytes(self) -> int:
        return sum(f.size_bytes for f in self.files)


def check_model_file(path: Path) -> GgufHeader:
    """Reads the header of ``path`` (all parts of a split model) and checks that the box can use it. Raises a
    ``ModelFileError``."""
    first = read_header(path)
    header = combine([read_header(part) for part in parts_of(path, first)])
    check_usable(header)
    return header


def check_usable(header: GgufHeader) -> None:
    """Raises ``UnsupportedArchitecture``, ``NotAChatModel`` or ``CorruptHeader``."""
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
    check_template: TemplateCheck | None = None,
    catalogue: Catalogue | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ImportResult:
    """Copies the GGUF at ``path`` (with all parts, if it is one of a set) into ``store``; importing the same bytes
    again returns the model that is there.

    ``name`` replaces the name taken from the file; ``catalogue`` is the package's own when not given. Raises a
    ``ModelFileError`` (what is wrong with the file), ``NoSpace``, ``BudgetExceeded`` or ``StoreNotWritable``.
    """
    with ExitStack() as stack:
        source = _open_gguf(stack, path, path, check_template)
        return _take(store, source, progress, name, catalogue or load_catalogue(), now())


def import_path(
    store: ModelStore,
    path: Path,
    progress: Progress = ignore_progress,
    *,
    name: str | None = None,
    check_template: TemplateCheck | None = None,
    import_bundle: BundleImport | None = None,
    catalogue: Catalogue | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ImportResult:
    """As ``import_gguf`` for anything that can be imported: a GGUF, a part of a split one, a folder that holds exactly
    one model (GGUF or safetensors), a signed bundle, which goes to ``import_bundle``."""
    kind, target = classify(path)
    if kind is SourceKind.BUNDLE:
        if import_bundle is None:
            raise ModelFolderUnusable(path, "it is a signed bundle", "Give the model's own files.")
        return import_bundle(store, target, progress)
    with ExitStack() as stack:
        if kind is SourceKind.GGUF:
            source = _open_gguf(stack, target, path, check_template)
        else:
            source = _open_folder(stack, target, check_template)
        return _take(store, source, progress, name, catalogue or load_catalogue(), now())


def _open_gguf(stack: ExitStack, path: Path, named: Path, check_template: TemplateCheck | None) -> _Source:
    first = stack.enter_context(opened([(path, MODEL_FILE)], named))
    paths = parts_of(path, read_header_from(first[0].descriptor, path))
    names = [MODEL_FILE] if len(paths) == 1 else [part_name("model", n + 1, len(paths)) for n in range(len(paths))]
    files = stack.enter_context(opened(list(zip(paths, names, strict=True)), named))
    headers = {f.name: read_header_from(f.descriptor, f.path) for f in files}
    header = combine(list(headers.values()))
    check_usable(header)
    facts = gguf_facts(header, path, display_name(header), (named.stem,), check_template)
    return _Source(path, files, facts, headers)


def _open_folder(stack: ExitStack, folder: Path, check_template: TemplateCheck | None) -> _Source:
    try:
        names, left = folder_files(folder)
    except OSError as error:
        raise unreadable(folder, error) from error
    files = stack.enter_context(opened([(folder / name, name) for name in names], folder))
    model = read_folder(folder, files)
    facts = folder_facts(model, folder, shown_name(folder.absolute().name) or "model", check_template)
    return _Source(folder, files, replace(facts, warnings=(*left, *facts.warnings)), {})


def _take(
    store: ModelStore,
    source: _Source,
    progress: Progress,
    name: str | None,
    catalogue: Catalogue,
    imported_at: datetime,
) -> ImportResult:
    """Steps 2 to 6 for a checked source."""
    counter = Counter(progress, source.size_bytes)
    known = {f.name: _stored(store, f, counter) for f in source.files}
    entries = {n: FileEntry(n, stored.size_bytes, stored.sha256) for n, stored in known.items() if stored}
    if len(entries) == len(source.files):
        existing = store.find_sha256(content_sha256(entries.values()))
        if existing is not None:
            counter.finish()
            return ImportResult(existing, is_new=False)
    with store.staging() as staging:
        linked = {n for n, stored in known.items() if stored and store.link(staging, n, stored)}
        rest = [f for f in source.files if f.name not in linked]
        store.reserve(staging, sum(f.size_bytes for f in rest))
        counter.begin(source.size_bytes - sum(f.size_bytes for f in rest))
        for file in rest:
            typed = partial(store.write_error, needed_bytes=source.size_bytes)
            sha256 = copy_hashed(file, staging.path(file.name), counter.at, typed)
            counter.advance(file.size_bytes)
            entries[file.name] = FileEntry(file.name, file.size_bytes, sha256)
        _check_copies(source, staging)
        files = tuple(entries[f.name] for f in source.files)
        provenance = Provenance("file", shown_name(source.path.absolute().name))
        holes = tuple(hole_warnings(source.files))
        manifest = manifest_of(source.facts, files, catalogue, provenance, imported_at, name=name, warnings=holes)
        model, is_new = store.publish(staging, manifest)
    return ImportResult(model, is_new=is_new)


def _stored(store: ModelStore, file: SourceFile, counter: Counter) -> ModelFile | None:
    """The stored file with the same bytes, if there is one. Another one of the same size costs a few blocks."""
    found = None
    for candidate in store.files_of_size(file.size_bytes):
        digest = hashlib.sha256()
        try:
            with candidate.path.open("rb") as stored:
                same = same_bytes(file.descriptor, stored.fileno(), file.size_bytes, counter.at, digest.update)
        except OSError:
            continue  # the source's own troubles come out when it is copied
        if same and digest.hexdigest() == candidate.sha256:
            found = candidate
            break
    if found:
        counter.advance(file.size_bytes)
    return found


def _check_copies(source: _Source, staging: Staging) -> None:
    """The source is as it was, and the copies' headers are the ones that were checked."""
    for file in source.files:
        file.check_unchanged()
        header = source.headers.get(file.name)
        if header is not None and _checked_parts(read_header(staging.path(file.name))) != _checked_parts(header):
            raise ImportSourceChanged(file.path, "its header is another one now")


def _checked_parts(header: GgufHeader) -> tuple[object, ...]:
    return (header.file_bytes, header.header_bytes, dict(header.metadata), dict(header.arrays), header.tensors)


def display_name(header: GgufHeader) -> str:
    """The file's name without ending, part number and quantization, which is the name people know; ``general.name``
    (often that of a training run) when the file is called ``model.gguf`` or the like."""
    stem = shown_name(prefix_of(header.path.name))
    for label in {header.quantization, *(t for t in header.bytes_by_type)}:
        cut = re.sub(rf"[-._ ]{re.escape(label)}$", "", stem, flags=re.IGNORECASE)
        if cut != stem:
            stem = cut
            break
    if stem.lower() in _NO_NAME:
        name = header.text("general.name")
        stem = shown_name(name) if name and name.strip() else stem
    return stem or "model"
