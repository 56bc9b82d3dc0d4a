"""What the terminal is told when everything is up."""

from __future__ import annotations

import errno

import psutil
import pytest

from appliance.cli.report import TerminalReporter


def test_a_sandbox_without_netlink_is_no_reason_not_to_serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden() -> dict[str, object]:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(psutil, "net_if_addrs", forbidden)
    TerminalReporter(first_key=None, has_keys=True).ready(None, None, "0.0.0.0", 8080)
    assert "http://127.0.0.1:8080, without a model" in capsys.readouterr().out
