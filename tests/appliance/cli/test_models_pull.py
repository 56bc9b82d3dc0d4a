"""``r1box models pull`` as an operator types it, against a hub on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from appliance.cli import models_pull
from appliance.cli.models import app as models_app
from appliance.cli.models_pull import parse_rate, register, transfer_report
from appliance.settings import load_settings
from models.catalogue import load_catalogue
from models.download import Silence
from models.download_errors import HubFileReplaced, HubUnreachable, NotPublished
from models.model_store import ModelStore
from models.planner import plan
from tests.fakes.hub import COMMIT, FakeHub
from tests.models.download_parts import clean_environment
from tests.models.machines import RTX_4090

TINY = Path(__file__).parents[2] / "fixtures" / "tiny_r1" / "gguf"
Q8 = TINY / "Tiny-R1-Q8_0.gguf"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    clean_environment(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("R1BOX_MODELS_DIR", str(tmp_path / "models"))
    with FakeHub() as hub:
        hub.add("acme/Tiny-R1-GGUF", {path.name: path.read_bytes() for path in sorted(TINY.iterdir())})
        monkeypatch.setenv("R1BOX_HUGGINGFACE_ENDPOINT", hub.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        yield hub


def run(*words: str) -> Result:
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["pull", *words])


def store() -> ModelStore:
    return ModelStore(load_settings().models_dir)


def test_pull_and_what_it_says(fake: FakeHub) -> None:
    result = run("acme/Tiny-R1-GGUF:Q8_0")
    assert result.exit_code == 0, result.output
    assert "Installed: tiny-r1-q8_0 (3.3 MiB)" in result.stdout
    assert result.stdout.endswith("Serve it with: r1box serve\n")
    assert f"Getting Tiny-R1-Q8_0.gguf (3.3 MiB) of acme/Tiny-R1-GGUF at {COMMIT[:12]} from 127.0.0.1" in result.stderr
    assert store().default_id() == "tiny-r1-q8_0"
    assert "Already there: tiny-r1-q8_0" in run("acme/Tiny-R1-GGUF:Q8_0").stdout


def test_a_file_that_the_hub_replaced(fake: FakeHub) -> None:
    """Refused with both ways on; taken when accepted; the commit is shown afterwards."""
    run("acme/Tiny-R1-GGUF:Q8_0")
    other = {"Tiny-R1-Q8_0.gguf": (TINY / "Tiny-R1-Q4_K_M.gguf").read_bytes()}
    fake.add("acme/Tiny-R1-GGUF", other, commit="c" * 40)
    refused = run("acme/Tiny-R1-GGUF:Q8_0").exception
    assert isinstance(refused, HubFileReplaced)
    assert f"acme/Tiny-R1-GGUF@COMMIT:{Q8.name}" in refused.hint
    assert run("acme/Tiny-R1-GGUF:Q8_0", "--accept-changed").exit_code == 0
    assert len(store().list().models) == 2
    shown = CliRunner().invoke(models_app, ["show", "tiny-r1-q8_0"]).stdout
    assert COMMIT in shown
    assert "huggingface" in shown


def test_a_second_model_is_served_by_name(fake: FakeHub) -> None:
    run("acme/Tiny-R1-GGUF:Q8_0")
    result = run("acme/Tiny-R1-GGUF:Q4_K_M", "--name", "Second")
    assert result.stdout.endswith("Serve it with: r1box serve --model second-q4_k_m\n")


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_json(fake: FakeHub, hub: str) -> None:
    result = run("acme/Tiny-R1-GGUF:Q8_0", "--from", hub, "--json", "--limit-rate", "500M")
    answer = json.loads(result.stdout)
    assert result.stderr == ""
    assert (answer["schema"], answer["id"], answer["hub"]) == (1, "tiny-r1-q8_0", hub)
    assert (answer["repository"], answer["revision"]) == ("acme/Tiny-R1-GGUF", COMMIT)
    assert answer["is_new"] is True
    assert answer["files"][0]["size_bytes"] == Q8.stat().st_size


def test_the_sheet_of_a_hub(fake: FakeHub) -> None:
    result = run("acme/Tiny-R1-GGUF:Q8_0", "--print-files")
    url = f"{fake.url}/acme/Tiny-R1-GGUF/resolve/{COMMIT}/Tiny-R1-Q8_0.gguf"
    assert f"acme/Tiny-R1-GGUF at {COMMIT}, 3.3 MiB" in result.stdout
    assert f"  {url}  3,408,992 bytes  sha256 " in result.stdout
    assert f"curl -fL -C - -o Tiny-R1-Q8_0.gguf {url}" in result.stdout
    assert fake.sent_bytes == 0
    assert store().list().models == ()


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hubs are at a name nobody knows."""
    monkeypatch.setenv("R1BOX_HUGGINGFACE_ENDPOINT", "http://no-hub.invalid")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://no-hub.invalid")


