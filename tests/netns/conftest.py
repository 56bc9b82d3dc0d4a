"""These tests need root and systemd-networkd: they are collected only when the command line names this folder, as
``make test-net`` does. Named, they fail where something is missing; they never skip."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True
