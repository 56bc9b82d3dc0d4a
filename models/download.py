"""Pulls a model from a hub into the store, in this order:

1. ask the hubs, one after the other, for the repositories that may hold what is wanted; the first that has it counts,
   and its branch becomes a commit, which is recorded;
2. what the hub says is compared with the catalogue's hash of the same file, and with that of an earlier pull here: a
   file that was replaced is refused, unless its commit was named or the change accepted;
3. the same bytes in the store already: nothing is fetched; single files of them: linked;
4. room on the disk and within the store's budget for what is missing;
5. fetch into resumable staging, several ranges at a time, and compare each file's hash;
6. the checks of an import, then publish by one rename, with repository and commit in the manifest.

The staging folder's key is made of the files' hashes where they are known, so that a pull that broke off goes on from
the other hub too.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from models.catalogue import load_catalogue
from models.download_check import Origin, checked_manifest
from models.download_errors import (
    CatalogueHashConflict,
    DownloadError,
    HubAnswerUnusable,
    HubBusy,
    HubFileReplaced,
    HubUnreachable,
)
from models.download_select import Candidate, Request, pick_files
from models.download_sheet import known_sheet
from models.download_transfer import Source, Transfer, TransferOptions
from models.download_verify import verified_sha256
from models.errors import ModelFileError, printable
from models.gguf_set import part_name
from models.hubs import DEFAULT_BRANCHES, Hub, HubName, Listing, RemoteFile
from models.import_checks import TemplateCheck
from models.importer import ImportResult
from models.model_store import ModelStore
from models.store_manifest import MODEL_FILE, FileEntry, content_sha256
from models.store_staging import Staging
from models.store_types import ModelFormat
from models.types import Catalogue


@dataclass(frozen=True, slots=True)
class Choice:
    """What will be pulled, and from which hub. ``warnings`` are about the choice, not the model. ``is_free`` to be
    another file than an earlier pull's: its commit was named, or changes are accepted."""

    hub: Hub
    listing: Listing
    files: tuple[RemoteFile, ...]
    request: Request
    warnings: tuple[str, ...] = ()
    is_free: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Report(Protocol):
    """Who watches a pull. Called from several threads."""

    def transferring(self, done_bytes: int, total_bytes: int) -> None: ...
    def checking(self, done_bytes: int, total_bytes: int) -> None: ...


class Silence:
    """A report for nobody."""

    def transferring(self, done_bytes: int, total_bytes: int) -> None:
        """Says nothing."""

    def checking(self, done_bytes: int, total_bytes: int) -> None:
        """Says nothing."""


@dataclass(frozen=True, slots=True)
class PullContext:
    """What a pull works with beside the store. ``others`` are hubs that may have the same files, for repairs."""

    catalogue: Catalogue = field(default_factory=load_catalogue)
    others: Sequence[Hub] = ()
    options: TransferOptions = field(default_factory=TransferOptions)
    report: Report = field(default_factory=Silence)
    check_template: TemplateCheck | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


# --- choosing --------------------------------------------------------------------------------------------------------


def choose(hubs: Sequence[Hub], request: Request, *, accept_changed: bool = False) -> Choice:
    """The first hub and repository that has what is wanted.

    ``accept_changed``: other bytes than the catalogue's are a warning, else ``HubFileReplaced``. Raises the first
    ``DownloadError`` that says more than "not here"; ``HubUnreachable`` names the files to fetch elsewhere, as far as
    the catalogue knows them.
    """
    troubles: list[DownloadError] = []
    misses: list[DownloadError] = []
    for hub in hubs:
        for candidate in request.candidates:
            repository = candidate.names.get(hub.access.name)
            if repository is None:
                continue
            try:
                return _choice(hub, candidate, repository, request, accept_changed=accept_changed)
            except (HubUnreachable, HubBusy, HubAnswerUnusable) as error:
                troubles.append(error)
                break  # the next repository of this hub would fare no better
            except (CatalogueHashConflict, HubFileReplaced):
                raise
            except DownloadError as error:
                misses.append(error)
    cut_off = next((trouble for trouble in troubles if isinstance(trouble, HubUnreachable)), None)
    if cut_off is not None:
        sheet = known_sheet(request, {hub.access.name: hub for hub in hubs}, DEFAULT_BRANCHES)
        lines = sheet.lines() if sheet else ()
        raise HubUnreachable(str(cut_off.details["host"]), str(cut_off.details["reason"]), lines) from cut_off
    if troubles or misses:
        raise (troubles or misses)[0]
    raise HubAnswerUnusable("the hub", f"{request.title} is on none of the hubs that may be asked")