def test_the_sheet_without_a_network(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)
    result = run("qwen 7b:Q4_0", "--print-files")
    assert result.exit_code == 0
    assert "What follows is from the catalogue" in result.stderr
    assert "4,444,121,056 bytes  sha256 5cd4ee65211770f1" in result.stdout
    answer = json.loads(run("qwen 7b:Q4_0", "--print-files", "--json").stdout)
    assert (answer["from_hub"], answer["files"][0]["size_bytes"]) == (False, 4_444_121_056)


def test_without_a_network(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)
    result = run("qwen 7b:Q4_0")
    assert isinstance(result.exception, HubUnreachable)
    assert result.exception.message.startswith("This box has no way to no-hub.invalid: ")
    assert "DeepSeek-R1-Distill-Qwen-7B-Q4_0.gguf" in str(result.exception.hint)


def test_auto_asks_the_planner(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = load_catalogue()
    monkeypatch.setattr(models_pull, "_plans", lambda *_: plan(catalogue, RTX_4090))
    best = next(p for p in plan(catalogue, RTX_4090).plans if p.quantization != "Q4_0-pure")
    result = run("auto")
    assert f"Best published form for this machine: {best.variant} {best.quantization}" in result.stderr
    variant = catalogue.variant(best.variant)
    assert variant is not None
    asked = {seen.path.split("/revision/")[0].removeprefix("/api/models/") for seen in fake.seen}
    assert asked & set(variant.gguf_repositories)


def test_the_plans_are_this_machines(fake: FakeHub) -> None:
    result = models_pull._plans(load_catalogue(), load_settings())
    assert result.plans or result.rejections


def test_a_hub_that_the_settings_leave_out(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_HUB_ORDER", "modelscope")
    result = run("acme/Tiny-R1-GGUF:Q8_0", "--from", "huggingface")
    assert result.exit_code == 2
    assert fake.seen == []


def test_the_order_of_the_settings(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_HUB_ORDER", "modelscope,huggingface")
    answer = json.loads(run("acme/Tiny-R1-GGUF:Q8_0", "--json").stdout)
    assert answer["hub"] == "modelscope"


def test_pure_forms_are_made_here(fake: FakeHub) -> None:
    result = run("qwen 7b:Q4_0-pure")
    assert isinstance(result.exception, NotPublished)
    assert "r1box models requantize" in str(result.exception.hint)
    assert fake.seen == []


@pytest.mark.parametrize(
    ("text", "rate"),
    [("500k", 512_000), ("20M", 20_971_520), ("1.5MiB/s", 1_572_864), ("4096", 4096), ("1gb", 1_073_741_824)],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1M", "0", "100", "5T", "1 M x"])
def test_no_rates(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_rate(text)


def test_bars_on_a_terminal_alone() -> None:
    with transfer_report(console=Console(file=io.StringIO())) as report:
        assert isinstance(report, Silence)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    with transfer_report(console=console, quiet=True) as report:
        assert isinstance(report, Silence)
    with transfer_report(console=console) as report:
        report.transferring(1024 * 1024, 4 * 1024 * 1024)
        report.checking(1024 * 1024, 4 * 1024 * 1024)
    assert "Downloading" in out.getvalue()
    assert "1.0/4.0 MiB" in out.getvalue()
    assert "Checking" in out.getvalue()
