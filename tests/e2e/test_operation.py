"""What an operator meets: imports, starts, stops, keys, and everything that can be wrong with them."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.box import TINY_R1, Box, Home, goldens, start_box
from tests.fakes.gguf_writer import write_small

LENGTH_5 = (5).to_bytes(8, "little")


def leftovers(home: Home) -> list[str]:
    """Files in the model store that are no part of its own housekeeping."""
    return [str(path) for path in home.models_dir.rglob("*") if path.is_file() and path.suffix == ".gguf"]


def lfs_pointer(folder: Path) -> Path:
    file = folder / "model.gguf"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4683073248\n")
    return file


def not_a_gguf(folder: Path) -> Path:
    file = folder / "model.gguf"
    file.write_bytes(b"PK\x03\x04" + bytes(5000))
    return file


def cut_gguf(folder: Path) -> Path:
    file = folder / "model.gguf"
    file.write_bytes(TINY_R1.read_bytes()[:-1000])
    return file


def cut_header(folder: Path) -> Path:
    file = folder / "model.gguf"
    file.write_bytes(TINY_R1.read_bytes()[:3000])
    return file


def unknown_architecture(folder: Path) -> Path:
    file = folder / "model.gguf"
    # The architecture's name is a value and the beginning of many keys; all of them must agree.
    file.write_bytes(
        TINY_R1.read_bytes().replace(b"qwen2.", b"qwonk.").replace(LENGTH_5 + b"qwen2", LENGTH_5 + b"qwonk")
    )
    return file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (not_a_gguf, "GGUF"),
        (cut_gguf, "cut off"),
        (cut_header, "cut off"),
        (lfs_pointer, "git"),
        (unknown_architecture, "qwonk"),
        (lambda folder: folder / "nowhere.gguf", "nowhere.gguf"),
        (lambda folder: folder, "folder"),
    ],
)
def test_a_bad_model_file_is_refused_with_a_reason_and_nothing_is_left(
    home: Home, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    result = home.run("models", "import", str(make(folder)), check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert words.lower() in result.stderr.lower()
    assert "Traceback" not in result.stderr
    assert leftovers(home) == []


def test_a_model_that_needs_more_memory_than_there_is_is_not_loaded(home: Home, tmp_path: Path) -> None:
    # The file is small; what is large is the cache that its dimensions ask for: 4,096 layers.
    file = write_small(tmp_path / "huge-cache.gguf", **{"qwen2.block_count": 4096, "qwen2.context_length": 131_072})
    model = home.import_model(file)
    result = home.run("serve", "--port", "0", "--model", model, "--seats", "64", "--context", "131072", check=False)
    assert result.returncode == 1
    assert re.search(r"Error: .*needs [\d.,]+ .iB.*[\d.,]+ .iB", result.stderr), result.stderr


def test_an_unknown_model_is_an_error_that_names_what_is_there(home: Home) -> None:
    model = home.import_model()
    result = home.run("serve", "--port", "0", "--model", "r1-900b", check=False)
    assert result.returncode == 1
    assert "r1-900b" in result.stderr
    assert model in home.run("models", "list").stdout


def test_a_port_in_use_is_one_plain_line_and_a_hint(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = home.run("serve", "--port", str(port), check=False)
    assert result.returncode == 1
    assert f"Error: Cannot listen on 127.0.0.1:{port}: address already in use." in result.stderr
    assert "--port" in result.stderr


def test_a_state_folder_that_cannot_be_written_is_one_plain_line_and_a_hint(home: Home, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    result = home.run("--state-dir", str(blocker / "state"), "serve", "--port", "0", check=False)
    assert result.returncode == 1
    assert f"Error: The state folder {blocker / 'state'} cannot be written: a file is in the way." in result.stderr
    assert "R1BOX_STATE_DIR" in result.stderr


def test_a_bad_setting_names_itself_and_its_origin(home: Home) -> None:
    home.environment["R1BOX_PORT"] = "ninety"
    result = home.run("serve", check=False)
    assert result.returncode == 1
    assert "port" in result.stderr
    assert "R1BOX_PORT" in result.stderr


def test_without_a_model_it_serves_and_says_what_is_missing(home: Home) -> None:
    key = home.create_key("one")
    box = start_box(home, key=key, wait=False)
    try:
        reply = box.post({"model": "any", "messages": [{"role": "user", "content": "Hello"}]})
        assert reply.status_code in (404, 503)
        assert (box.readyz()["ready"], box.readyz()["state"]) == (False, "stopped")
        assert httpx.get(f"{box.url}/healthz").status_code == 200
        assert box.wait_until(lambda: any("without a model" in line for line in box.output))
    finally:
        assert box.stop() == 0


def test_the_first_key_is_shown_once_works_and_is_in_no_log(home: Home) -> None:
    home.import_model()
    box = start_box(home, "--first-key")
    try:
        key = box.wait_until(lambda: next((line.split()[2] for line in box.output if "API key" in line), None))
        assert key.startswith("r1b_")
        assert httpx.get(f"{box.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert not any(key in line for line in box.errors)
        assert key.encode() not in (home.state_dir / "r1box.db").read_bytes()
    finally:
        assert box.stop() == 0
    second = start_box(home, "--first-key")
    assert second.stop() == 0
    assert not any("r1b_" in line for line in second.output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_loads_ends_everything(home: Home, number: signal.Signals) -> None:
    home.import_model()
    box = start_box(home, wait=False)
    children = psutil.Process(box.process.pid).children(recursive=True)
    box.process.send_signal(number)
    assert box.process.wait(timeout=30) == 0
    box.stop()
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not any("Traceback" in line for line in box.errors)


def test_a_revoked_key_ends_with_the_next_request(own_box: Callable[..., Box], prepared: tuple[Home, str, str]) -> None:
    home, model, _ = prepared
    box = own_box()
    key = home.create_key("short-lived")
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
    assert box.post(body, key=key).status_code == 200
    home.run("keys", "revoke", "short-lived")
    assert box.post(body, key=key).status_code == 401


def test_the_python_line_that_serve_prints_works(home: Home) -> None:
    import subprocess

    home.import_model()
    box = start_box(home, "--first-key")
    try:
        # The lines come after the moment from which clients are answered.
        line = box.wait_until(lambda: next((line for line in box.output if line.startswith("  Python")), None))
        line = line.split(maxsplit=1)[1]
        # A shell on purpose: a person pastes the line into one.
        result = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        assert "help" in result.stdout
    finally:
        assert box.stop() == 0


def test_chat_in_the_terminal(box: Box) -> None:
    golden = goldens("capital")[0]
    question = golden.messages[0]["content"]
    home = Home(Path("/nonexistent"))
    home.environment["R1BOX_API_KEY"] = box.key
    result = home.run("chat", "--url", box.url, str(question))
    assert golden.content in result.stdout
    assert golden.reasoning in result.stdout
    hidden = home.run("chat", "--url", box.url, "--hide-thinking", str(question))
    assert hidden.stdout.strip() == golden.content


def test_what_the_load_really_took_is_kept_for_the_next_plan(box: Box, prepared: tuple[Home, str, str]) -> None:
    file = prepared[0].state_dir / "measured-memory.json"
    box.wait_until(file.exists)  # written when the model is ready, which the clients hear first
    entries = json.loads(file.read_text())["entries"]
    assert {entry["chip"] for entry in entries} == {"cpu"}
    shared = next(entry for entry in entries if (entry["seats"], entry["context_tokens"]) == (8, 2048))
    # The buffers of the tiny model are a few tens of MB; the formulas agree to a small part of that.
    assert abs(shared["host_bytes"]) < 2_000_000


def test_the_store_from_the_command_line(home: Home) -> None:
    model = home.import_model()
    again = json.loads(home.run("models", "import", str(TINY_R1), "--json").stdout)
    assert (again["id"], again["is_new"], again["default"]) == (model, False, True)
    listing = json.loads(home.run("models", "list", "--json").stdout)
    assert [entry["id"] for entry in listing["models"]] == [model]
    assert model in home.run("models", "verify", model).stdout
    home.run("models", "remove", model, "--yes", "--force")
    assert json.loads(home.run("models", "list", "--json").stdout)["models"] == []


def test_detect_and_plan_print_their_json(home: Home, tmp_path: Path) -> None:
    snapshot = home.run("detect", "--json").stdout
    seen = json.loads(snapshot)
    assert seen["schema"] == 1
    assert seen["host"]["memory_total_bytes"] > 0
    file = tmp_path / "machine.json"
    file.write_text(snapshot)
    plans = json.loads(home.run("plan", "--machine", str(file), "--json").stdout)
    assert plans["schema"] == 1
    assert plans["plans"] or plans["rejections"]
    assert "This machine:" in home.run("plan").stdout