def _choice(hub: Hub, candidate: Candidate, repository: str, request: Request, *, accept_changed: bool) -> Choice:
    # A catalogue's commit is Hugging Face's; one that the operator gave is meant for whichever hub is asked.
    is_known = bool(candidate.known)
    revision = candidate.revision if hub.access.name is HubName.HUGGINGFACE or not is_known else None
    listing = hub.listing(repository, revision)
    files = pick_files(listing, request.format, request.wanted)
    warnings = _compared(listing, files, candidate, accept_changed=accept_changed)
    known = {entry.path: entry.sha256 for entry in candidate.known}
    # A mirror may list no hashes: then the catalogue's is the one to be met.
    files = tuple(replace(file, sha256=known[file.path]) if _lacks_hash(file, known) else file for file in files)
    return Choice(hub, listing, files, request, tuple(warnings), is_free=accept_changed or revision is not None)


def _lacks_hash(file: RemoteFile, known: Mapping[str, str]) -> bool:
    return file.sha256 is None and file.git_blob is None and file.path in known


def _compared(
    listing: Listing, files: Sequence[RemoteFile], candidate: Candidate, *, accept_changed: bool
) -> list[str]:
    """Warnings where the hub shows other bytes than the catalogue. Raises ``CatalogueHashConflict`` and
    ``HubFileReplaced``."""
    known = {entry.path: entry for entry in candidate.known}
    warnings = []
    for file in files:
        entry = known.get(file.path)
        if entry is None or file.sha256 in (None, entry.sha256):
            continue
        if entry.revision is not None and entry.revision == listing.revision:
            raise CatalogueHashConflict(file.name, listing.revision, entry.sha256, str(file.sha256))
        if not accept_changed:
            where = "in the catalogue"
            raise HubFileReplaced(
                file.name, listing.repository, listing.revision, entry.sha256, str(file.sha256), where=where
            )
        warnings.append(
            f"{file.name} was uploaded anew since the catalogue's entry: sha256 {entry.sha256[:16]}... then, "
            f"{str(file.sha256)[:16]}... now (revision {listing.revision[:12]})."
        )
    return warnings


# --- pulling ---------------------------------------------------------------------------------------------------------


def pull(store: ModelStore, choice: Choice, context: PullContext, *, name: str | None = None) -> ImportResult:
    """Fetches, checks and installs what was chosen; when it was interrupted before, it goes on.

    ``name`` replaces the name taken from the files. Raises ``HubFileReplaced`` when this box has other bytes of the
    same file from an earlier commit, any other ``DownloadError``, a ``ModelFileError``, ``NoSpace``,
    ``BudgetExceeded``, ``ImportRunning`` or ``StoreNotWritable``. Whatever arrived is kept for the next try, unless it
    turned out not to be a model.
    """
    named = _store_names(choice)
    existing = _installed(store, named)
    if existing is not None:
        return existing
    if not choice.is_free:
        _check_unchanged(store, choice, named)
    with store.resumable(_key(choice)) as staging:
        try:
            entries = _Pull(store, staging, choice, context, named).run()
            origin = Origin(
                hub=choice.listing.hub.value,
                repository=choice.listing.repository,
                revision=choice.listing.revision,
                first=choice.files[0].path,
                form=choice.request.format,
                variant=choice.request.variant.id if choice.request.variant else None,
            )
            manifest = checked_manifest(
                staging, entries, origin, context.catalogue, context.check_template, name, context.now()
            )
        except ModelFileError:
            staging.discard()
            raise
        except OSError as error:
            raise store.write_error(error, choice.size_bytes) from error
        model, is_new = store.publish(staging, manifest)
    return ImportResult(model, is_new)


