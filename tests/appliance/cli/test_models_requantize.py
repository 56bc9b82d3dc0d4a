"""``r1box models requantize`` as an operator meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli.models_requantize import register
from models.importer import import_gguf
from models.model_store import ModelStore
from models.requantize import RequantizeRefused
from tests.models.tiny_r1_files import Q4_K_M, write_tiny_r1

APP = typer.Typer()
register(APP)


@APP.command("other")
def other() -> None:
    """A second command, without which typer would leave out the first one's name."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("R1BOX_MODELS_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("R1BOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    store = ModelStore(tmp_path / "store")
    import_gguf(store, write_tiny_r1(tmp_path / "Tiny-R1-F16.gguf"))
    return store


def test_a_new_model_is_made(store: ModelStore) -> None:
    result = CliRunner().invoke(APP, ["requantize", "tiny-r1-f16", "--to", "q4_0", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "Made: tiny-r1-q4_0" in result.stdout
    assert "from tiny-r1-f16" in result.stdout
    assert "Serve it with: r1box serve --model tiny-r1-q4_0" in result.stdout
    assert store.get("tiny-r1-q4_0").quantization == "Q4_0"
    again = CliRunner().invoke(APP, ["requantize", "tiny-r1-f16", "--to", "Q4_0", "--threads", "1"])
    assert "Already there: tiny-r1-q4_0" in again.stdout


def test_as_json(store: ModelStore) -> None:
    result = CliRunner().invoke(APP, ["requantize", "tiny-r1-f16", "--to", "Q8_0", "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    made = store.get("tiny-r1-q8_0")
    assert document == {
        "schema": 1,
        "id": "tiny-r1-q8_0",
        "source": "tiny-r1-f16",
        "quantization": "Q8_0",
        "size_bytes": made.size_bytes,
        "sha256": made.sha256,
        "is_new": True,
        "warnings": list(made.warnings),
    }


def test_k_quants_need_force(store: ModelStore) -> None:
    import_gguf(store, Q4_K_M)
    refused = CliRunner().invoke(APP, ["requantize", "tiny-r1-q4_k_m", "--to", "Q8_0"])
    assert isinstance(refused.exception, RequantizeRefused)
    forced = CliRunner().invoke(APP, ["requantize", "tiny-r1-q4_k_m", "--to", "Q8_0", "--threads", "1", "--force"])
    assert forced.exit_code == 0, forced.output
    assert "lost twice" in forced.stderr


def test_only_what_the_chip_computes_is_offered(store: ModelStore) -> None:
    result = CliRunner().invoke(APP, ["requantize", "tiny-r1-f16", "--to", "Q4_K_M"])
    assert result.exit_code == 2
    assert "q8_0" in result.stderr.lower()
