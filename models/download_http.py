"""HTTP to a hub and its storage: redirects, retries, proxies, and a token that goes to nobody but the hub.

Large files are redirected to a storage network whose addresses carry a signature of their own. So redirects are
followed here, one by one: the ``Authorization`` header is set only while scheme, host and port are the endpoint's, and
https never becomes http. HTTP/1.1, because four connections make a download fast, and a lost packet stops only one.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from models.download_errors import HubAnswerUnusable

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10
_RETRIABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
USER_AGENT = "r1box"


def _wait(stop: threading.Event, seconds: float) -> None:
    stop.wait(seconds)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long trouble is borne: ``attempts`` failures in a row without a byte gained, waits that double from
    ``base_s`` to ``most_s`` with jitter. A hub's own Retry-After goes before, up to ``longest_wait_s``."""

    attempts: int = 6
    base_s: float = 1.0
    most_s: float = 60.0
    longest_wait_s: float = 600.0
    pause: Callable[[threading.Event, float], None] = _wait
    jitter: Callable[[], float] = random.random

    def wait_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the ``failures``-th failure in a row (1 is the first)."""
        if retry_after_s is not None:
            return retry_after_s
        return min(self.most_s, self.base_s * 2.0 ** (failures - 1)) * (0.5 + 0.5 * self.jitter())


class RateLimit:
    """Keeps all connections together under ``bytes_per_s``."""

    def __init__(
        self,
        bytes_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._guard = threading.Lock()
        self._next = 0.0

    def take(self, size_bytes: int) -> None:
        """Waits until ``size_bytes`` more may pass."""
        with self._guard:
            now = self._clock()
            start = max(self._next, now)
            self._next = start + size_bytes / self.bytes_per_s
        if start > now:
            self._sleep(start - now)


class Wire:
    """Connections to one hub and the storage it redirects to. Threads may share it."""

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        token_cookie: str | None = None,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._endpoint = endpoint
        self._secrets: dict[str, str] = {}
        if token is not None:
            self._secrets["Authorization"] = f"Bearer {token}"
            if token_cookie is not None:
                self._secrets["Cookie"] = f"{token_cookie}={token}"
        self._client = httpx.Client(
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            proxy=proxy,
            verify=ssl_context(ca_bundle),
            timeout=httpx.Timeout(timeout_s),
            follow_redirects=False,
            http2=False,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
        )

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def get(
        self, url: str, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """The answer at the end of all redirects, its body unread. Raises ``httpx.TransportError`` and
        ``HubAnswerUnusable``."""
        request = self._client.build_request("GET", url, headers=headers, params=params)
        for _ in range(_MAX_REDIRECTS):
            if same_origin(str(request.url), self._endpoint):
                request.headers.update(self._secrets)
            try:
                response = self._client.send(request, stream=True)
            except httpx.InvalidURL as error:  # httpx reads the address of a redirect even if it does not follow it
                raise HubAnswerUnusable(host_of(url), "it redirects to no address: not safe to follow") from error
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                try:
                    yield response
                finally:
                    response.close()
                return
            response.close()
            target = urljoin(str(request.url), location)
            schemes = (urlsplit(str(request.url)).scheme, urlsplit(target).scheme)
            if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
                raise HubAnswerUnusable(host_of(url), f"it redirects to {schemes[1]}, which is not safe")
            request = self._client.build_request("GET", target, headers=headers)
        raise HubAnswerUnusable(host_of(url), f"it redirects more than {_MAX_REDIRECTS} times")


def ssl_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """The usual trust (``SSL_CERT_FILE`` counts), and the certificates of ``ca_bundle`` beside it. Raises ``OSError``
    for a bundle that cannot be read."""
    context = httpx.create_ssl_context()
    if ca_bundle is not None:
        context.load_verify_locations(cafile=ca_bundle)
    return context


def same_origin(url: str, other: str) -> bool:
    """Whether scheme, host and port agree."""
    return _origin(url) == _origin(other)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def host_of(url: str) -> str:
    """The host alone: an address may carry a signature or a password."""
    return urlsplit(url).hostname or "the hub"


def is_retriable(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _RETRIABLE


def retry_after_s(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (a number or a date), ``None`` without a usable one."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - now(), 0.0)
    except (ValueError, TypeError):
        return None


def page_title(start: bytes) -> str | None:
    """The title of a web page that begins so (``a web page`` without one), ``None`` when it is none."""
    text = start[:4096].decode("utf-8", errors="replace")
    head = text.lstrip("\ufeff \t\r\n").lower()
    if not head.startswith(("<!doctype html", "<html", "<head", "<!--")):
        return None
    begin, end = text.lower().find("<title>"), text.lower().find("</title>")
    title = " ".join(text[begin + len("<title>") : end].split()) if 0 <= begin < end else ""
    return f"a web page, '{title[:80]}'" if title else "a web page"


def reason_of(error: BaseException) -> str:
    """What a transport error means, in plain words and without an address."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(texts) < 8:
        texts.append(str(cause).lower())
        cause = cause.__cause__ or cause.__context__
    said = " ".join(texts)
    for marks, words in _REASONS:
        if any(mark in said for mark in marks):
            return words
    name = type(error).__name__
    if "Timeout" in name:
        return "it does not answer in time"
    if "Proxy" in name:
        return "the proxy refuses"
    return "the connection broke"


_REASONS = (
    (("name or service not known", "name resolution", "no address associated"), "its name is not known here"),
    (("network is unreachable", "no route to host"), "there is no route to it"),
    (("connection refused",), "nobody listens there"),
    (("certificate verify failed", "self-signed"), "its certificate is not trusted here (setting hub_ca_bundle)"),
    (("407", "proxy authentication"), "the proxy wants a user name and password"),
    (("timed out", "timeout"), "it does not answer in time"),
)
