"""``r1box models``: import, list, verify and remove as an operator meets them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from appliance.cli.app import app
from models.errors import ModelError, ModelIsDefault, SplitSetIncomplete, TemplateRefused
from models.model_store import ModelStore
from tests.fakes.gguf_writer import write_small
from tests.models.store_samples import write_hub_folder, write_set

TINY_R1 = Path(__file__).parents[2] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("R1BOX_MODELS_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("R1BOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return ModelStore(tmp_path / "store")


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def fails(*arguments: str) -> ModelError:
    error = CliRunner().invoke(app, ["models", *arguments]).exception
    assert isinstance(error, ModelError)
    return error


def as_json(*arguments: str, code: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(*arguments, "--json", code=code).stdout)
    return document


def test_import_of_a_real_r1_file_has_no_complaint(store: ModelStore) -> None:
    result = run("import", str(TINY_R1))
    assert "Imported: tiny-r1-q8_0" in result.stdout
    assert "Serve it with: r1box serve" in result.stdout
    assert "never written" not in result.output
    assert "chat template" not in result.output
    assert store.default_id() == "tiny-r1-q8_0"


def test_import_of_a_set_says_its_files(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path / "stick", 3)
    result = run("import", str(parts[1]))
    assert "3 files" in result.stdout
    row = as_json("import", str(parts[2]))
    assert row["is_new"] is False
    assert [f["name"] for f in row["files"]] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert row["format"] == "gguf"
    assert [m.id for m in store.list().models] == [row["id"]]


def test_import_of_a_folder_prints_its_warnings(store: ModelStore, tmp_path: Path) -> None:
    folder = write_hub_folder(tmp_path / "hub")
    (folder / "modeling.py").write_text("x")
    result = run("import", str(folder))
    assert "Warning: modeling.py was not taken" in result.stderr
    assert "modeling.py" not in result.stdout
    assert "It is for vLLM" in result.stdout
    assert "Serve it with" not in result.stdout
    assert store.default_id() is None
    row = as_json("list")["models"][0]
    assert row["format"] == "safetensors"
    assert any("modeling.py" in w for w in row["warnings"])
    assert store.list().models[0].warnings == tuple(row["warnings"])


def test_the_chat_template_is_checked_in_the_sandbox(store: ModelStore, tmp_path: Path) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    error = fails("import", str(write_small(tmp_path / "a.gguf", tokenizer__chat_template=endless)))
    assert isinstance(error, TemplateRefused)
    assert store.list().models == ()


def test_a_missing_part_is_named(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path, 3)
    parts[1].unlink()
    error = fails("import", str(parts[0]))
    assert isinstance(error, SplitSetIncomplete)
    assert parts[1].name in error.message
    assert store.list().models == ()


def test_list_shows_sizes_and_what_the_disk_has(store: ModelStore, tmp_path: Path) -> None:
    empty = run("list").stdout
    assert "No models yet" in empty
    assert "free on its disk" in empty
    run("import", str(write_small(tmp_path / "Alpha.gguf")))
    with store.resumable("bundle:b1") as staging:
        staging.path("model.gguf").write_bytes(b"x" * 5000)
    result = run("list")
    assert "alpha-q8_0" in result.stdout
    assert "Unfinished: bundle:b1, 4.9 KiB so far, interrupted" in result.stdout
    usage = as_json("list")["usage"]
    assert usage["used_bytes"] > store.list().models[0].size_bytes
    assert usage["unfinished"][0]["key"] == "bundle:b1"
    assert usage["unfinished"][0]["is_running"] is False


def test_show_tells_where_it_came_from(store: ModelStore, tmp_path: Path) -> None:
    run("import", str(write_small(tmp_path / "Alpha.gguf")))
    shown = run("show", "alpha-q8_0").stdout
    assert store.get("alpha-q8_0").sha256 in shown.replace("\n", "").replace(" ", "")
    assert "Alpha.gguf" in shown
    assert "Revision" not in shown
    model = as_json("show", "alpha-q8_0")["model"]
    assert model["provenance"]["kind"] == "file"
    assert model["provenance"]["revision"] is None
    assert fails("show", "nothing").code == "model_not_found"


def test_verify_one_and_all(store: ModelStore, tmp_path: Path) -> None:
    assert "No models" in run("verify").stdout
    for name in ("Alpha", "Beta"):
        run("import", str(write_small(tmp_path / f"{name}.gguf", seed=len(name))))
    assert "alpha-q8_0 is whole" in run("verify", "alpha-q8_0").stdout
    assert run("verify").stdout.count("is whole") == 2
    with store.get("beta-q8_0").path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x01")
    result = run("verify", code=1)
    assert "alpha-q8_0 is whole" in result.stdout
    assert "damaged beta-q8_0: model.gguf: its bytes have changed" in result.stderr
    rows = as_json("verify", code=1)["models"]
    assert [(r["id"], bool(r["problems"])) for r in rows] == [("alpha-q8_0", False), ("beta-q8_0", True)]
    assert fails("verify", "beta-q8_0").code == "model_damaged"


def test_the_default_is_not_removed_by_the_way(store: ModelStore, tmp_path: Path) -> None:
    run("import", str(write_small(tmp_path / "Alpha.gguf")))
    error = fails("remove", "alpha-q8_0", "--yes")
    assert isinstance(error, ModelIsDefault)
    assert "Removed alpha-q8_0." in run("remove", "alpha-q8_0", "--yes", "--force").stdout
    assert store.list().models == ()


def test_an_import_is_recognised_by_the_sites_own_catalogue(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(TINY_R1.read_bytes()).hexdigest()
    folder = tmp_path / "catalogue"
    folder.mkdir()
    (folder / "ours.toml").write_text(
        'schema = 1\n[[additions]]\nvariant = "R1-Distill-Qwen-1.5B"\n'
        f'files = [{{ repository = "our-hub/R1", path = "r1.gguf", quantization = "Q8_0", sha256 = "{digest}" }}]\n'
    )
    monkeypatch.setenv("R1BOX_CATALOGUE_DIR", str(folder))
    model = store.get(as_json("import", str(TINY_R1))["id"])
    assert (model.variant, model.recognised_by) == ("R1-Distill-Qwen-1.5B", "sha256")


def test_who_imported_and_removed_is_in_the_audit_log(store: ModelStore) -> None:
    run("import", str(TINY_R1))
    run("default", "tiny-r1-q8_0")
    run("remove", "tiny-r1-q8_0", "--yes", "--force")
    exported = CliRunner().invoke(app, ["audit", "export"]).stdout
    rows = [json.loads(line) for line in exported.splitlines()]
    assert [(row["action"], row["target"], row["actor_kind"]) for row in rows[:3]] == [
        ("model.import", "tiny-r1-q8_0", "console"),
        ("model.default", "tiny-r1-q8_0", "console"),
        ("model.remove", "tiny-r1-q8_0", "console"),
    ]
    assert json.loads(rows[0]["details"])["sha256"]


def test_a_log_that_cannot_be_written_is_a_warning(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    result = run("import", str(TINY_R1))
    assert "Imported: tiny-r1-q8_0" in result.stdout
    assert "not in the audit log" in result.stderr
