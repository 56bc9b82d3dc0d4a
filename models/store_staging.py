"""Folders of imports under way, and what becomes of those whose process died.

    ROOT/.staging/<16 hex>/            an import that starts anew when it is interrupted
    ROOT/.staging/resume-<32 hex>/     one that goes on: named by the hash of its key
    ROOT/.staging/<16 hex>-removed/    a model on its way out
    .lock      in each: held by the process that works in it
    .key.json  in resumable ones: the key, for people
    .reserved  bytes the import has claimed of the disk; .journal/ see ``store_journal``

Guide for whoever writes an import that resumes (a bundle, a hub)
----------------------------------------------------------------
    # The key is the identity of the source with its revision: other bytes, other key.
    with store.resumable("hub:deepseek-ai/DeepSeek-R1@0cf7856/Q8_0") as staging:
        todo = [f for f in files if not store.adopt(staging, f.name, f.size_bytes, f.sha256)]    # the same bytes are
        missing = 0                                                         # in the store already: linked, not fetched
        for file in todo:
            with staging.journal(file.name, file.size_bytes, CHUNK_BYTES) as journal:
                missing += file.size_bytes - journal.done_bytes
        store.reserve(staging, missing)                     # NoSpace or BudgetExceeded before a byte is written
        for file in todo:
            with staging.journal(file.name, file.size_bytes, CHUNK_BYTES) as journal:
                for number in journal.missing():
                    offset, length = journal.span(number)
                    journal.write(number, fetch(file, offset, length), expected_sha256_or_None)
                    if enough_since_the_last_one:
                        journal.commit()
        ... hash each file whole (hashing.sha256_of(staging.path(name))); journal.drop(number) what is wrong ...
        model, is_new = store.publish(staging, manifest)

* ``resumable`` raises ``ImportRunning`` when the same key is being worked on, in this process or another.
* Leaving the block without ``publish``, by whatever exception or kill -9, keeps the folder; ``staging.discard()``
  throws it away (a source that turned out to be wrong). Folders nobody worked on for 14 days go when the store is
  opened.
* ``publish`` checks that every file of the manifest is there with its size, fsyncs them, and removes the rest. It does
  not hash: the caller has.
* ``adopt`` replaces a file of that name that is staged already, so it comes first; a journal never writes to an adopted
  file, it begins that file anew.
* A file name is one word (``store_manifest.is_file_name``): no folders. Split GGUFs keep ``...-00001-of-0000N.gguf``.
* An ``OSError`` while writing becomes a typed error with ``store.write_error(error, needed_bytes)``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from models.errors import ImportRunning
from models.store_files import DIR_MODE, is_held, take_lock, write_file, written_bytes
from models.store_journal import JOURNAL_FOLDER, ChunkJournal
from models.store_manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, MODEL_FILE, is_file_name
from models.store_types import Unfinished

STAGING = ".staging"
LOCK_FILE = ".lock"
KEY_FILE = ".key.json"
RESERVED_FILE = ".reserved"
REMOVED = "-removed"
EXPIRY_S = 14 * 24 * 3600.0
_RESUME = "resume-"
_MAX_KEY_CHARS = 4096


class _Key(msgspec.Struct, frozen=True):
    key: str


class Staging:
    """A folder of an import under way. Made by ``ModelStore.staging`` and ``ModelStore.resumable``."""

    def __init__(self, folder: Path, lock: int, key: str | None = None) -> None:
        self.folder = folder
        self.key = key
        self._lock = lock
        self._keep = key is not None

    def path(self, name: str) -> Path:
        """Where a file of the model is to be written. Raises ``ValueError`` for a name the store does not take."""
        if not is_file_name(name):
            raise ValueError(f"no name for a file of a model: {name!r}")
        return self.folder / name

    @property
    def model_path(self) -> Path:
        """Where the file of a model of one file is to be written."""
        return self.folder / MODEL_FILE

    def journal(self, name: str, size_bytes: int, chunk_bytes: int) -> ChunkJournal:
        """Opens (or goes on with) the file ``name``, filled chunk by chunk. A size or chunk size other than last time
        begins it anew. Raises ``OSError``."""
        path = self.path(name)
        journals = self.folder / JOURNAL_FOLDER
        journals.mkdir(mode=DIR_MODE, exist_ok=True)
        self.touch()
        return ChunkJournal(path, journals / name, size_bytes, chunk_bytes)

    def touch(self) -> None:
        """Says that the import is alive: its expiry counts from now."""
        os.utime(self._lock)

    def discard(self) -> None:
        """Nothing of a resumable import is worth keeping: it goes when the block is left."""
        self._keep = False

    def close(self) -> None:
        """Lets the lock go, after removing the folder unless it is to be resumed. Never raises for what is not
        there."""
        if self._lock < 0:
            return
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def published(self) -> None:
        """The folder has become a model: another of its name is not ours."""
        self._keep = True


def resume_folder(root: Path, key: str) -> Path:
    """The folder of a resumable import. Raises ``ValueError`` for an empty or endless key."""
    if not 1 <= len(key) <= _MAX_KEY_CHARS:
        raise ValueError("the key of an import has 1 to 4096 characters")
    return root / STAGING / f"{_RESUME}{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def open_resumable(root: Path, key: str) -> Staging:
    """Makes or takes the folder of ``key``; called under the store's lock. Raises ``ImportRunning`` or ``OSError``."""
    folder = resume_folder(root, key)
    folder.mkdir(mode=DIR_MODE, exist_ok=True)
    try:
        lock = take_lock(folder / LOCK_FILE)
    except BlockingIOError as error:
        raise ImportRunning(key) from error
    staging = Staging(folder, lock, key)
    try:
        if not (folder / KEY_FILE).exists():
            write_file(folder / f"{KEY_FILE}.new", msgspec.json.encode(_Key(key)))
            (folder / f"{KEY_FILE}.new").replace(folder / KEY_FILE)
        staging.touch()
    except BaseException:
        staging.close()
        raise
    return staging


