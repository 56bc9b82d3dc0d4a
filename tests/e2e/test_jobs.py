"""Jobs of the real daemon with real files: a pull from a hub on this machine, a requantization, a bundle out and in,
the doctor; what ``r1box jobs`` shows; a cancel, and a restart in the middle."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.box import FIXTURES, Box, Home, start_box
from tests.fakes.hub import NO_FAULT, FakeHub, Fault, Seen

URL = "/api/admin/jobs"
SOURCE = FIXTURES / "gguf" / "Tiny-R1-Q8_0.gguf"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.add("acme/Tiny-R1-GGUF", {SOURCE.name: SOURCE.read_bytes()})
        yield made


@pytest.fixture
def place(home: Home, hub: FakeHub, tmp_path: Path) -> Home:
    (tmp_path / "stick").mkdir()
    home.environment |= {
        "R1BOX_HUGGINGFACE_ENDPOINT": hub.url,
        "R1BOX_HUB_ORDER": "huggingface",
        "R1BOX_JOB_FOLDERS": str(tmp_path / "stick"),
        "NO_PROXY": "127.0.0.1",
    }
    return home


def console(home: Home) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(home.state_dir / "admin.sock"))
    return httpx.Client(transport=transport, base_url="http://console", timeout=60)


def begin(client: httpx.Client, **wish: Any) -> str:
    answer = client.post(URL, json=wish)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def end(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job as its last event has it; the stream ends with the job."""
    text = client.get(f"{URL}/{job_id}/events").text
    last: dict[str, Any] = json.loads(text.strip().splitlines()[-1].removeprefix("data: "))
    return last


def do(client: httpx.Client, **wish: Any) -> dict[str, Any]:
    job = end(client, begin(client, **wish))
    assert job["state"] == "succeeded", job["error"]
    result: dict[str, Any] = job["result"]
    return result


def test_from_a_hub_to_a_stick_and_back(place: Home, tmp_path: Path) -> None:
    box = start_box(place, wait=False)
    try:
        with console(place) as client:
            pulled = do(client, kind="pull", target="acme/Tiny-R1-GGUF:Q8_0")
            assert (pulled["hub"], pulled["is_new"], pulled["default"]) == ("huggingface", True, True)
            made = do(client, kind="requantize", model=pulled["id"], to="Q4_0", force=True)
            assert (made["quantization"], made["is_new"]) == ("Q4_0", True)
            examined = do(client, kind="doctor")
            assert {"serves_from_cards", "checks", "requirements"} <= set(examined)
            stick = tmp_path / "stick"
            written = do(client, kind="bundle_export", model=made["id"], to=[str(stick)])
            assert written["signed"] is False
            assert Path(written["folders"][0]).is_dir()
            assert client.delete(f"/api/admin/models/{made['id']}").status_code == 204
            untrusted = end(client, begin(client, kind="bundle_import", paths=written["folders"]))
            assert (untrusted["state"], untrusted["error"]["hint"] is not None) == ("failed", True)
            back = do(client, kind="bundle_import", paths=written["folders"], allow_unsigned=True)
            assert (back["id"], back["sha256"]) == (made["id"], made["sha256"])
            assert do(client, kind="verify")["whole"] is True
        shown = place.run("jobs").stdout
        assert "pull acme/Tiny-R1-GGUF:Q8_0" in shown
        assert shown.count("succeeded") == 6
        assert shown.count("failed") == 1
        watched = json.loads(place.run("jobs", "--watch", "--json").stdout.splitlines()[-1])
        assert [job["kind"] for job in watched["jobs"]][-2:] == ["requantize", "pull"]
        rows = [json.loads(line) for line in place.run("audit", "export").stdout.splitlines()]
        actions = [row["action"] for row in rows]
        assert (actions.count("job.create"), actions.count("job.end")) == (7, 7)
        assert "bundle.import_untrusted" in actions
        assert "model.remove" in actions
    finally:
        assert box.stop() == 0


def test_a_job_that_a_restart_interrupts_and_one_that_is_cancelled(place: Home, hub: FakeHub) -> None:
    held = threading.Event()
    asked = threading.Semaphore(0)

    def hold_files(seen: Seen) -> Fault:
        if seen.server != "storage":
            return NO_FAULT
        asked.release()
        return Fault(hold=held)

    hub.answer = hold_files
    box: Box = start_box(place, wait=False)
    try:
        with console(place) as client:
            first = begin(client, kind="pull", target="acme/Tiny-R1-GGUF:Q8_0")
            assert asked.acquire(timeout=60)
    finally:
        # The hub says nothing more: a download that hangs must not keep the box from stopping.
        stopped = box.stop()
        assert stopped == 0
    held.set()
    held = threading.Event()
    box = start_box(place, wait=False)
    try:
        with console(place) as client:
            job = client.get(f"{URL}/{first}").json()
            assert (job["state"], (job["error"] or {}).get("code")) == ("interrupted", "job_interrupted")
            second = begin(client, kind="pull", target="acme/Tiny-R1-GGUF:Q8_0")
            assert asked.acquire(timeout=60)
            assert "cancelling" in place.run("jobs", "--cancel", second).stdout
            held.set()
            assert end(client, second)["state"] == "cancelled"
            again = do(client, kind="pull", target="acme/Tiny-R1-GGUF:Q8_0")
            assert again["is_new"] is True
    finally:
        held.set()
        assert box.stop() == 0
