"""What the box says of its names: addresses, announced name, fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance import box_names
from appliance.box_names import BoxNames
from appliance.certificates import ServerCertificate
from appliance.security.tls import facts
from appliance.settings import Settings


def names(tmp_path: Path, announced: str | None = None, **more: Any) -> BoxNames:
    settings = Settings(state_dir=tmp_path, **more)
    certificate = ServerCertificate(settings, lambda: ("box.example", "10.1.2.3"))
    certificate.open()
    return BoxNames(settings, certificate, "1.0", lambda: announced)


def test_every_network_with_the_boxs_own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_names, "addresses", lambda: ("10.1.2.3", "fd00::5"))
    read = names(tmp_path, "r1box-2.local", host="0.0.0.0", tls="local", more_names="ai.hospital.example")
    read.port = 8443
    told = read()
    assert told.urls == (
        "https://r1box-2.local:8443/",
        "https://ai.hospital.example:8443/",
        "https://10.1.2.3:8443/",
        "https://[fd00::5]:8443/",
    )
    assert (told.mdns_name, told.addresses, told.only_local) == ("r1box-2.local", ("10.1.2.3", "fd00::5"), False)
    assert told.certificate is not None
    assert told.authority is not None
    assert told.certificate.fingerprint == facts(tmp_path / "tls" / "server.crt").fingerprint
    assert told.authority.fingerprint == facts(tmp_path / "tls" / "authority.crt").fingerprint
    assert "box.example" in told.certificate.names


def test_the_usual_port_is_not_written(tmp_path: Path) -> None:
    read = names(tmp_path, host="192.0.2.7")
    read.port = 80
    assert read().urls == ("http://192.0.2.7/",)


def test_only_this_machine(tmp_path: Path) -> None:
    told = names(tmp_path, host="127.0.0.1", more_names="ai.hospital.example")()
    assert (told.urls, told.only_local) == (("http://127.0.0.1:8080/",), True)
