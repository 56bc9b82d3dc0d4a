"""Fetches one file from a hub into a chunk journal, over several connections, until nothing is missing.

How it goes:

1. missing chunks are grouped into runs; the first run is asked for alone. An answer 206 means that ranges work: the
   other runs are shared out among ``workers`` connections. An answer 200 means that they do not: one connection reads
   the file from its start and keeps what is missing.
2. a chunk goes to the journal when all of it is there; a connection that breaks costs the chunk it was in.
3. trouble that passes (broken connections, 429, 5xx, an expired signature) is waited out: ``Patience.attempts``
   failures in a row of one connection while none gains a chunk are the end, and what arrived is kept.
4. what does not look like the file (a web page, a git-LFS pointer, another length) ends it at once.

An ETag that changes on the way only counts where no hash is known: then all begins anew, once.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from models.download_errors import (
    DownloadInterrupted,
    HubAnswerUnusable,
    HubBusy,
    HubFileChanged,
    HubRefused,
    HubUnreachable,
)
from models.download_http import Wire, host_of, is_retriable, page_title, reason_of, retry_after_s, same_origin
from models.errors import GitLfsPointer, NotGguf
from models.hashing import Buffer
from models.hubs import TOKEN_VARIABLES, HubAccess, RemoteFile

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_LFS_POINTER = b"version https://git-lfs"
_LFS_SIZE = re.compile(rb"\nsize ([0-9]{1,18})\n")
_GONE = frozenset({404, 410})
_REFUSED = frozenset({401, 403})


class ChunkSink(Protocol):
    """Where chunks go: a ``ChunkJournal``, or what compares with one. Threads share it."""

    @property
    def name(self) -> str: ...
    def missing(self) -> list[int]: ...
    def span(self, number: int) -> tuple[int, int]: ...
    def write(self, number: int, data: Buffer) -> object: ...
    def drop(self, number: int) -> None: ...
    def commit(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """``run_chunks`` chunks are asked for in one request; a journal is committed every ``commit_bytes``."""

    workers: int = 4
    chunk_bytes: int = 8 * 1024 * 1024
    run_chunks: int = 8
    commit_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file is fetched from: the hub, a connection to it, and the file as the hub lists it."""

    access: HubAccess
    repository: str
    wire: Wire
    file: RemoteFile


