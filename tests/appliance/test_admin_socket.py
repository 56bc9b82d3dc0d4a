"""The admin socket where the service's unit refuses what the service does not need."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appliance import admin_socket
from appliance.admin_socket import bind_admin_socket


def test_a_service_of_the_group_needs_no_chown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """r1box.service's SystemCallFilter has no @chown: seen with the image, whose console had no socket."""

    def refused(path: object, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    monkeypatch.setattr(admin_socket, "admin_group", os.getegid)
    path = tmp_path / "admin.sock"
    with bind_admin_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert [one.name for one in tmp_path.iterdir()] == ["admin.sock"]
