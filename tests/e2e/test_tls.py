"""HTTPS with the box's own authority: the official client, the command line, and clients that do not trust it."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.box import Box, Home, goldens, start_box, stream


@pytest.fixture(scope="module")
def secure(prepared: tuple[Home, str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Path]]:
    """A box with HTTPS, and the authority's file as ``r1box tls export`` gives it."""
    home, _, key = prepared
    authority = tmp_path_factory.mktemp("office") / "authority.crt"
    running = start_box(home, "--tls", "local", key=key, wait=False)
    home.run("tls", "export", str(authority))
    context = ssl.create_default_context(cafile=str(authority))

    def ready() -> bool:
        return httpx.get(f"{running.url}/readyz", verify=context, timeout=5).status_code == 200

    running.wait_until(ready)
    yield running, authority
    assert running.stop() == 0


async def test_the_official_client_with_the_authority(secure: tuple[Box, Path], model: str) -> None:
    box, authority = secure
    assert box.url.startswith("https://127.0.0.1:")
    golden = goldens("fact")[0]
    context = ssl.create_default_context(cafile=str(authority))
    async with httpx.AsyncClient(verify=context) as trusting:
        answer = await stream(box.client(http_client=trusting), model, golden.messages)
    assert answer.content == golden.content


def test_the_authority_comes_from_the_box_itself(secure: tuple[Box, Path]) -> None:
    box, authority = secure
    got = httpx.get(f"{box.url}/authority.crt", verify=ssl.create_default_context(cafile=str(authority)))
    assert got.content == authority.read_bytes()
    assert got.headers["content-type"] == "application/x-x509-ca-cert"


def test_strangers_and_plain_http_get_nothing(secure: tuple[Box, Path]) -> None:
    box, _ = secure
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{box.url}/healthz")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{box.url.replace('https', 'http')}/healthz")


def test_the_terminal_chat_trusts_its_own_box(
    secure: tuple[Box, Path], prepared: tuple[Home, str, str], model: str
) -> None:
    box, authority = secure
    home, _, key = prepared
    home_of_box = {**home.environment, "R1BOX_TLS": "local", "R1BOX_PORT": box.url.rpartition(":")[2]}
    talking = Home(home.state_dir.parent)
    talking.environment.update(home_of_box, R1BOX_API_KEY=key)
    assert talking.run("chat", "Hello").stdout.strip()
    assert talking.run("chat", "Hello", "--url", box.url, "--ca", str(authority)).stdout.strip()
    refused = talking.run("chat", "Hello", "--url", box.url, check=False)
    assert refused.returncode != 0


def test_tls_show_says_what_to_compare(secure: tuple[Box, Path], prepared: tuple[Home, str, str]) -> None:
    home = prepared[0]
    shown = json.loads(home.run("tls", "show", "--json").stdout)
    pem = ssl.get_server_certificate(("127.0.0.1", int(secure[0].url.rpartition(":")[2])))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    assert shown["certificate"]["sha256"].replace(":", "") == digest
    assert {"localhost", "127.0.0.1", "r1box.local"} <= set(shown["certificate"]["names"])
    assert "authority.crt" in home.run("tls", "show").stdout


def test_without_tls_there_is_no_authority(home: Home) -> None:
    box = start_box(home, wait=False)
    try:
        assert httpx.get(f"{box.url}/authority.crt").status_code == 404
    finally:
        box.stop()
    assert home.run("tls", "show").stdout.startswith("HTTPS is off")
    assert home.run("tls", "export", "-", check=False).returncode != 0