class _Again(Exception):
    """Trouble that may pass."""

    def __init__(self, reason: str, host: str, status: int | None = None, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.host = host
        self.status = status
        self.wait_s = wait_s
        self.is_connect = False


class _NoRanges(Exception):
    """The server gives whole files alone."""


class _Changed(Exception):
    """The server gives another file than before."""


_Run = tuple[int, int]
"""First chunk and number of chunks."""


class Transfer:
    """One file on its way. ``progress`` is called with the bytes of every chunk that arrived, from any thread."""

    def __init__(
        self, source: Source, sink: ChunkSink, options: TransferOptions, progress: Callable[[int], None]
    ) -> None:
        self._source = source
        self._access = source.access
        self._sink = sink
        self._options = options
        self._progress = progress
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._runs: deque[_Run] = deque()
        self._gained = 0
        self._uncommitted_bytes = 0
        self._etags: dict[str, str] = {}
        self._storage_url: str | None = None

    def run(self) -> None:
        """Returns when all chunks are in the sink. Raises ``DownloadError``, a ``ModelFileError`` for what is no model,
        or ``OSError`` of the sink."""
        changes, has_ranges = 0, True
        while missing := self._sink.missing():
            self._stop.clear()
            try:
                if has_ranges:
                    self._fetch_all(missing)
                else:
                    self._retrying(self._fetch_whole)
            except _NoRanges:
                has_ranges = False
            except _Changed:
                changes += 1
                if changes > 1:
                    problem = "its ETag keeps changing while it is fetched"
                    raise HubFileChanged(self._source.file.name, self._access.host, problem) from None
                for number in range(-(-self._source.file.size_bytes // self._options.chunk_bytes)):
                    self._sink.drop(number)
                self._etags.clear()
        self._sink.commit()

    def _fetch_all(self, missing: list[int]) -> None:
        self._runs = deque(_grouped(missing, self._options.run_chunks))
        probe = self._runs.popleft()
        self._retrying(lambda: self._fetch(probe))
        if not self._runs:
            return
        workers = min(self._options.workers, len(self._runs))
        with ThreadPoolExecutor(workers, thread_name_prefix="pull") as pool:
            futures = [pool.submit(self._work) for _ in range(workers)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()  # the pool's end waits for the others, which stop at their next block
                raise

    def _work(self) -> None:
        """One connection: takes runs until none is left."""
        while not self._stop.is_set():
            with self._guard:
                if not self._runs:
                    return
                run = self._runs.popleft()
            self._retrying(lambda run=run: self._fetch(run))  # type: ignore[misc]

    # --- patience ----------------------------------------------------------------------------------------------------

    def _retrying(self, fetch: Callable[[], None]) -> None:
        """``fetch`` until it succeeds, or until trouble has lasted too long while nobody gained a chunk."""
        patience = self._access.patience
        failures, seen = 0, self._gained
        while not self._stop.is_set():
            try:
                fetch()
                return
            except _Again as trouble:
                failures = 1 if self._gained != seen else failures + 1
                seen = self._gained
                if failures >= patience.attempts or (trouble.wait_s or 0.0) > patience.longest_wait_s:
                    raise self._given_up(trouble) from trouble
                wait_s = patience.wait_s(failures, trouble.wait_s)
            patience.pause(self._stop, wait_s)

    def _given_up(self, trouble: _Again) -> HubBusy | HubUnreachable | DownloadInterrupted:
        if trouble.status is not None:
            return HubBusy(trouble.host, trouble.status, trouble.wait_s)
        if trouble.is_connect and self._gained == 0:
            return HubUnreachable(trouble.host, trouble.reason)
        left = sum(self._sink.span(number)[1] for number in self._sink.missing())
        return DownloadInterrupted(self._source.file.name, trouble.host, trouble.reason, left)

    # --- one request -------------------------------------------------------------------------------------------------

    def _fetch(self, run: _Run) -> None:
        """Those chunks of ``run`` that are still missing."""
        first, count = run
        wanted = set(range(first, first + count)).intersection(self._sink.missing())
        if not wanted:
            return
        first, last = min(wanted), max(wanted)
        start, end = self._sink.span(first)[0], sum(self._sink.span(last))
        self._request((start, end), first, last)

    def _fetch_whole(self) -> None:
        """The file from its start: for servers without ranges."""
        self._request(None, 0, max(self._sink.missing()))

    def _request(self, wanted: tuple[int, int] | None, first: int, last: int) -> None:
        """Asks for the bytes ``wanted`` (start, end) or for all, and takes the chunks ``first`` to ``last`` of them."""
        url = self._storage_url or self._source.file.url
        headers = {} if wanted is None else {"Range": f"bytes={wanted[0]}-{wanted[1] - 1}"}
        try:
            with self._source.wire.get(url, headers) as response:
                self._check(response, url, wanted)
                if url == self._source.file.url:
                    self._storage_url = str(response.url)
                # No block size: httpx would gather blocks of it and lose a begun one when the connection breaks.
                self._receive(response.iter_raw(), first, last, host_of(str(response.url)))
        except (httpx.TransportError, httpx.StreamError) as error:
            again = _Again(reason_of(error), host_of(url))
            again.is_connect = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
            self._forget_storage(url)
            raise again from error

    def _receive(self, blocks: Iterable[bytes], first: int, last: int, host: str) -> None:
        """Cuts what arrives into chunks, from chunk ``first`` on, and keeps those that are missing."""
        missing = set(self._sink.missing())
        buffer = bytearray()
        number = first
        for block in blocks:
            if self._stop.is_set():
                return
            if self._access.limit is not None:
                self._access.limit.take(len(block))
            buffer += block
            while number <= last and len(buffer) >= (length := self._sink.span(number)[1]):
                if number in missing:
                    self._keep(number, bytes(memoryview(buffer)[:length]), host)
                del buffer[:length]
                number += 1
            if number > last:
                return
        raise _Again("the connection ended before the file did", host)

    def _keep(self, number: int, data: bytes, host: str) -> None:
        name = self._source.file.name
        if number == 0 and name.lower().endswith(".gguf") and not data.startswith(b"GGUF"):
            self._refuse_content(data, host)
            raise NotGguf(Path(name))
        self._sink.write(number, data)
        with self._guard:
            self._gained += 1
            self._uncommitted_bytes += len(data)
            is_due = self._uncommitted_bytes >= self._options.commit_bytes
            if is_due:
                self._uncommitted_bytes = 0
        if is_due:
            self._sink.commit()
        self._progress(len(data))

    # --- what an answer means ----------------------------------------------------------------------------------------

    def _check(self, response: httpx.Response, url: str, wanted: tuple[int, int] | None) -> None:
        """Returns when the body is what was asked for."""
        file, host = self._source.file, host_of(str(response.url))
        status = response.status_code
        if status not in (200, 206):
            self._refuse_status(response, url)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise HubAnswerUnusable(host, "it packs what it sends (Content-Encoding), against the request")
        is_page = response.headers.get("Content-Type", "").lower().startswith("text/html")
        total = _total(response, 0 if wanted is None else wanted[0])
        if is_page or (total is not None and total != file.size_bytes):
            begin = next(iter(response.iter_raw(4096)), b"")
            self._refuse_content(begin, host)
            if is_page and not file.name.endswith((".html", ".htm")):
                raise HubAnswerUnusable(host, "a web page instead of the file", is_page=True)
            raise HubFileChanged(file.name, host, f"it has {total:,} bytes, {file.size_bytes:,} were listed")
        if status == 206 and total is None:
            raise _Again("it sends another part than was asked for", host)
        if status == 200 and wanted not in (None, (0, file.size_bytes)):
            raise _NoRanges
        self._check_etag(response.headers.get("ETag"), host)

    def _check_etag(self, etag: str | None, host: str) -> None:
        if etag is None or etag.startswith("W/"):
            return
        with self._guard:
            known = self._etags.setdefault(host, etag)
        if known != etag and self._source.file.sha256 is None and self._source.file.git_blob is None:
            raise _Changed

    def _refuse_status(self, response: httpx.Response, url: str) -> None:
        file, access = self._source.file, self._access
        status, host = response.status_code, host_of(str(response.url))
        if is_retriable(status):
            raise _Again(f"HTTP {status}", host, status, retry_after_s(response.headers))
        is_storage = url != file.url or not same_origin(str(response.url), access.endpoint)
        if status in _REFUSED | _GONE and is_storage:
            # A signature of the storage has run out: the hub gives a new one.
            self._forget_storage(url)
            raise _Again(f"the storage answers HTTP {status}", host)
        if status in _REFUSED:
            with_token = access.token is not None
            variable = TOKEN_VARIABLES[access.name]
            raise HubRefused(access.host, self._source.repository, status, with_token=with_token, variable=variable)
        if status in _GONE:
            raise HubFileChanged(file.name, access.host, "it is no longer there")
        if status == 416:
            raise HubFileChanged(file.name, access.host, "it is shorter than was listed")
        raise HubAnswerUnusable(host, f"HTTP {status}")

    def _forget_storage(self, url: str) -> None:
        """The hub is asked again for where the file lies, unless another connection has done so since."""
        if self._storage_url == url:
            self._storage_url = None

    def _refuse_content(self, begin: bytes, host: str) -> None:
        """Raises when these first bytes are of a web page or a git-LFS pointer."""
        if begin.startswith(_LFS_POINTER):
            size = _LFS_SIZE.search(begin)
            raise GitLfsPointer(Path(self._source.file.name), int(size[1]) if size else None)
        title = page_title(begin)
        if title is not None:
            raise HubAnswerUnusable(host, title, is_page=True)


def _total(response: httpx.Response, start: int) -> int | None:
    """Length of the whole file as the answer gives it; ``None`` when it does not, or for another part than asked."""
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start or match[3] == "*":
            return None
        return int(match[3])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _grouped(numbers: list[int], most: int) -> list[_Run]:
    """Neighbours together, at most ``most`` of them."""
    runs: list[_Run] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number and runs[-1][1] < most:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
