"""Hugging Face, and mirrors that speak its protocol: what a repository holds, through the hub's client library.

``huggingface_hub`` asks and understands the answers (gated, renamed, disabled repositories); the bytes are fetched by
``models.download_transfer``, because they have to go into the store's resumable staging. Storage in Xet is reached
through the same addresses by HTTP ranges.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import threading
from types import ModuleType
from typing import Any
from urllib.parse import quote

from models.download_errors import HubAnswerUnusable, HubBusy, HubRefused, HubUnreachable, RepositoryUnknown
from models.download_http import USER_AGENT, Wire, is_retriable, page_title, reason_of, retry_after_s, ssl_context
from models.hubs import DEFAULT_BRANCHES, TOKEN_VARIABLES, HubAccess, HubName, Listing, RemoteFile

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING = frozenset({404, 410})


class HuggingFace:
    """One endpoint of Hugging Face's protocol."""

    def __init__(self, access: HubAccess) -> None:
        self._access = access

    @property
    def access(self) -> HubAccess:
        return self._access

    def wire(self) -> Wire:
        """See ``hubs.Hub``."""
        access = self._access
        return Wire(
            access.endpoint,
            token=access.token,
            proxy=access.proxy,
            ca_bundle=access.ca_bundle,
            timeout_s=access.timeout_s,
        )

    def file_url(self, repository: str, revision: str, path: str) -> str:
        """See ``hubs.Hub``."""
        return f"{self._access.endpoint}/{repository}/resolve/{quote(revision, safe='')}/{quote(path)}"

    def listing(self, repository: str, revision: str | None) -> Listing:
        """See ``hubs.Hub``."""
        info = self._model_info(repository, revision)
        commit = info.sha
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise HubAnswerUnusable(self._access.host, f"it names no commit for {repository}")
        files = []
        for entry in info.siblings or []:
            lfs = entry.lfs
            sha256 = lfs.sha256 if lfs is not None else None
            size = lfs.size if lfs is not None else entry.size
            if not isinstance(size, int) or size < 0:
                continue  # a mirror that lists names alone: nothing could be checked
            files.append(
                RemoteFile(
                    entry.rfilename,
                    size,
                    self.file_url(repository, commit, entry.rfilename),
                    sha256=sha256 if sha256 and _SHA256.fullmatch(sha256) else None,
                    git_blob=entry.blob_id if lfs is None else None,
                )
            )
        if not files:
            raise HubAnswerUnusable(self._access.host, f"it lists no files with sizes for {repository}")
        return Listing(HubName.HUGGINGFACE, repository, commit, tuple(files))

    def _model_info(self, repository: str, revision: str | None) -> Any:
        """Over and over while the hub is busy."""
        library = load_library(self._access)
        access, patience = self._access, self._access.patience
        api = library.HfApi(endpoint=access.endpoint, token=access.token or False, library_name=USER_AGENT)
        never = threading.Event()
        wanted = revision or DEFAULT_BRANCHES[HubName.HUGGINGFACE]
        for attempt in range(1, patience.attempts + 1):
            try:
                return api.model_info(repository, revision=wanted, files_metadata=True, timeout=access.timeout_s)
            except library.errors.RevisionNotFoundError as error:
                raise RepositoryUnknown(access.host, repository, wanted) from error
            except library.errors.HFValidationError as error:
                raise RepositoryUnknown(access.host, repository) from error
            except library.errors.OfflineModeIsEnabled as error:
                raise HubUnreachable(access.host, "HF_HUB_OFFLINE is set") from error
            except library.errors.HfHubHTTPError as error:
                wait_s = self._judge(error.response, repository, attempt)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                what = page_title(str(getattr(error, "doc", "")).encode())
                raise HubAnswerUnusable(access.host, what or "not the JSON of a hub", is_page=bool(what)) from error
            except importlib.import_module("httpx2").TransportError as error:
                if attempt == patience.attempts or "Connect" in type(error).__name__ or "Proxy" in type(error).__name__:
                    raise HubUnreachable(access.host, reason_of(error)) from error
                wait_s = patience.wait_s(attempt)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise HubAnswerUnusable(access.host, f"its answer about {repository} is incomplete") from error
            patience.pause(never, wait_s)
        raise HubBusy(access.host, 503)

    def _judge(self, response: Any, repository: str, attempt: int) -> float:
        """Seconds to wait before the next try. Raises what cannot be waited for."""
        access, patience = self._access, self._access.patience
        status = response.status_code
        if is_retriable(status):
            asked_s = retry_after_s(response.headers)
            if attempt < patience.attempts and (asked_s is None or asked_s <= patience.longest_wait_s):
                return patience.wait_s(attempt, asked_s)
            raise HubBusy(access.host, status, asked_s)
        # The hub answers 401 for what does not exist, so that nobody learns what does.
        if status == 401 and access.token is None and response.headers.get("X-Error-Code") != "GatedRepo":
            raise RepositoryUnknown(access.host, repository)
        if status in (401, 403):
            variable = TOKEN_VARIABLES[HubName.HUGGINGFACE]
            raise HubRefused(access.host, repository, status, with_token=access.token is not None, variable=variable)
        if status in _MISSING:
            raise RepositoryUnknown(access.host, repository)
        raise HubAnswerUnusable(access.host, f"HTTP {status}")


def load_library(access: HubAccess) -> ModuleType:
    """``huggingface_hub``, told to use this access's proxy and certificates and to ask nothing of its own accord.

    Without HF_HUB_DISABLE_TELEMETRY the library (2.4) also asks the official hub once a day for a list of programs that
    may drive it, whatever endpoint was given; a box on a closed network must not.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    library = importlib.import_module("huggingface_hub")
    httpx2 = importlib.import_module("httpx2")
    if importlib.import_module("huggingface_hub.constants").is_offline_mode():
        raise HubUnreachable(access.host, "HF_HUB_OFFLINE is set")
    library.set_client_factory(
        lambda: httpx2.Client(
            follow_redirects=True,
            proxy=access.proxy,
            verify=ssl_context(access.ca_bundle),
            timeout=access.timeout_s,
        )
    )
    return library
