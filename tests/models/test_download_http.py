"""Patience, rates, redirects, and what errors say."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.download_errors import HubAnswerUnusable
from models.download_http import (
    Patience,
    RateLimit,
    Wire,
    host_of,
    page_title,
    reason_of,
    retry_after_s,
    same_origin,
    ssl_context,
)
from tests.fakes.hub import FakeHub, Fault
from tests.models.download_parts import clean_environment


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@given(st.integers(1, 60), st.floats(0, 1))
def test_waits_grow_within_bounds(failures: int, jitter: float) -> None:
    patience = Patience(jitter=lambda: jitter)
    full = min(60.0, 2.0 ** (failures - 1))
    assert full / 2 <= patience.wait_s(failures) <= full
    assert patience.wait_s(failures, 12.5) == 12.5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("\u0663", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_s({"Retry-After": value}, now=lambda: 1445412480.0) == seconds
    assert retry_after_s({}) is None


def test_a_rate_is_kept_over_idle_times_too() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    limit = RateLimit(1000, clock=lambda: now[0], sleep=sleep)
    limit.take(500)
    limit.take(500)
    assert slept == [0.5]
    now[0] += 100  # what was not used is not saved up
    limit.take(1000)
    limit.take(1000)
    assert slept == [0.5, 1.0]


def get(wire: Wire, url: str) -> tuple[int, str]:
    with wire.get(url, {"Range": "bytes=0-1"}) as response:
        response.read()
        return response.status_code, str(response.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_secrets_stay_with_the_endpoint(fake: FakeHub, status: int) -> None:
    """Hub, hub again (relative), storage, and back to the hub."""
    steps = {
        "/start": "/second",
        "/second": f"{fake.storage_url}/third",
        "/third": f"{fake.url}/fourth",
    }
    fake.answer = lambda seen: (
        Fault(status=status, headers={"Location": steps[seen.path]}) if seen.path in steps else Fault(status=200)
    )
    wire = Wire(fake.url, token="t0ken", token_cookie="session")
    assert get(wire, f"{fake.url}/start") == (200, f"{fake.url}/fourth")
    wire.close()
    told = [(seen.path, seen.headers.get("authorization"), seen.headers.get("cookie")) for seen in fake.seen]
    mine = ("Bearer t0ken", "session=t0ken")
    assert told == [("/start", *mine), ("/second", *mine), ("/third", None, None), ("/fourth", *mine)]
    assert all(seen.headers["range"] == "bytes=0-1" for seen in fake.seen)


def test_redirects_in_a_ring(fake: FakeHub) -> None:
    fake.answer = lambda _seen: Fault(status=302, headers={"Location": "/again"})
    wire = Wire(fake.url)
    with pytest.raises(HubAnswerUnusable, match="redirects more than 10 times"):
        get(wire, f"{fake.url}/start")
    wire.close()
    assert len(fake.seen) == 10


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://a/b", "javascript:1"])
def test_redirects_out_of_http(fake: FakeHub, target: str) -> None:
    fake.answer = lambda _seen: Fault(status=302, headers={"Location": target})
    wire = Wire(fake.url)
    with pytest.raises(HubAnswerUnusable, match="not safe"):
        get(wire, f"{fake.url}/start")
    wire.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.b/x", "https://A.B:443/y?z", True),
        ("http://a:80", "http://a", True),
        ("https://a", "http://a", False),
        ("https://a", "https://a.evil", False),
        ("https://a", "https://a:444", False),
        ("https://a@evil/", "https://a/", False),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert same_origin(one, other) is same


def test_hosts_without_secrets() -> None:
    assert host_of("https://user:password@cdn.example/x?signature=1") == "cdn.example"


def test_a_bundle_of_certificates_is_added_to_the_usual(tmp_path: Path) -> None:
    import certifi

    first = Path(certifi.where()).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    bundle = tmp_path / "ca.pem"
    bundle.write_text(first)
    context = ssl_context(bundle)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) >= len(ssl_context(None).get_ca_certs())
    bundle.write_text("nothing")
    with pytest.raises(OSError):
        ssl_context(bundle)


@pytest.mark.parametrize(
    ("start", "title"),
    [
        (b"<!DOCTYPE html>\n<title> Sign\n in </title>", "a web page, 'Sign in'"),
        (b"\xef\xbb\xbf  <HTML><body>", "a web page"),
        (b"GGUF", None),
        (b"", None),
        (b"version https://git-lfs", None),
    ],
)
def test_pages(start: bytes, title: str | None) -> None:
    assert page_title(start) == title


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx.ConnectError("[Errno -2] Name or service not known"), "its name is not known here"),
        (httpx.ConnectError("[Errno -3] Temporary failure in name resolution"), "its name is not known here"),
        (httpx.ConnectError("[Errno 101] Network is unreachable"), "there is no route to it"),
        (httpx.ConnectError("[Errno 111] Connection refused"), "nobody listens there"),
        (httpx.ConnectError("certificate verify failed: self-signed"), "its certificate is not trusted"),
        (httpx.ProxyError("407 Proxy Authentication Required"), "the proxy wants a user name"),
        (httpx.ProxyError("403 Forbidden"), "the proxy refuses"),
        (httpx.ReadTimeout(""), "it does not answer in time"),
        (httpx.RemoteProtocolError("peer closed connection"), "the connection broke"),
    ],
)
def test_reasons_in_plain_words(error: httpx.TransportError, says: str) -> None:
    assert reason_of(error).startswith(says)
