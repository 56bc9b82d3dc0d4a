"""The server's certificate while the daemon runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from appliance.certificates import ServerCertificate
from appliance.security.errors import CertificateUnusable
from appliance.security.tls import LocalAuthority, facts
from appliance.settings import Settings


def settings(folder: Path, **changes: object) -> Settings:
    return Settings(state_dir=folder, **changes)  # type: ignore[arg-type]


def test_off_is_no_context(tmp_path: Path) -> None:
    certificate = ServerCertificate(settings(tmp_path))
    assert certificate.open() is None
    assert certificate.authority() is None
    assert not certificate.refresh()
    assert not (tmp_path / "tls").exists()


def test_a_new_name_is_served_to_new_connections(tmp_path: Path) -> None:
    wanted = ["r1box.local", "localhost"]
    certificate = ServerCertificate(settings(tmp_path, tls="local"), lambda: tuple(wanted))
    assert isinstance(certificate.open(), ssl.SSLContext)
    assert certificate.authority() == (tmp_path / "tls" / "authority.crt").read_bytes()
    assert not certificate.refresh()
    wanted.append("192.168.7.30")
    assert certificate.refresh()
    assert "192.168.7.30" in facts(certificate.files.certificate).names
    assert not certificate.refresh()


def test_own_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    made = LocalAuthority(tmp_path / "made")
    made.ensure(["one.example"])
    own = {"tls": "files", "tls_certificate": made.files.certificate, "tls_key": made.files.key}
    certificate = ServerCertificate(settings(tmp_path / "state", **own))
    certificate.open()
    assert certificate.authority() is None
    made.forget()
    with pytest.raises(CertificateUnusable):
        certificate.refresh()
    made.ensure(["two.example"])
    assert certificate.refresh()


def test_the_names_of_an_own_certificate_are_the_boxs_too(tmp_path: Path) -> None:
    made = LocalAuthority(tmp_path / "made")
    made.ensure(["ai.hospital.example", "192.168.7.30"])
    own = {"tls": "files", "tls_certificate": made.files.certificate, "tls_key": made.files.key}
    names = ServerCertificate(settings(tmp_path, more_names=("box.example",), **own)).names()
    assert {"ai.hospital.example", "box.example", "localhost"} <= names
    assert "ai.hospital.example" not in ServerCertificate(settings(tmp_path)).names()
    assert "box.example" in ServerCertificate(settings(tmp_path, more_names=("box.example",))).names()
