"""What may go wrong between a hub's storage and the journal, with a real server that does it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.download import PullContext
from models.download_errors import (
    DownloadInterrupted,
    HubBusy,
)
from models.download_http import RateLimit
from models.hubs import HubAccess, HubName, make_hub
from models.model_store import ModelStore
from tests.fakes.hub import NO_FAULT, FakeHub, Fault, Seen
from tests.models.download_parts import (
    CHUNK_BYTES,
    NAME,
    RUN_BYTES,
    Waits,
    at_request,
    clean_environment,
    hub_at,
    model_bytes,
    pull_from,
    storage,
)

LOGIN = b"<!DOCTYPE html><html><head><title>Hotel Wi-Fi: please sign in</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 4683073248\n" % (b"a" * 64)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def data(fake: FakeHub, tmp_path: Path) -> bytes:
    content = model_bytes(tmp_path, 1024)
    fake.add("acme/Dense", {NAME: content})
    return content


# --- trouble that passes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_after", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_dropped_connection_costs_one_chunk(fake: FakeHub, store: ModelStore, data: bytes, drop_after: int) -> None:
    fake.answer = at_request(3, Fault(drop_after=drop_after))
    model = pull_from(store, hub_at(fake), "acme/Dense").model
    assert model.path.read_bytes() == data
    assert fake.sent_bytes == len(data) + drop_after % CHUNK_BYTES


def test_the_connection_breaks_again_and_again(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    """Every second request breaks after a chunk and a half: as long as something arrives, it goes on."""
    fake.answer = storage(lambda seen: Fault(drop_after=CHUNK_BYTES * 3 // 2) if seen.number % 2 else None)
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_busy_is_waited_out_as_long_as_the_hub_says(fake: FakeHub, store: ModelStore, data: bytes, status: int) -> None:
    waits = Waits()
    fake.answer = at_request(2, Fault(status=status, headers={"Retry-After": "7"}))
    model = pull_from(store, hub_at(fake, patience=waits.patience()), "acme/Dense").model
    assert model.path.read_bytes() == data
    assert waits.seconds == [7.0]


def test_waits_double_and_end(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    waits = Waits()
    fake.answer = storage(lambda _seen: Fault(status=503))
    with pytest.raises(HubBusy) as caught:
        pull_from(store, hub_at(fake, patience=waits.patience(attempts=5)), "acme/Dense")
    assert waits.seconds == [1.0, 2.0, 4.0, 8.0]
    assert caught.value.details["status"] == 503
    assert "goes on where it was" in str(caught.value.hint)


def test_a_wait_of_hours_is_said_and_not_waited(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    waits = Waits()
    fake.answer = storage(lambda _seen: Fault(status=429, headers={"Retry-After": "7200"}))
    with pytest.raises(HubBusy, match="HTTP 429") as caught:
        pull_from(store, hub_at(fake, patience=waits.patience()), "acme/Dense")
    assert waits.seconds == []
    assert "in 7200 s" in str(caught.value.hint)


def test_an_expired_signature_is_renewed(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = at_request(3, Fault(status=403))
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    assert fake.sent_bytes == len(data)
    assert len([s for s in fake.at("hub") if "/resolve/" in s.path]) >= 2


def test_what_arrived_is_kept_when_it_gives_up(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda seen: Fault(drop_after=0) if seen.number > 4 else None)
    with pytest.raises(DownloadInterrupted) as caught:
        pull_from(store, hub_at(fake), "acme/Dense")
    assert caught.value.details["missing_bytes"] == len(data) - 4 * RUN_BYTES
    fake.answer = lambda _seen: NO_FAULT
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    assert fake.sent_bytes == len(data)


def test_a_part_that_was_not_asked_for_is_not_taken(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    wrong = Fault(headers={"Content-Range": f"bytes 0-{RUN_BYTES - 1}/{len(data)}"})
    fake.answer = at_request(2, wrong)
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data


def test_the_storage_answers_slowly(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    """One connection hangs until all others are through: they do not wait for it."""
    others = -(-len(data) // RUN_BYTES) - 2
    gate, served = threading.Event(), threading.Semaphore(0)

    def answer(seen: Seen) -> Fault:
        if seen.server == "storage" and seen.number == 2:
            return Fault(hold=gate)
        if seen.server == "storage" and seen.number > 2:
            served.release()
        return NO_FAULT

    def open_gate() -> None:
        for _ in range(others):
            served.acquire(timeout=60)
        gate.set()

    fake.answer = answer
    opener = threading.Thread(target=open_gate)
    opener.start()
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    opener.join()


# --- servers without ranges ------------------------------------------------------------------------------------------


def test_a_server_without_ranges_is_read_in_one_go(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda _seen: Fault(no_range=True))
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    assert fake.at("storage")[-1].range is None


def test_a_server_without_ranges_that_breaks(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    """Each time it gets a little further; what is there already is read over, not written again."""
    fake.answer = storage(
        lambda seen: Fault(no_range=True, drop_after=seen.number * 3 * CHUNK_BYTES) if seen.number < 6 else
        Fault(no_range=True)
    )  # fmt: skip
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data


def test_ranges_that_end_half_way(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda seen: Fault(no_range=True) if seen.number > 3 else None)
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data


# --- secrets and bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(HubName))
def test_the_token_goes_to_the_hub_and_to_nobody_else(
    store: ModelStore, tmp_path: Path, name: HubName, capfd: pytest.CaptureFixture[str]
) -> None:
    with FakeHub(token="hf_secret") as fake:
        fake.add("acme/Gated", {NAME: model_bytes(tmp_path)}, gated=True)
        fake.answer = at_request(3, Fault(drop_after=5))
        pull_from(store, hub_at(fake, name, token="hf_secret"), "acme/Gated")
        assert {seen.headers.get("authorization") for seen in fake.at("hub")} == {"Bearer hf_secret"}
        assert len(fake.at("storage")) > 3
        for seen in fake.at("storage"):
            assert "secret" not in " ".join(seen.headers.values())
    captured = capfd.readouterr()
    assert "hf_secret" not in captured.out + captured.err
    assert "hf_secret" not in repr(HubAccess(name, "http://x", token="hf_secret"))


def test_errors_hold_no_signature(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda _seen: Fault(drop_after=0))
    with pytest.raises(DownloadInterrupted) as caught:
        pull_from(store, hub_at(fake), "acme/Dense")
    told = f"{caught.value.message} {caught.value.hint} {caught.value.details}"
    assert "signature" not in told
    assert "s3cr3t" not in told


def test_all_connections_together_keep_the_limit(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    slept: list[float] = []
    limit = RateLimit(100_000, clock=lambda: 0.0, sleep=slept.append)
    access = HubAccess(HubName.HUGGINGFACE, fake.url, patience=Waits().patience(), limit=limit)
    pull_from(store, make_hub(access), "acme/Dense")
    # The clock stands still, so the last byte's turn is as late as all bytes before it take.
    assert max(slept) == pytest.approx(len(data) / 100_000, rel=0.15)


def test_progress_counts_what_is_new_from_where_it_was(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    class Watching:
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []
            self.checked: list[tuple[int, int]] = []

        def transferring(self, done_bytes: int, total_bytes: int) -> None:
            self.seen.append((done_bytes, total_bytes))

        def checking(self, done_bytes: int, total_bytes: int) -> None:
            self.checked.append((done_bytes, total_bytes))

    fake.answer = storage(lambda seen: Fault(status=503) if seen.number > 3 else None)
    with pytest.raises(HubBusy):
        pull_from(store, hub_at(fake), "acme/Dense")
    fake.answer = lambda _seen: NO_FAULT
    report = Watching()
    pull_from(store, hub_at(fake), "acme/Dense", PullContext(report=report))
    assert report.seen[0] == (3 * RUN_BYTES, len(data))
    assert report.seen[-1] == (len(data), len(data))
    assert [done for done, _ in report.seen] == sorted(done for done, _ in report.seen)
    assert report.checked[-1] == (len(data), len(data))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.dictionaries(st.integers(1, 24), st.sampled_from(["drop", "503", "403", "200", "wrong part"])))
def test_whatever_goes_wrong_on_the_way_the_bytes_are_right(tmp_path: Path, faults: dict[int, str]) -> None:
    data = model_bytes(tmp_path, 700)
    kinds = {
        "drop": Fault(drop_after=CHUNK_BYTES + 33),
        "503": Fault(status=503),
        "403": Fault(status=403),
        "200": Fault(no_range=True),
        "wrong part": Fault(headers={"Content-Range": f"bytes 7-99/{len(data)}"}),
    }
    with FakeHub() as fake:
        fake.add("acme/Dense", {NAME: data})
        fake.answer = storage(lambda seen: kinds[faults[seen.number]] if seen.number in faults else None)
        store = ModelStore(tmp_path / f"store-{id(fake)}")
        hub = hub_at(fake, patience=Waits().patience(attempts=30))
        assert pull_from(store, hub, "acme/Dense").model.path.read_bytes() == data
