"""A hub on this machine that speaks the protocols of Hugging Face and ModelScope, with a storage of its own beside it.

The storage is a second server on another port, another origin, as the hubs' storage networks are: large (LFS) files are
redirected there with a signature in the address. Both note every request; ``answer`` decides what goes wrong with one.
Shapes: huggingface_hub 2.4 (hf_api.py, file_download.py) and modelscope-hub 0.5 (_legacy_api.py, _download.py).
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
_BLOCK_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one answer. ``drop_after``: the connection breaks after so many bytes of the body.
    ``flip_at``: that byte of the file is wrong. ``hold``: nothing is sent until it is set."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    drop_after: int | None = None
    flip_at: int | None = None
    no_range: bool = False
    total: int | None = None
    etag: str | None = None
    hold: threading.Event | None = None


NO_FAULT = Fault()


@dataclass(slots=True)
class Seen:
    """A request as it came, and the bytes of body that were sent for it."""

    server: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    number: int
    sent_bytes: int = 0

    @property
    def range(self) -> tuple[int, int] | None:
        """First and last byte asked for."""
        value = self.headers.get("range")
        if value is None:
            return None
        first, last = value.removeprefix("bytes=").split("-")
        return int(first), int(last)


@dataclass(slots=True)
class Repository:
    """Files at ``commit``; those with more than ``lfs_from`` bytes lie in the storage."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    lfs_from: int = 100_000
    hashes: dict[str, str] = field(default_factory=dict)
    """Hashes that are listed instead of the right ones."""
    sizes: dict[str, int] = field(default_factory=dict)

    def sha256(self, path: str) -> str:
        return self.hashes.get(path) or hashlib.sha256(self.files[path]).hexdigest()

    def size(self, path: str) -> int:
        return self.sizes.get(path, len(self.files[path]))


