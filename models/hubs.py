"""Model hubs as values: who they are, how they are reached, what they list. And the one function that makes a hub.

``models.download_huggingface`` and ``models.download_modelscope`` speak the two protocols; everything else works on a
``Listing``: files at one commit, with size, hash and address.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from models.download_errors import CertificatesUnusable, TokenFileUnsafe
from models.download_http import Patience, RateLimit, Wire, ssl_context

_MAX_TOKEN_BYTES = 4096
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class HubName(StrEnum):
    """The hubs R1 is published on."""

    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


DEFAULT_ENDPOINTS = {HubName.HUGGINGFACE: "https://huggingface.co", HubName.MODELSCOPE: "https://modelscope.cn"}
ENDPOINT_VARIABLES = {HubName.HUGGINGFACE: "HF_ENDPOINT", HubName.MODELSCOPE: "MODELSCOPE_ENDPOINT"}
TOKEN_VARIABLES = {HubName.HUGGINGFACE: "HF_TOKEN", HubName.MODELSCOPE: "MODELSCOPE_API_TOKEN"}
DEFAULT_BRANCHES = {HubName.HUGGINGFACE: "main", HubName.MODELSCOPE: "master"}


@dataclass(frozen=True, slots=True)
class HubAccess:
    """How one hub is reached. ``endpoint`` may be a mirror (hf-mirror); ``proxy`` goes before ``HTTPS_PROXY``;
    ``ca_bundle`` is a PEM file with certificates that are trusted beside the usual ones."""

    name: HubName
    endpoint: str
    token: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None
    timeout_s: float = 30.0
    patience: Patience = field(default_factory=Patience)
    limit: RateLimit | None = None

    @property
    def host(self) -> str:
        """The name of the endpoint for people, without credentials."""
        return urlsplit(self.endpoint).hostname or self.endpoint


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a hub. ``sha256`` is ``None`` for small files of Hugging Face, which are kept by ``git_blob`` (sha1 of
    ``blob SIZE\\0`` and the bytes). ``url`` is the hub's own address, not that of its storage."""

    path: str
    size_bytes: int
    url: str
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Listing:
    """All files of a repository at ``revision``, a commit."""

    hub: HubName
    repository: str
    revision: str
    files: tuple[RemoteFile, ...]


class Hub(Protocol):
    """A hub that can be asked. Errors are ``download_errors``: HubUnreachable, RepositoryUnknown, HubRefused, HubBusy,
    HubAnswerUnusable."""

    @property
    def access(self) -> HubAccess: ...

    def listing(self, repository: str, revision: str | None) -> Listing:
        """The files at ``revision`` (branch, tag or commit; not given: the default branch), resolved to a commit."""
        ...

    def file_url(self, repository: str, revision: str, path: str) -> str:
        """Where a file lies; asks nobody."""
        ...

    def wire(self) -> Wire:
        """A new connection for transfers; the caller closes it."""
        ...


def make_hub(access: HubAccess) -> Hub:
    """The hub of this access. Its client library is loaded only now."""
    if access.name is HubName.HUGGINGFACE:
        from models.download_huggingface import HuggingFace

        return HuggingFace(access)
    from models.download_modelscope import ModelScope

    return ModelScope(access)


def access_from(
    name: HubName,
    environment: Mapping[str, str],
    *,
    endpoint: str | None = None,
    token_file: Path | None = None,
    proxy: str | None = None,
    ca_bundle: Path | None = None,
    limit: RateLimit | None = None,
) -> HubAccess:
    """Settings first, then the variables the hub's own client knows, then the hub itself. The token is the variable's,
    else the file's. Raises ``TokenFileUnsafe`` or ``CertificatesUnusable``."""
    if ca_bundle is not None:
        try:
            ssl_context(ca_bundle)
        except OSError as error:
            problem = "it holds no certificates" if isinstance(error, ssl.SSLError) else (error.strerror or "").lower()
            raise CertificatesUnusable(str(ca_bundle), problem or "it cannot be read") from error
    chosen = endpoint or environment.get(ENDPOINT_VARIABLES[name]) or DEFAULT_ENDPOINTS[name]
    token = environment.get(TOKEN_VARIABLES[name], "").strip() or (read_token(token_file) if token_file else None)
    return HubAccess(
        name, chosen.strip().rstrip("/"), token=token or None, proxy=proxy, ca_bundle=ca_bundle, limit=limit
    )


def read_token(path: Path) -> str:
    """The token in a file that only its owner can read. Raises ``TokenFileUnsafe``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TokenFileUnsafe(str(path), (error.strerror or "it cannot be opened").lower()) from error
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise TokenFileUnsafe(str(path), "it is no ordinary file")
        if info.st_mode & _READABLE_BY_OTHERS:
            raise TokenFileUnsafe(str(path), f"others may read it (mode {stat.S_IMODE(info.st_mode):04o})")
        raw = file.read(_MAX_TOKEN_BYTES + 1)
    try:
        token = raw.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise TokenFileUnsafe(str(path), "it holds no token") from error
    if not token or len(raw) > _MAX_TOKEN_BYTES or any(c.isspace() or not c.isprintable() for c in token):
        raise TokenFileUnsafe(str(path), "it holds no token")
    return token
