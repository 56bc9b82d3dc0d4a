"""Compares a fetched file with the hash its hub promises, and mends it when they differ.

No hub publishes hashes of parts that can be asked for by range (Xet's are of pieces with other borders), so a wrong
whole tells nothing of where. What is known is the sha256 of every chunk as it arrived. So:

1. chunks whose bytes on the disk are not those that arrived are fetched again (a bad disk, a power cut);
2. else what arrived was wrong: every chunk is fetched once more, from the other hub if it has the same file, and only
   the chunks that differ are written; a second download, but not a third one for every further bad block;
3. still wrong: nothing is kept of the file, and the error says in how many chunks the two downloads differed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from models.download_errors import HashMismatch
from models.download_transfer import Source, Transfer, TransferOptions
from models.hashing import BLOCK_BYTES, Buffer, Progress, sha256_of
from models.hubs import RemoteFile
from models.store_journal import ChunkJournal

SecondSource = Callable[[RemoteFile], Source]
"""Another place to get the same file from; the same place again when there is no other."""


def verified_sha256(
    path: Path,
    source: Source,
    journal: ChunkJournal,
    second: SecondSource,
    options: TransferOptions,
    progress: Progress,
) -> str:
    """The sha256 of the file at ``path``, all chunks of which are in ``journal``, after it was found (or made) right.

    Raises ``HashMismatch`` (then the journal is empty), what ``Transfer.run`` raises, or ``OSError``.
    """
    file = source.file
    actual, wrong = _compare(path, file, progress)
    if wrong is None:
        return actual
    if journal.recheck():
        Transfer(source, journal, options, _ignore).run()
        actual, wrong = _compare(path, file, progress)
    differing: list[int] = []
    if wrong is not None:
        other = second(file)
        comparing = _Comparing(journal)
        try:
            Transfer(other, comparing, options, _ignore).run()
        finally:
            if other.wire is not source.wire:
                other.wire.close()
        differing = comparing.differing
        actual, wrong = _compare(path, file, progress)
    if wrong is None:
        return actual
    for number in range(journal.count):
        journal.drop(number)
    raise HashMismatch(file.name, wrong, actual, differing)


def _compare(path: Path, file: RemoteFile, progress: Progress) -> tuple[str, str | None]:
    """The sha256, and the promised hash that is not met."""
    actual = sha256_of(path, progress)
    if file.sha256 is not None:
        return actual, None if actual == file.sha256 else file.sha256
    if file.git_blob is not None and git_blob_of(path) != file.git_blob:
        return actual, file.git_blob
    return actual, None


def git_blob_of(path: Path) -> str:
    """The name git gives to these bytes: sha1 of ``blob SIZE\\0`` and the file. Raises ``OSError``."""
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        digest.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class _Comparing:
    """A sink that takes every chunk once more and writes those that differ from the journal's."""

    def __init__(self, journal: ChunkJournal) -> None:
        self.name = journal.name
        self.differing: list[int] = []
        self._journal = journal
        self._known = journal.hashes()
        self._left = set(range(journal.count))
        self._guard = threading.Lock()

    def missing(self) -> list[int]:
        with self._guard:
            return sorted(self._left)

    def span(self, number: int) -> tuple[int, int]:
        return self._journal.span(number)

    def write(self, number: int, data: Buffer) -> None:
        if hashlib.sha256(data).hexdigest() != self._known[number]:
            self._journal.drop(number)  # first: no line of the journal may speak for bytes that are being replaced
            self._journal.write(number, data)
            self.differing.append(number)
        with self._guard:
            self._left.discard(number)

    def drop(self, number: int) -> None:
        with self._guard:
            self._left.add(number)

    def commit(self) -> None:
        self._journal.commit()


def _ignore(_bytes: int) -> None:
    """Progress of repairs is not shown: the first download counted the bytes."""
