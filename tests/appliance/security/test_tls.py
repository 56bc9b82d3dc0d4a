"""Certificates: made, kept, renewed and refused; judged by OpenSSL through Python's own ssl module."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance.security.errors import CertificateUnusable
from appliance.security.tls import (
    AUTHORITY_LIFE,
    SERVER_LIFE,
    LocalAuthority,
    TlsFiles,
    facts,
    own_certificate,
    server_context,
)

NAMES = (
    "r1box",
    "r1box.local",
    "ai.hospital.example",
    "192.168.7.20",
    "fd00::7",
    "203.0.113.9",
    "localhost",
    "127.0.0.1",
)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def shake_hands(files: TlsFiles, authority: Path, name: str) -> None:
    """A client that trusts ``authority`` connects to a server under ``name``. Raises ssl.SSLError."""
    client = ssl.create_default_context(cafile=str(authority))
    server = server_context(files)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True):
                pass
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as connection:
            assert connection.version() in ("TLSv1.2", "TLSv1.3")
    finally:
        ours.close()
        thread.join()


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    made = LocalAuthority(tmp_path / "tls")
    made.ensure(NAMES)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_computer_that_trusts_the_authority_trusts_every_name(authority: LocalAuthority, name: str) -> None:
    assert authority.files.authority is not None
    shake_hands(authority.files, authority.files.authority, name)


def test_a_name_that_is_not_the_boxs_is_refused(authority: LocalAuthority) -> None:
    assert authority.files.authority is not None
    with pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|mismatch"):
        shake_hands(authority.files, authority.files.authority, "bank.example")


def test_a_stolen_authority_cannot_speak_for_others(authority: LocalAuthority, tmp_path: Path) -> None:
    """A certificate for a bank, signed with the box's key by hand, is refused for the authority's constraints."""
    files = authority.files
    assert files.authority is not None
    thief = LocalAuthority(tmp_path / "thief")
    thief.ensure(["bank.example"])
    stolen = tmp_path / "stolen"
    stolen.mkdir()
    for name in ("authority.crt", "authority.key"):
        (stolen / name).write_bytes((files.authority.parent / name).read_bytes())
    outcome = LocalAuthority(stolen).ensure(["bank.example", "r1box.local"])
    assert outcome.left_out == ("bank.example",)
    forged = _signed_by_hand(stolen, "bank.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(forged, files.authority, "bank.example")


def _signed_by_hand(folder: Path, name: str) -> TlsFiles:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority = x509.load_pem_x509_certificate((folder / "authority.crt").read_bytes())
    signer = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(signer, hashes.SHA256())
    )
    files = TlsFiles(folder / "forged.crt", folder / "forged.key")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_keys_are_for_the_service_alone(authority: LocalAuthority) -> None:
    folder = authority.files.certificate.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("authority.key", "server.key")] == [0o600, 0o600]
    assert sorted(path.name for path in folder.iterdir()) == [
        "authority.crt",
        "authority.key",
        "server.crt",
        "server.key",
    ]


def test_what_is_current_is_kept(authority: LocalAuthority) -> None:
    before = authority.files.certificate.read_bytes()
    assert not authority.ensure(NAMES[:3]).renewed
    assert authority.files.certificate.read_bytes() == before


def test_a_new_name_gets_a_new_certificate_of_the_same_authority(authority: LocalAuthority) -> None:
    assert authority.files.authority is not None
    before = authority.files.authority.read_bytes()
    assert authority.ensure([*NAMES, "192.168.7.21", "ward.local"]).renewed
    assert authority.files.authority.read_bytes() == before
    shake_hands(authority.files, authority.files.authority, "ward.local")


def test_a_name_outside_of_what_the_authority_may_sign_is_told(authority: LocalAuthority) -> None:
    outcome = authority.ensure([*NAMES, "other.example", "8.8.8.8"])
    assert outcome.left_out == ("other.example", "8.8.8.8")
    authority.forget()
    assert authority.ensure([*NAMES, "other.example"]).left_out == ()


def test_renewal_before_the_end(tmp_path: Path) -> None:
    clock = Clock()
    made = LocalAuthority(tmp_path, clock)
    made.ensure(NAMES)
    first = facts(made.files.certificate)
    assert first.not_after - first.not_before <= SERVER_LIFE
    clock.now += timedelta(days=360)
    assert not made.ensure(NAMES).renewed
    clock.now += timedelta(days=10)
    assert made.ensure(NAMES).renewed
    assert facts(made.files.certificate).fingerprint != first.fingerprint


def test_a_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    clock = Clock()
    made = LocalAuthority(tmp_path, clock)
    made.ensure(NAMES)
    assert made.files.authority is not None
    clock.now += AUTHORITY_LIFE - timedelta(days=100)
    made.ensure(NAMES)
    assert facts(made.files.certificate).not_after <= facts(made.files.authority).not_after
    clock.now += timedelta(days=80)
    before = facts(made.files.authority).fingerprint
    made.ensure(NAMES)
    assert facts(made.files.authority).fingerprint != before


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
@pytest.mark.parametrize("content", [b"", b"not PEM", None])
def test_a_damaged_server_certificate_is_made_anew(
    authority: LocalAuthority, tmp_path: Path, name: str, content: bytes | None
) -> None:
    file = tmp_path / "tls" / name
    other = LocalAuthority(tmp_path / "other")
    other.ensure(NAMES)
    file.write_bytes((tmp_path / "other" / name).read_bytes() if content is None else content)
    assert authority.ensure(NAMES).renewed
    assert authority.files.authority is not None
    shake_hands(authority.files, authority.files.authority, "r1box.local")


@pytest.mark.parametrize("content", [b"", b"not PEM"])
def test_a_damaged_authority_is_refused_not_replaced(authority: LocalAuthority, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tls" / "authority.crt").write_bytes(content)
    with pytest.raises(CertificateUnusable):
        authority.ensure(NAMES)


def test_own_certificate(authority: LocalAuthority, tmp_path: Path) -> None:
    files = own_certificate(authority.files.certificate, authority.files.key)
    assert facts(files.certificate).names[:2] == ("r1box", "r1box.local")
    other = LocalAuthority(tmp_path / "other")
    other.ensure(NAMES)
    with pytest.raises(CertificateUnusable, match=r"server\.crt"):
        own_certificate(authority.files.certificate, other.files.key)
    with pytest.raises(CertificateUnusable, match="No such file"):
        own_certificate(tmp_path / "none.crt", authority.files.key)
    with pytest.raises(CertificateUnusable):
        facts(tmp_path / "none.crt")


def test_own_certificate_that_has_ended(tmp_path: Path) -> None:
    clock = Clock()
    clock.now -= timedelta(days=800)
    old = LocalAuthority(tmp_path, clock)
    old.ensure(NAMES)
    with pytest.raises(CertificateUnusable, match="it ended on"):
        own_certificate(old.files.certificate, old.files.key)