class FakeHub:
    """Both servers. ``answer`` is asked for every request (``seen.server`` is hub or storage) and may make a fault."""

    def __init__(
        self, token: str | None = None, *, tls: ssl.SSLContext | None = None, storage_tls: bool = True
    ) -> None:
        self.token = token
        self._scheme = "http" if tls is None else "https"
        self._storage_scheme = self._scheme if storage_tls else "http"
        self.repositories: dict[str, Repository] = {}
        self.seen: list[Seen] = []
        self.answer: Callable[[Seen], Fault] = lambda _seen: NO_FAULT
        self._guard = threading.Lock()
        self._hub = _server(self, "hub")
        self._storage = _server(self, "storage")
        self._threads: list[threading.Thread] = []
        for server in (self._hub, self._storage) if storage_tls else (self._hub,):
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._hub.server_address[1]}"

    @property
    def storage_url(self) -> str:
        return f"{self._storage_scheme}://127.0.0.1:{self._storage.server_address[1]}"

    def __enter__(self) -> Self:
        for server in (self._hub, self._storage):
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def add(self, name: str, files: Mapping[str, bytes], **changes: Any) -> Repository:
        repository = Repository(dict(files), **changes)
        self.repositories[name] = repository
        return repository

    def at(self, server: str) -> list[Seen]:
        """Requests to ``hub`` or ``storage``, in order."""
        with self._guard:
            return [seen for seen in self.seen if seen.server == server]

    @property
    def sent_bytes(self) -> int:
        """Bytes of files that left the storage."""
        return sum(seen.sent_bytes for seen in self.at("storage"))

    def note(self, server: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Seen:
        with self._guard:
            number = sum(1 for seen in self.seen if seen.server == server) + 1
            seen = Seen(server, path, query, headers, number)
            self.seen.append(seen)
            return seen


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about; anything else is told as usual."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


def _server(hub: FakeHub, name: str) -> ThreadingHTTPServer:
    return _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub, "server_label": name}))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    server_label: str

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = self.hub.note(self.server_label, unquote(parts.path), query, headers)
        fault = self.hub.answer(seen)
        if fault.hold is not None:
            fault.hold.wait(60)
        try:
            if fault.status is not None:
                self._send(seen, fault.status, dict(fault.headers), fault.body or b"", fault)
            elif self.server_label == "storage":
                self._blob(seen, fault)
            elif seen.path.startswith("/api/v1/models/"):
                self._modelscope(seen, fault)
            elif seen.path.startswith("/api/models/"):
                self._model_info(seen, fault)
            else:
                self._resolve(seen, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # --- Hugging Face ------------------------------------------------------------------------------------------------

    def _model_info(self, seen: Seen, fault: Fault) -> None:
        name, _, revision = seen.path.removeprefix("/api/models/").partition("/revision/")
        repository = self._repository(seen, name, fault)
        if repository is None:
            return
        if revision not in ("main", "", repository.commit):
            self._send(seen, 404, {"X-Error-Code": "RevisionNotFound"}, b"{}", fault)
            return
        siblings = []
        for path, data in repository.files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": repository.size(path), "blobId": git_blob(data)}
            if len(data) > repository.lfs_from:
                entry["lfs"] = {
                    "sha256": repository.sha256(path),
                    "size": repository.size(path),
                    "pointerSize": 134,
                }
            siblings.append(entry)
        answer = {"_id": "1", "id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}
        self._json(seen, answer, fault)

    def _resolve(self, seen: Seen, fault: Fault) -> None:
        name, _, rest = seen.path.lstrip("/").partition("/resolve/")
        repository = self._repository(seen, name, fault)
        if repository is None:
            return
        revision, _, path = rest.partition("/")
        if revision not in ("main", repository.commit) or path not in repository.files:
            self._send(seen, 404, {"X-Error-Code": "EntryNotFound"}, b"", fault)
            return
        self._file(seen, repository, path, fault, ranges=True)

    # --- ModelScope --------------------------------------------------------------------------------------------------

    def _modelscope(self, seen: Seen, fault: Fault) -> None:
        name = seen.path.removeprefix("/api/v1/models/").rpartition("/repo")[0]
        repository = self._repository(seen, name, fault)
        if repository is None:
            return
        if seen.query.get("Revision") not in ("master", repository.commit):
            self._json(seen, {"Code": 10010205001, "Message": "not found", "Success": False}, fault, status=404)
            return
        if seen.path.endswith("/repo"):
            self._file(seen, repository, seen.query["FilePath"], fault, ranges=False)
            return
        files: list[dict[str, Any]] = [
            {
                "Name": path.rpartition("/")[2],
                "Path": path,
                "Type": "blob",
                "Size": repository.size(path),
                "Sha256": repository.sha256(path),
                "Revision": repository.commit if place == 0 else OLDER_COMMIT,
                "CommittedDate": 1_740_000_000 - place,
                "IsLFS": len(data) > repository.lfs_from,
            }
            for place, (path, data) in enumerate(repository.files.items())
        ]
        folder = {"Name": "f", "Path": "f", "Type": "tree", "Size": 0, "Revision": OLDER_COMMIT, "Sha256": ""}
        self._json(seen, {"Code": 200, "Data": {"Files": [folder, *files]}, "Success": True}, fault)

    # --- both --------------------------------------------------------------------------------------------------------

    def _repository(self, seen: Seen, name: str, fault: Fault) -> Repository | None:
        repository = self.hub.repositories.get(name)
        may = self.hub.token is None or seen.headers.get("authorization") == f"Bearer {self.hub.token}"
        if repository is None:
            status = 404 if seen.path.startswith("/api/v1/") or may else 401
            self._send(seen, status, {"X-Error-Code": "RepoNotFound"}, b"{}", fault)
            return None
        if repository.gated and not (may and self.hub.token):
            self._send(seen, 401, {"X-Error-Code": "GatedRepo"}, b"{}", fault)
            return None
        return repository

    def _file(self, seen: Seen, repository: Repository, path: str, fault: Fault, *, ranges: bool) -> None:
        data = repository.files[path]
        if len(data) <= repository.lfs_from:
            self._bytes(seen, data, fault, '"' + git_blob(data) + '"', ranges=ranges)
            return
        location = f"{self.hub.storage_url}/blobs/{hashlib.sha256(data).hexdigest()}?signature=s3cr3t"
        headers = {
            "Location": location,
            "X-Repo-Commit": repository.commit,
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{repository.sha256(path)}"',
        }
        self._send(seen, 302, headers, b"", fault)

    def _blob(self, seen: Seen, fault: Fault) -> None:
        digest = seen.path.rpartition("/")[2]
        for repository in self.hub.repositories.values():
            for data in repository.files.values():
                if hashlib.sha256(data).hexdigest() == digest:
                    self._bytes(seen, data, fault, f'"{digest}"', ranges=True)
                    return
        self._send(seen, 404, {}, b"", fault)

    def _bytes(self, seen: Seen, data: bytes, fault: Fault, etag: str, *, ranges: bool) -> None:
        if fault.flip_at is not None:
            data = data[: fault.flip_at] + bytes([data[fault.flip_at] ^ 0xFF]) + data[fault.flip_at + 1 :]
        headers = {"ETag": fault.etag or etag, **fault.headers}
        wanted = seen.range
        if wanted is None or fault.no_range or not ranges:
            self._send(seen, 200, headers, data, fault)
            return
        first, last = wanted[0], min(wanted[1], len(data) - 1)
        headers.setdefault("Content-Range", f"bytes {first}-{last}/{fault.total or len(data)}")
        self._send(seen, 206, headers, data[first : last + 1], fault)

    def _json(self, seen: Seen, value: object, fault: Fault, status: int = 200) -> None:
        self._send(seen, status, {"Content-Type": "application/json"}, json.dumps(value).encode(), fault)

    def _send(self, seen: Seen, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        end = len(body) if fault.drop_after is None else min(fault.drop_after, len(body))
        for start in range(0, end, _BLOCK_BYTES):
            block = body[start : min(start + _BLOCK_BYTES, end)]
            seen.sent_bytes += len(block)  # before it is sent: a test may look as soon as the last byte has arrived
            self.wfile.write(block)
        if fault.drop_after is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


def git_blob(data: bytes) -> str:
    """The name git gives to these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
