"""Takes a bundle into the store, in this order:

1. who signed it, and whether that is trusted; unsigned ones only when asked for, which is recorded;
2. whether it fits this machine, from the manifest alone;
3. files that the store has already are linked, room for the others is claimed;
4. chunks are copied, hashed as they are written, and noted in a journal: after kill -9, a power cut or a stick pulled
   out the same command goes on where it was. A chunk that is wrong is read once more and from every copy at hand; the
   others go on, and in the end the bad ranges are named. What the store has of the content already (a damaged model
   that is imported again, another one with the same pieces) is not read from the stick;
5. the sha256 of every file as it was written, and the model's own headers against the manifest;
6. publish by one rename.

Sticks may come in any order and at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.bundle.errors import (
    BundleContradiction,
    BundleDamaged,
    BundleDoesNotFit,
    BundleError,
    BundleStickMissing,
)
from models.bundle.facts import BundleFacts, contradiction, read_facts
from models.bundle.folder import BundleFolder, OpenBundle, bundle_folders, open_bundle
from models.bundle.judge import Judgement
from models.bundle.lanes import Digest, Lane, flow
from models.bundle.manifest import BundleFile, BundleManifest, BundlePart
from models.bundle.parts import BadRange, FileReader, span
from models.bundle.stored_chunks import StoredChunks
from models.bundle.trust import TrustedKeys
from models.bundle.verify import buffer_bytes
from models.catalogue import load_catalogue
from models.errors import ModelFileError, StoreNotWritable, printable
from models.hashing import Progress, ignore_progress
from models.import_checks import TemplateCheck
from models.importer import ImportResult
from models.model_store import ModelStore
from models.store_journal import ChunkJournal, ChunkMismatch
from models.store_manifest import FileEntry, Manifest, content_sha256, licence_entry, make_id
from models.store_staging import Staging
from models.store_types import Provenance
from models.store_verify import damage_of
from models.types import Catalogue

_COMMIT_BYTES = 256 * 1024 * 1024
_MOST_LOSSES = 3
UNSIGNED_WARNING = "It came in a bundle that no trusted key had signed."


@dataclass(frozen=True, slots=True)
class UntrustedImport:
    """What is recorded when a bundle is taken that nobody vouches for. ``key_id`` is ``None`` without a signature."""

    bundle: str
    path: str
    manifest_sha256: str
    content_sha256: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class StickRequest:
    """A stick that is wanted next. ``problem`` says what was wrong with the one that was given."""

    name: str
    files: tuple[str, ...]
    missing_bytes: int
    problem: str | None = None


Audit = Callable[[UntrustedImport], None]
NextStick = Callable[[StickRequest], Path | None]
"""Gives the folder of the stick that is asked for, ``None`` to stop here and go on later."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to take a bundle. ``audit`` is called before anything is copied of a bundle that is not trusted; without
    ``judge`` nobody asks whether it fits."""

    allow_unsigned: bool = False
    audit: Audit | None = None
    judge: Callable[[BundleManifest], Judgement] | None = None
    next_stick: NextStick | None = None
    check_template: TemplateCheck | None = None
    catalogue: Catalogue | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    commit_bytes: int = _COMMIT_BYTES


def import_bundle(
    store: ModelStore,
    paths: Sequence[Path],
    keys: TrustedKeys,
    progress: Progress = ignore_progress,
    options: ImportOptions | None = None,
) -> ImportResult:
    """Imports the bundle in the folders ``paths`` (sticks, in any order; copies of one stick help each other).

    Raises a ``BundleError``, a ``ModelFileError`` (the model in it is not usable), ``ImportRunning``, ``NoSpace``,
    ``BudgetExceeded`` or ``StoreNotWritable``; whatever it is, the store's models are as they were.
    """
    options = options or ImportOptions()
    with open_bundle(paths, keys) as bundle, contextlib.ExitStack() as sticks:
        manifest = bundle.manifest
        _demand_trust(bundle, keys, options)
        _demand_fit(manifest, options)
        known = store.find_sha256(content_sha256([_entry(f) for f in manifest.files]))
        if known is not None and not damage_of(known, progress):
            return ImportResult(known, is_new=False)
        with store.resumable(f"bundle:{manifest.id}@{manifest.content_sha256[:32]}") as staging:
            copy = _Import(store, staging, bundle, progress, options, sticks)
            try:
                copy.run()
                facts = copy.check_content()
            except (BundleContradiction, ModelFileError):
                staging.discard()  # another attempt would find the same
                raise
            model, is_new = store.publish(staging, _store_manifest(bundle, facts, options))
            return ImportResult(model, is_new=is_new)


def _demand_trust(bundle: OpenBundle, keys: TrustedKeys, options: ImportOptions) -> None:
    if bundle.signer.is_trusted:
        return
    if not options.allow_unsigned:
        keys.demand(bundle.manifest.id, bundle.signer)
    if options.audit is not None:
        manifest = bundle.manifest
        path = str(bundle.folders[0].path)
        record = UntrustedImport(
            manifest.id, path, bundle.manifest_sha256, manifest.content_sha256, bundle.signer.key_id
        )
        options.audit(record)


def _demand_fit(manifest: BundleManifest, options: ImportOptions) -> None:
    judgement = options.judge(manifest) if options.judge is not None else None
    if judgement is not None and judgement.fits is False:
        raise BundleDoesNotFit(manifest.id, judgement.reason, judgement.needed_bytes, judgement.available_bytes)


class _Import:
    """One import under way."""

    def __init__(
        self,
        store: ModelStore,
        staging: Staging,
        bundle: OpenBundle,
        progress: Progress,
        options: ImportOptions,
        sticks: contextlib.ExitStack,
    ) -> None:
        self._store = store
        self._staging = staging
        self._bundle = bundle
        self._progress = progress
        self._options = options
        self._sticks = sticks
        self._done_bytes = 0
        self._losses = 0
        self._stored = StoredChunks(store)
        self._digests: dict[str, Digest] = {}

    def run(self) -> None:
        """Brings every byte of every file into the staging folder, or raises."""
        try:
            pending = self._begin()
            while pending:
                bad = [problem for file in pending for problem in self._copy(file)]
                pending, absent = self._left(pending)
                if absent:
                    self._ask_for(absent)
                elif bad:
                    total = sum(b.size_bytes for b in bad)
                    raise BundleDamaged(self._bundle.manifest.id, [str(b) for b in bad], total, kept=True)
        except OSError as error:
            raise self._store.write_error(error, self._bundle.manifest.size_bytes) from error

    def check_content(self) -> BundleFacts:
        """The model as it was written is the one of the manifest."""
        manifest = self._bundle.manifest
        facts = read_facts(
            [(self._staging.path(f.name), f.name) for f in manifest.files],
            manifest.model.format,
            named=self._bundle.folders[0].path,
            hashes={f.sha256 for f in manifest.files},
            catalogue=self._options.catalogue or load_catalogue(),
            check_template=self._options.check_template,
            title=manifest.name,
        )
        problem = contradiction(manifest, facts)
        if problem:
            raise BundleContradiction(manifest.id, problem)
        return facts

    def _begin(self) -> list[BundleFile]:
        """Links what the store has, claims room for the rest; returns the files that are to be copied."""
        pending = []
        missing = 0
        for file in self._bundle.manifest.files:
            if self._store.adopt(self._staging, file.name, file.size_bytes, file.sha256):
                self._advance(file.size_bytes)
                continue
            with self._journal(file) as journal:
                done = journal.done_bytes
            missing += file.size_bytes - done
            self._advance(done)
            pending.append(file)
        self._store.reserve(self._staging, missing)
        return pending

    def _journal(self, file: BundleFile) -> ChunkJournal:
        return self._staging.journal(file.name, file.size_bytes, file.chunk_bytes)

    def _copy(self, file: BundleFile) -> list[BadRange]:
        """Copies what is at hand and missing; returns what could not be had."""
        with FileReader(self._bundle, file) as reader, self._journal(file) as journal, Lane("bundle-sync") as syncer:
            missing = journal.missing()
            numbers = [n for n in missing if reader.is_at_hand(n) or self._stored.has(file, n)]
            digest = self._digest(file)
            if numbers != missing[: len(numbers)]:
                digest.skip()  # there will be gaps
            unsynced = 0

            def read(number: int, buffer: memoryview) -> memoryview | None:
                view = self._stored.read(file, number, buffer)
                return reader.read(number, buffer) if view is None else view

            def write(number: int, view: memoryview) -> bool:
                try:
                    journal.write(number, view, file.chunks[number])
                except ChunkMismatch:
                    return False
                return True

            def done(number: int) -> None:
                nonlocal unsynced
                length = span(file, number)[1]
                unsynced += length
                if unsynced >= self._options.commit_bytes and not syncer.is_busy:
                    unsynced = 0
                    syncer.submit(journal.commit)
                self._advance(length)

            failed = flow(numbers, buffer_bytes(file), read, write, digest, done)
            failed = [n for n in failed if not self._once_more(reader, journal, file, n)]
            syncer.wait()
            return reader.bad_ranges([n for n in failed if reader.is_at_hand(n)])

    def _once_more(self, reader: FileReader, journal: ChunkJournal, file: BundleFile, number: int) -> bool:
        view = reader.read_right(number, memoryview(bytearray(buffer_bytes(file))))
        if view is None:
            return False
        journal.write(number, view, file.chunks[number])
        self._advance(len(view))
        return True

    def _left(self, pending: list[BundleFile]) -> tuple[list[BundleFile], list[tuple[BundlePart, int]]]:
        """Files that are not finished, and parts that are wanted and not at hand, with the bytes wanted of them."""
        left = []
        absent: dict[str, tuple[BundlePart, int]] = {}
        for file in pending:
            with FileReader(self._bundle, file) as reader, self._journal(file) as journal:
                missing = journal.missing()
                if not missing and not self._finish(file, journal):
                    missing = journal.missing()
                for number in missing:
                    if not reader.is_at_hand(number):
                        part = reader.part_of(number)
                        before = absent.get(part.path, (part, 0))[1]
                        absent[part.path] = (part, before + span(file, number)[1])
            if missing:
                left.append(file)
        return left, list(absent.values())

    def _finish(self, file: BundleFile, journal: ChunkJournal) -> bool:
        """Whether the file as it was written has its sha256; if the disk has lost chunks, they are missing again."""
        journal.commit()
        if self._digest(file).finish() == file.sha256:
            return True
        del self._digests[file.name]
        wrong = journal.recheck()
        if not wrong:
            raise BundleContradiction(
                self._bundle.manifest.id, f"{file.name} does not have the sha256 that its manifest gives it"
            )
        self._done_bytes -= sum(span(file, number)[1] for number in wrong)
        self._losses += 1
        if self._losses == _MOST_LOSSES:
            raise StoreNotWritable(self._store.root, "its disk gives back other bytes than were written")
        return False

    def _ask_for(self, absent: list[tuple[BundlePart, int]]) -> None:
        """Brings one more stick into play, or raises ``BundleStickMissing``."""
        manifest = self._bundle.manifest
        numbers = sorted({part.stick for part, _ in absent})
        files = tuple(part.path for part, _ in absent if part.stick == numbers[0])
        here = sum(size for part, size in absent if part.stick == numbers[0])
        request = StickRequest(manifest.stick_name(numbers[0]), files, here)
        problem: str | None = None
        while self._options.next_stick is not None:
            path = self._options.next_stick(StickRequest(request.name, files, here, problem))
            if path is None:
                break
            try:
                if self._add(path, [part for part, _ in absent]):
                    return
                problem = f"{path} has none of the files that are missing"
            except BundleError as error:
                problem = error.message.rstrip(".")
        names = [manifest.stick_name(number) for number in numbers]
        raise BundleStickMissing(manifest.id, names, [p.path for p, _ in absent], sum(size for _, size in absent))

    def _add(self, path: Path, wanted: Sequence[BundlePart]) -> bool:
        """Adds the folders at ``path``; says whether one of them has something that is wanted."""
        useful = False
        for inside in bundle_folders(path):
            folder = self._sticks.enter_context(BundleFolder(inside))
            self._bundle.add(folder)
            useful |= any(folder.size_of(part) is not None for part in wanted)
        return useful

    def _digest(self, file: BundleFile) -> Digest:
        path = self._staging.path(file.name)

        def read(offset: int, length: int) -> bytes:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)

        if file.name not in self._digests:
            self._digests[file.name] = Digest(file.chunk_bytes, file.size_bytes, read)
        return self._digests[file.name]

    def _advance(self, size_bytes: int) -> None:
        self._done_bytes += size_bytes
        self._progress(self._done_bytes, self._bundle.manifest.size_bytes)


def _entry(file: BundleFile) -> FileEntry:
    return FileEntry(file.name, file.size_bytes, file.sha256, file.chunk_bytes, file.chunks)


def _store_manifest(bundle: OpenBundle, facts: BundleFacts, options: ImportOptions) -> Manifest:
    """What the files say of themselves goes before what the manifest says; that is believed of a trusted key alone."""
    manifest = bundle.manifest
    trusted = bundle.signer.is_trusted
    said = manifest.model if trusted and facts.model.variant is None else facts.model
    return Manifest(
        id=make_id(manifest.name, facts.model.quantization),
        name=manifest.name,
        architecture=facts.model.architecture,
        quantization=facts.model.quantization,
        parameters=facts.model.parameters,
        context_length_trained=facts.model.context_length_trained,
        has_chat_template=facts.has_chat_template,
        imported_at=options.now().astimezone(UTC).isoformat(timespec="seconds"),
        files=tuple(_entry(f) for f in manifest.files),
        provenance=Provenance("bundle", printable(bundle.folders[0].path.absolute().name), bundle=manifest.id),
        format=manifest.model.format,
        variant=said.variant,
        recognised_by=facts.recognised_by,
        profile=said.profile,
        licence=licence_entry(said.licence),
        warnings=facts.warnings if trusted else (*facts.warnings, UNSIGNED_WARNING),
    )