def read_key(folder: Path) -> str | None:
    """The key of a resumable folder, ``None`` when it is none or damaged."""
    if not folder.name.startswith(_RESUME):
        return None
    try:
        key = msgspec.json.decode((folder / KEY_FILE).read_bytes()[: 8 * _MAX_KEY_CHARS], type=_Key).key
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return key if resume_folder(folder.parent.parent, key) == folder else None


def age_s(folder: Path, now: float) -> float:
    """Seconds since an import was last worked on. A time in the future (a clock that was set back) becomes now."""
    try:
        last = (folder / LOCK_FILE).stat().st_mtime
    except OSError:
        return 0.0
    if last > now:
        os.utime(folder / LOCK_FILE, (now, now))
        return 0.0
    return now - last


def unfinished(root: Path, now: float) -> Iterator[Unfinished]:
    """The resumable imports that are there."""
    for folder in sorted((root / STAGING).glob(f"{_RESUME}*")):
        key = read_key(folder)
        if key is not None:
            yield Unfinished(key, written_bytes(folder), age_s(folder, now), is_held(folder / LOCK_FILE))


def reserve(staging: Staging, needed_bytes: int) -> None:
    """Notes that the import will write ``needed_bytes`` more. Raises ``OSError``."""
    write_file(staging.folder / RESERVED_FILE, str(needed_bytes + written_bytes(staging.folder)).encode())


def outstanding_bytes(root: Path, besides: Path | None = None) -> int:
    """What living imports have claimed and not yet written."""
    total = 0
    for folder in (root / STAGING).iterdir():
        if folder == besides or not is_held(folder / LOCK_FILE):
            continue
        try:
            claimed = int((folder / RESERVED_FILE).read_bytes()[:32])
        except (OSError, ValueError):
            continue
        total += max(claimed - written_bytes(folder), 0)
    return total


def remove_dead(root: Path, now: float) -> list[Path]:
    """Removes what dead imports left, and returns the folders that are complete but were not yet published.

    Runs under the store's lock, under which staging folders are made and locked: one without a held lock is dead.
    Resumable ones stay until they expire.
    """
    complete = []
    for entry in sorted((root / STAGING).iterdir()):
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink(missing_ok=True)
        elif entry.name.endswith(REMOVED):
            shutil.rmtree(entry, ignore_errors=True)
        elif is_held(entry / LOCK_FILE):
            continue
        elif (entry / MANIFEST_FILE).is_file() and (entry / MANIFEST_FILE).stat().st_size <= MAX_MANIFEST_BYTES:
            complete.append(entry)
        elif read_key(entry) is None or age_s(entry, now) > EXPIRY_S:
            shutil.rmtree(entry, ignore_errors=True)
    return complete
