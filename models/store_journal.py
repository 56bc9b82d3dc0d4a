"""Which chunks of a file in a resumable import are written: an append-only journal beside the file.

    .journal/<file name>     r1box-chunks 1 <size of the file> <chunk size>
                             <number> <sha256 of the chunk> <crc32 of what precedes it in the line>
                             <number> - <crc32>                    the chunk was found wrong and counts no more

A line is appended, and fsynced, only after the chunk's own bytes were; so whatever moment a process or the power dies
at, every line that can be read is true, and at most the chunks since the last ``commit`` are written again. A torn or
strange line ends the journal: it and what follows it are cut off when the file is opened again.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from models.hashing import Buffer, Progress, ignore_progress

JOURNAL_FOLDER = ".journal"
_LINE = re.compile(rb"([0-9]{1,9}) ([0-9a-f]{64}|-) ([0-9a-f]{8})\n")
_MAX_JOURNAL_BYTES = 64 * 1024 * 1024
_FILE_MODE = 0o640


class ChunkMismatch(Exception):
    """The bytes given for a chunk are not those its hash promises; nothing was written."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"chunk {number} of {name} does not have the promised sha256")
        self.name = name
        self.number = number


class ChunkJournal:
    """One file of a resumable import, filled in chunks, in any order and by any number of threads.

    ``Staging.journal`` opens one. ``write`` puts a chunk into the file; ``commit`` makes all chunks written so far
    survive a power cut (call it every few hundred megabytes: it waits for the disk). ``close`` commits. Everything here
    may raise ``OSError``; ``ModelStore.write_error`` makes the typed error of it.
    """

    def __init__(self, data_path: Path, journal_path: Path, size_bytes: int, chunk_bytes: int) -> None:
        if size_bytes < 0 or chunk_bytes < 1:
            raise ValueError("a file has no negative size and chunks have at least one byte")
        self.name = data_path.name
        self.size_bytes = size_bytes
        self.chunk_bytes = chunk_bytes
        self.count = -(-size_bytes // chunk_bytes)
        self._hashes: dict[int, str] = {}
        self._uncommitted: dict[int, str] = {}
        self._guard = threading.Lock()
        self._end = 0
        _give_up_sharing(data_path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._data = os.open(data_path, flags, _FILE_MODE)
        try:
            self._journal = os.open(journal_path, flags, _FILE_MODE)
        except BaseException:
            os.close(self._data)
            raise
        try:
            self._recover()
        except BaseException:
            self._close_descriptors()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what is there -----------------------------------------------------------------------------------------------

    def missing(self) -> list[int]:
        """Numbers of the chunks that are still to be written, in order."""
        with self._guard:
            return [n for n in range(self.count) if n not in self._hashes and n not in self._uncommitted]

    def hashes(self) -> tuple[str, ...]:
        """sha256 of all chunks in order. Raises ``ValueError`` while one is missing."""
        with self._guard:
            known = self._hashes | self._uncommitted
        if len(known) != self.count:
            raise ValueError(f"{self.count - len(known)} chunks of {self.name} are missing")
        return tuple(known[n] for n in range(self.count))

    def span(self, number: int) -> tuple[int, int]:
        """``(offset, length)`` in bytes of a chunk; the last one may be shorter."""
        if not 0 <= number < self.count:
            raise IndexError(f"{self.name} has {self.count} chunks, no number {number}")
        offset = number * self.chunk_bytes
        return offset, min(self.chunk_bytes, self.size_bytes - offset)

    @property
    def done_bytes(self) -> int:
        """Bytes in chunks that are written."""
        with self._guard:
            return sum(self.span(n)[1] for n in self._hashes.keys() | self._uncommitted.keys())

    # --- filling -----------------------------------------------------------------------------------------------------

    def write(self, number: int, data: Buffer, sha256: str | None = None) -> str:
        """Writes a chunk and returns its sha256. Raises ``ChunkMismatch`` when another was promised, ``ValueError``
        when the length is not the chunk's."""
        offset, length = self.span(number)
        view = memoryview(data).cast("B")
        if len(view) != length:
            raise ValueError(f"chunk {number} of {self.name} has {length} bytes, {len(view)} were given")
        actual = hashlib.sha256(view).hexdigest()
        if sha256 is not None and actual != sha256:
            raise ChunkMismatch(self.name, number)
        while view:
            written = os.pwrite(self._data, view, offset)
            view, offset = view[written:], offset + written
        with self._guard:
            self._uncommitted[number] = actual
        return actual

    def commit(self) -> None:
        """Makes the chunks written so far survive a power cut: their bytes reach the disk, then their lines."""
        with self._guard:
            # Those written after this moment wait for the next commit: their bytes may come after the fdatasync.
            batch = dict(self._uncommitted)
        if not batch:
            return
        os.fdatasync(self._data)
        self._append(batch)
        with self._guard:
            self._hashes |= batch
            self._uncommitted = {n: h for n, h in self._uncommitted.items() if batch.get(n) != h}

    def drop(self, number: int) -> None:
        """A chunk turned out to be wrong: it is missing again, also after a restart."""
        self.span(number)
        with self._guard:
            self._uncommitted.pop(number, None)
            known = self._hashes.pop(number, None)
        if known is not None:
            self._append({number: "-"})

    def recheck(self, progress: Progress = ignore_progress) -> list[int]:
        """Reads all written chunks again; those whose bytes are not what was written are dropped and returned."""
        wrong = []
        with self._guard:
            known = sorted((self._hashes | self._uncommitted).items())
        for number, expected in known:
            offset, length = self.span(number)
            data = os.pread(self._data, length, offset)
            if hashlib.sha256(data).hexdigest() != expected:
                self.drop(number)
                wrong.append(number)
            progress(offset + length, self.size_bytes)
        return wrong

    def close(self) -> None:
        """Commits and closes. Twice is once."""
        if self._data >= 0:
            try:
                self.commit()
            finally:
                self._close_descriptors()

    # --- the journal itself ------------------------------------------------------------------------------------------

    def _close_descriptors(self) -> None:
        os.close(self._data)
        os.close(self._journal)
        self._data = self._journal = -1

    def _append(self, entries: dict[int, str]) -> None:
        lines = b"".join(_line(number, sha256) for number, sha256 in sorted(entries.items()))
        with self._guard:
            while lines:
                written = os.pwrite(self._journal, lines, self._end)
                lines, self._end = lines[written:], self._end + written
            os.fdatasync(self._journal)

    def _recover(self) -> None:
        head = f"r1box-chunks 1 {self.size_bytes} {self.chunk_bytes}\n".encode()
        raw = os.pread(self._journal, _MAX_JOURNAL_BYTES, 0)
        if raw.startswith(head) and os.fstat(self._data).st_size == self.size_bytes:
            self._end = len(head)
            while match := _LINE.match(raw, self._end):
                number = int(match[1])
                if number >= self.count or match[0] != _line(number, match[2].decode()):
                    break
                if match[2] == b"-":
                    self._hashes.pop(number, None)
                else:
                    self._hashes[number] = match[2].decode()
                self._end = match.end()
            os.ftruncate(self._journal, self._end)
            return
        # Another file than last time, or the first time: begin anew. The journal goes first, so that no line of it can
        # ever speak for the new file's bytes.
        os.ftruncate(self._journal, 0)
        os.fsync(self._journal)
        os.ftruncate(self._data, 0)
        os.ftruncate(self._data, self.size_bytes)
        os.fsync(self._data)
        os.pwrite(self._journal, head, 0)
        os.fsync(self._journal)
        self._end = len(head)


def _give_up_sharing(path: Path) -> None:
    """A file that was adopted from another model is that model's too: never written to, but begun anew."""
    try:
        shared = path.lstat().st_nlink > 1
    except FileNotFoundError:
        return
    if shared:
        path.unlink()


def _line(number: int, sha256: str) -> bytes:
    text = f"{number} {sha256}".encode()
    return text + f" {zlib.crc32(text):08x}\n".encode()
