"""What the hubs list, and what keeps them from it."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from models.download_errors import (
    CertificatesUnusable,
    HubAnswerUnusable,
    HubBusy,
    HubRefused,
    HubUnreachable,
    RepositoryUnknown,
    TokenFileUnsafe,
)
from models.hubs import HubAccess, HubName, access_from, make_hub, read_token
from models.model_store import ModelStore
from tests.fakes.hub import COMMIT, NO_FAULT, FakeHub, Fault, git_blob
from tests.models.download_parts import BOTH, Waits, clean_environment, hub_at, pull_from

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q4_K_M.gguf"
LARGE, SMALL = b"GGUF" + bytes(150_000), b'{"a": 1}'


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add("acme/R1", {"R1-Q8_0.gguf": LARGE, "a folder/config.json": SMALL})
        yield hub


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_listing_is_pinned_and_hashed(fake: FakeHub, name: HubName, revision: str | None) -> None:
    listing = hub_at(fake, name).listing("acme/R1", revision)
    assert (listing.hub, listing.repository, listing.revision) == (name, "acme/R1", COMMIT)
    large, small = listing.files
    assert (large.path, large.size_bytes, large.sha256) == (
        "R1-Q8_0.gguf", len(LARGE), hashlib.sha256(LARGE).hexdigest(),
    )  # fmt: skip
    assert (small.path, small.name, small.size_bytes) == ("a folder/config.json", "config.json", len(SMALL))
    if name is HubName.HUGGINGFACE:
        assert (small.sha256, small.git_blob) == (None, git_blob(SMALL))
        assert small.url == f"{fake.url}/acme/R1/resolve/{COMMIT}/a%20folder/config.json"
    else:
        assert (small.sha256, small.git_blob) == (hashlib.sha256(SMALL).hexdigest(), None)
        assert small.url.endswith(f"/api/v1/models/acme/R1/repo?Revision={COMMIT}&FilePath=a+folder%2Fconfig.json")


@pytest.mark.parametrize("name", BOTH)
def test_one_request_is_all_a_listing_takes(fake: FakeHub, name: HubName) -> None:
    hub_at(fake, name).listing("acme/R1", None)
    assert len(fake.seen) == 1
    assert fake.seen[0].headers["user-agent"].startswith("r1box")


def test_the_client_library_asks_nothing_of_its_own_accord(fake: FakeHub, tmp_path: Path) -> None:
    """In a new process, where its once-a-day question would be due, with the fake hub in the official one's place."""
    code = f"from models.hubs import *; print(make_hub(access_from(HubName.HUGGINGFACE, {{}}, endpoint={fake.url!r}))"
    code += ".listing('acme/R1', None).revision)"
    environment = {**os.environ, "HF_ENDPOINT": fake.url, "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=60
    )
    assert result.stdout.decode().strip() == COMMIT
    assert [seen.path for seen in fake.seen] == ["/api/models/acme/R1/revision/main"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BOTH)
def test_a_busy_hub_is_asked_again(fake: FakeHub, name: HubName) -> None:
    waits = Waits()
    fake.answer = lambda seen: Fault(status=429, headers={"Retry-After": "3"}) if seen.number < 3 else NO_FAULT
    assert hub_at(fake, name, patience=waits.patience()).listing("acme/R1", None).revision == COMMIT
    assert waits.seconds == [3.0, 3.0]


@pytest.mark.parametrize("name", BOTH)
def test_a_hub_that_stays_busy(fake: FakeHub, name: HubName) -> None:
    waits = Waits()
    fake.answer = lambda _seen: Fault(status=503)
    with pytest.raises(HubBusy):
        hub_at(fake, name, patience=waits.patience()).listing("acme/R1", None)
    assert waits.seconds == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("status", [200, 418])
def test_a_page_instead_of_an_answer(fake: FakeHub, name: HubName, status: int) -> None:
    page = b"<html><head><title>Sign in</title></head></html>"
    fake.answer = lambda _seen: Fault(status=status, headers={"Content-Type": "text/html"}, body=page)
    with pytest.raises(HubAnswerUnusable, match="HTTP 418" if status == 418 else "a web page, 'Sign in'"):
        hub_at(fake, name).listing("acme/R1", None)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b'{"Data": {"Files": []}}', b'{"sha": "abc", "id": "a", "siblings": []}', b"\xff{"]
)
def test_an_answer_that_lacks_what_is_needed(fake: FakeHub, name: HubName, body: bytes) -> None:
    fake.answer = lambda _seen: Fault(status=200, headers={"Content-Type": "application/json"}, body=body)
    with pytest.raises(HubAnswerUnusable):
        hub_at(fake, name).listing("acme/R1", None)


@pytest.mark.parametrize("name", BOTH)
def test_a_name_that_nobody_knows(name: HubName) -> None:
    access = HubAccess(name, "http://no-such-host.invalid", patience=Waits().patience())
    with pytest.raises(HubUnreachable) as caught:
        make_hub(access).listing("acme/R1", None)
    assert caught.value.details["host"] == "no-such-host.invalid"


