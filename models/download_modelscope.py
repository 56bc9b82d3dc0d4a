"""ModelScope: what a repository holds, through its HTTP API.

Not through its client library: ``modelscope`` brings 69 MB of training code, and the lighter ``modelscope-hub`` (0.5)
drops the commit of each file from its listings, without which a download cannot be pinned; both bring a second HTTP
stack (requests) with its own retries. The two requests it would make are these:

    GET /api/v1/models/OWNER/NAME/repo/files?Revision=R&Recursive=True  Data.Files[]: Path, Type, Size, Sha256, Revision
    GET /api/v1/models/OWNER/NAME/repo?Revision=R&FilePath=P            the bytes, or a redirect to the storage

``Revision`` takes a branch, tag or commit. A file's own ``Revision`` is the commit that last changed it, so the newest
one among a set is a commit at which all of them are as listed. Only files in the storage (LFS) are served in ranges.
"""

from __future__ import annotations

import re
import threading
from urllib.parse import quote, urlencode

import httpx
import msgspec

from models.download_errors import HubAnswerUnusable, HubBusy, HubRefused, HubUnreachable, RepositoryUnknown
from models.download_http import Wire, is_retriable, page_title, reason_of, retry_after_s
from models.hubs import DEFAULT_BRANCHES, TOKEN_VARIABLES, HubAccess, HubName, Listing, RemoteFile

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_LISTING_BYTES = 64 * 1024 * 1024
_LISTING_LIMIT = 3000
"""The API cuts a listing off there without a word. No model has so many files."""

_TOKEN_COOKIE = "m_session_id"  # noqa: S105 - the cookie's name, not a secret


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    size: int
    revision: str
    type: str = "blob"
    sha256: str | None = None
    committed: int | None = msgspec.field(default=None, name="CommittedDate")


class _Data(msgspec.Struct, frozen=True, rename="pascal"):
    files: list[_Entry]


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    data: _Data


class ModelScope:
    """One endpoint of ModelScope's protocol."""

    def __init__(self, access: HubAccess) -> None:
        self._access = access

    @property
    def access(self) -> HubAccess:
        return self._access

    def wire(self) -> Wire:
        """See ``hubs.Hub``. Older parts of the API want the token as a cookie, newer ones as a header."""
        access = self._access
        return Wire(
            access.endpoint,
            token=access.token,
            token_cookie=_TOKEN_COOKIE,
            proxy=access.proxy,
            ca_bundle=access.ca_bundle,
            timeout_s=access.timeout_s,
        )

    def file_url(self, repository: str, revision: str, path: str) -> str:
        """See ``hubs.Hub``."""
        query = urlencode({"Revision": revision, "FilePath": path})
        return f"{self._access.endpoint}/api/v1/models/{quote(repository)}/repo?{query}"

    def listing(self, repository: str, revision: str | None) -> Listing:
        """See ``hubs.Hub``."""
        branch = revision or DEFAULT_BRANCHES[HubName.MODELSCOPE]
        entries = self._entries(repository, branch)
        if len(entries) >= _LISTING_LIMIT:
            raise HubAnswerUnusable(self._access.host, f"{repository} has too many files to be listed")
        newest = max(entries, key=lambda entry: entry.committed or 0).revision
        commit = branch if _COMMIT.fullmatch(branch) else newest
        files = tuple(
            RemoteFile(
                entry.path,
                entry.size,
                self.file_url(repository, commit, entry.path),
                sha256=entry.sha256 if entry.sha256 and _SHA256.fullmatch(entry.sha256) else None,
            )
            for entry in entries
        )
        return Listing(HubName.MODELSCOPE, repository, commit, files)

    def _entries(self, repository: str, revision: str) -> list[_Entry]:
        """The files of the listing, checked; folders are left out."""
        raw = self._ask(repository, revision)
        host = self._access.host
        try:
            listed = msgspec.json.decode(raw, type=_Answer).data.files
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            what = page_title(raw)
            problem = what or f"not a list of the files of {repository}"
            raise HubAnswerUnusable(host, problem, is_page=bool(what)) from error
        entries = [entry for entry in listed if entry.type != "tree"]
        if not entries:
            raise HubAnswerUnusable(host, f"it lists no files for {repository}")
        if any(entry.size < 0 or not _COMMIT.fullmatch(entry.revision) for entry in entries):
            raise HubAnswerUnusable(host, f"it names no commit for {repository}")
        return entries

    def _ask(self, repository: str, revision: str) -> bytes:
        """The listing's bytes; over and over while the hub is busy."""
        access, patience = self._access, self._access.patience
        url = f"{access.endpoint}/api/v1/models/{quote(repository)}/repo/files"
        params = {"Revision": revision, "Recursive": "True"}
        wire = self.wire()
        never = threading.Event()
        try:
            for attempt in range(1, patience.attempts + 1):
                try:
                    with wire.get(url, params=params) as response:
                        if response.status_code == 200:
                            return _bounded(response, access.host)
                        wait_s = self._judge(response, repository, revision, attempt)
                except httpx.TransportError as error:
                    if attempt == patience.attempts or isinstance(error, httpx.ConnectError | httpx.ProxyError):
                        raise HubUnreachable(access.host, reason_of(error)) from error
                    wait_s = patience.wait_s(attempt)
                patience.pause(never, wait_s)
        finally:
            wire.close()
        raise HubBusy(access.host, 503)

    def _judge(self, response: httpx.Response, repository: str, revision: str, attempt: int) -> float:
        """Seconds to wait before the next try. Raises what cannot be waited for."""
        access, patience = self._access, self._access.patience
        status = response.status_code
        if is_retriable(status):
            asked_s = retry_after_s(response.headers)
            if attempt < patience.attempts and (asked_s is None or asked_s <= patience.longest_wait_s):
                return patience.wait_s(attempt, asked_s)
            raise HubBusy(access.host, status, asked_s)
        if status in (401, 403):
            variable = TOKEN_VARIABLES[HubName.MODELSCOPE]
            raise HubRefused(access.host, repository, status, with_token=access.token is not None, variable=variable)
        if status == 404:
            named = revision if revision != DEFAULT_BRANCHES[HubName.MODELSCOPE] else None
            raise RepositoryUnknown(access.host, repository, named)
        raise HubAnswerUnusable(access.host, f"HTTP {status}")


def _bounded(response: httpx.Response, host: str) -> bytes:
    body = bytearray()
    for block in response.iter_bytes():
        body += block
        if len(body) > _MAX_LISTING_BYTES:
            raise HubAnswerUnusable(host, "its listing is endless")
    return bytes(body)