class _Pull:
    """One pull in its staging folder."""

    def __init__(
        self,
        store: ModelStore,
        staging: Staging,
        choice: Choice,
        context: PullContext,
        named: Sequence[tuple[RemoteFile, str]],
    ) -> None:
        self._store = store
        self._staging = staging
        self._choice = choice
        self._context = context
        self._named = named
        self._done = 0
        self._guard = threading.Lock()

    def run(self) -> tuple[FileEntry, ...]:
        """The files in the staging folder, each compared with its hash."""
        chunk_bytes = self._context.options.chunk_bytes
        entries: dict[str, FileEntry] = {}
        missing = 0
        for file, name in self._named:
            if file.sha256 is not None and self._store.adopt(self._staging, name, file.size_bytes, file.sha256):
                entries[name] = FileEntry(name, file.size_bytes, file.sha256)
                self._done += file.size_bytes
                continue
            with self._staging.journal(name, file.size_bytes, chunk_bytes) as journal:
                missing += file.size_bytes - journal.done_bytes
                self._done += journal.done_bytes
        self._store.reserve(self._staging, missing)
        self._context.report.transferring(self._done, self._choice.size_bytes)
        with contextlib.closing(self._choice.hub.wire()) as wire:
            for file, name in self._named:
                if name not in entries:
                    source = Source(self._choice.hub.access, self._choice.listing.repository, wire, file)
                    entries[name] = self._fetch(source, name)
        return tuple(entries[name] for _, name in self._named)

    def _fetch(self, source: Source, name: str) -> FileEntry:
        options, file = self._context.options, source.file
        with self._staging.journal(name, file.size_bytes, options.chunk_bytes) as journal:
            Transfer(source, journal, options, self._advance).run()
            sha256 = verified_sha256(
                self._staging.path(name),
                source,
                journal,
                lambda wanted: self._second_source(source, wanted),
                options,
                self._context.report.checking,
            )
            return FileEntry(name, file.size_bytes, sha256, options.chunk_bytes, journal.hashes())

    def _advance(self, size_bytes: int) -> None:
        with self._guard:
            self._done += size_bytes
            self._context.report.transferring(self._done, self._choice.size_bytes)

    def _second_source(self, source: Source, wanted: RemoteFile) -> Source:
        """Another hub that lists the same bytes in the repository of the same name, else the same one again."""
        for hub in self._context.others:
            if hub.access.name is source.access.name or wanted.sha256 is None:
                continue
            try:
                files = hub.listing(source.repository, None).files
            except DownloadError:
                continue
            twin = next((file for file in files if file.sha256 == wanted.sha256), None)
            if twin is not None:
                return Source(hub.access, source.repository, hub.wire(), twin)
        return source


def _store_names(choice: Choice) -> list[tuple[RemoteFile, str]]:
    """Each file with its name in the store; an import names them so too."""
    count = len(choice.files)
    if choice.request.format is ModelFormat.SAFETENSORS:
        return [(file, file.name) for file in choice.files]
    if count == 1:
        return [(choice.files[0], MODEL_FILE)]
    return [(file, part_name("model", n, count)) for n, file in enumerate(choice.files, start=1)]


def _installed(store: ModelStore, named: Sequence[tuple[RemoteFile, str]]) -> ImportResult | None:
    """The model in the store that has these very bytes, as far as the hub's hashes tell."""
    content = _content(named)
    existing = store.find_sha256(content) if content is not None else None
    return ImportResult(existing, is_new=False) if existing is not None else None


def _check_unchanged(store: ModelStore, choice: Choice, named: Sequence[tuple[RemoteFile, str]]) -> None:
    """Raises ``HubFileReplaced`` when an earlier pull of the same file brought other bytes."""
    seen = _content(named)
    listing, first = choice.listing, printable(choice.files[0].name)
    for model in store.list().models if seen is not None else ():
        origin = model.provenance
        if origin is None or (origin.repository, origin.name) != (listing.repository, first):
            continue
        if origin.revision not in (None, listing.revision) and model.sha256 != seen:
            where = f"when it was pulled at revision {str(origin.revision)[:12]}"
            raise HubFileReplaced(first, listing.repository, listing.revision, model.sha256, str(seen), where=where)


def _content(named: Sequence[tuple[RemoteFile, str]]) -> str | None:
    entries = [FileEntry(name, file.size_bytes, file.sha256) for file, name in named if file.sha256 is not None]
    return content_sha256(entries) if len(entries) == len(named) else None


def _key(choice: Choice) -> str:
    content = _content(_store_names(choice))
    listing = choice.listing
    if content is not None:
        return f"pull {listing.repository}/{choice.files[0].path} sha256:{content[:16]}"
    paths = hashlib.sha256("\n".join(file.path for file in choice.files).encode()).hexdigest()[:16]
    return f"pull {listing.hub}:{listing.repository}@{listing.revision} {paths}"