def test_the_offline_switch_of_hugging_face_counts(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE is set"):
        hub_at(fake).listing("acme/R1", None)
    assert fake.seen == []


@pytest.mark.parametrize("name", BOTH)
def test_gated_with_the_wrong_token(fake: FakeHub, name: HubName) -> None:
    fake.token = "right"
    fake.repositories["acme/R1"].gated = True
    with pytest.raises(HubRefused, match="with the token that is set"):
        hub_at(fake, name, token="wrong").listing("acme/R1", None)
    assert hub_at(fake, name, token="right").listing("acme/R1", None).revision == COMMIT


@pytest.mark.parametrize("repository", ["acme/none", "no/../way", "a/b/c"])
def test_no_such_repository(fake: FakeHub, repository: str) -> None:
    with pytest.raises(RepositoryUnknown):
        hub_at(fake).listing(repository, None)


@pytest.mark.parametrize("name", BOTH)
def test_a_proxy_of_the_settings_is_used(fake: FakeHub, name: HubName) -> None:
    """The fake hub plays the proxy: a request to another host arrives there."""
    access = HubAccess(name, "http://hub.invalid", proxy=fake.url, patience=Waits().patience())
    with pytest.raises((HubAnswerUnusable, RepositoryUnknown, HubUnreachable)):
        make_hub(access).listing("acme/none", None)
    assert fake.seen[0].headers["host"] == "hub.invalid"


@pytest.mark.parametrize("name", BOTH)
def test_a_proxy_of_the_environment_is_used(fake: FakeHub, name: HubName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", fake.url)
    with pytest.raises((HubAnswerUnusable, RepositoryUnknown, HubUnreachable)):
        make_hub(HubAccess(name, "http://hub.invalid", patience=Waits().patience())).listing("acme/none", None)
    assert fake.seen[0].headers["host"] == "hub.invalid"


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key for 127.0.0.1, signed by nobody but itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "hub.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("name", BOTH)
def test_a_bundle_of_ones_own_authority_is_trusted(store: ModelStore, certificate: Path, name: HubName) -> None:
    with FakeHub(tls=tls(certificate)) as fake:
        fake.add("acme/Tiny", {TINY.name: TINY.read_bytes()})
        access = access_from(name, {}, endpoint=fake.url, ca_bundle=certificate)
        assert pull_from(store, make_hub(access), "acme/Tiny").model.path.read_bytes() == TINY.read_bytes()
        with pytest.raises(HubUnreachable, match="its certificate is not trusted here"):
            make_hub(access_from(name, {}, endpoint=fake.url)).listing("acme/Tiny", None)


def test_tls_is_never_left(store: ModelStore, certificate: Path) -> None:
    with FakeHub(tls=tls(certificate), storage_tls=False) as fake:
        fake.add("acme/Tiny", {TINY.name: TINY.read_bytes()})
        access = access_from(HubName.HUGGINGFACE, {}, endpoint=fake.url, ca_bundle=certificate)
        with pytest.raises(HubAnswerUnusable, match="redirects to http, which is not safe"):
            pull_from(store, make_hub(access), "acme/Tiny")
        assert fake.at("storage") == []


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    with pytest.raises(CertificatesUnusable, match="no such file"):
        access_from(HubName.HUGGINGFACE, {}, ca_bundle=bundle)
    bundle.write_text("nothing")
    with pytest.raises(CertificatesUnusable, match="it holds no certificates"):
        access_from(HubName.HUGGINGFACE, {}, ca_bundle=bundle)


# --- access ----------------------------------------------------------------------------------------------------------


def test_settings_go_before_variables_before_the_hub_itself() -> None:
    variables = {"HF_ENDPOINT": "https://hf-mirror.com/", "HF_TOKEN": " hf_x ", "MODELSCOPE_API_TOKEN": "ms"}
    access = access_from(HubName.HUGGINGFACE, variables)
    assert (access.endpoint, access.token, access.host) == ("https://hf-mirror.com", "hf_x", "hf-mirror.com")
    access = access_from(HubName.HUGGINGFACE, variables, endpoint="http://mirror.lan:8000/hf/")
    assert (access.endpoint, access.host) == ("http://mirror.lan:8000/hf", "mirror.lan")
    assert access_from(HubName.MODELSCOPE, variables).token == "ms"
    assert access_from(HubName.MODELSCOPE, {}) == HubAccess(
        HubName.MODELSCOPE, "https://modelscope.cn", patience=access_from(HubName.MODELSCOPE, {}).patience
    )


def write_token(folder: Path, content: bytes = b"hf_file\n", mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_token_in_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write_token(tmp_path)
    assert read_token(path) == "hf_file"
    assert access_from(HubName.HUGGINGFACE, {}, token_file=path).token == "hf_file"
    assert access_from(HubName.HUGGINGFACE, {"HF_TOKEN": "env"}, token_file=path).token == "env"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_token_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(TokenFileUnsafe, match=f"mode {mode:04o}") as caught:
        read_token(write_token(tmp_path, mode=mode))
    assert "chmod 600" in str(caught.value.hint)
    assert "hf_file" not in str(caught.value.details)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", b"\xff\xfe", b"x" * 5000])
def test_a_file_without_a_token(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TokenFileUnsafe, match="it holds no token"):
        read_token(write_token(tmp_path, content))


def test_a_token_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TokenFileUnsafe, match="no such file"):
        read_token(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(TokenFileUnsafe, match="no ordinary file"):
        read_token(tmp_path / "pipe")
