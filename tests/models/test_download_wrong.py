"""Files that are not what was promised: wrong bytes, another file, a page, a pointer; from a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.download_errors import (
    HashMismatch,
    HubAnswerUnusable,
    HubBusy,
    HubFileChanged,
    HubRefused,
)
from models.download_transfer import Source, Transfer, TransferOptions
from models.errors import GitLfsPointer
from models.hubs import HubName, RemoteFile
from models.model_store import ModelStore
from tests.fakes.hub import NO_FAULT, FakeHub, Fault, Seen
from tests.models.download_parts import (
    CHUNK_BYTES,
    NAME,
    OPTIONS,
    RUN_BYTES,
    at_request,
    choice_of,
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


# --- wrong bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [100, CHUNK_BYTES * 5 + 7])
def test_a_block_with_a_wrong_byte_is_found_and_mended(
    fake: FakeHub, store: ModelStore, data: bytes, place: int
) -> None:
    runs = -(-len(data) // RUN_BYTES)

    def flip(seen: Seen) -> Fault | None:
        start, end = seen.range or (0, len(data))
        return Fault(flip_at=place) if seen.number <= runs and start <= place <= end else None

    fake.answer = storage(flip)
    model = pull_from(store, hub_at(fake), "acme/Dense").model
    assert model.path.read_bytes() == data
    assert store.verify(model.id) == model
    assert fake.sent_bytes == 2 * len(data)


def test_the_second_copy_comes_from_the_other_hub(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    with FakeHub() as good:
        good.add("acme/Dense", {NAME: data})
        fake.answer = storage(lambda _seen: Fault(flip_at=5 * CHUNK_BYTES))
        hubs = [hub_at(fake), hub_at(good, HubName.MODELSCOPE)]
        assert pull_from(store, hubs, "acme/Dense").model.path.read_bytes() == data
        assert (fake.sent_bytes, good.sent_bytes) == (len(data), len(data))


def test_a_hub_that_is_always_wrong_installs_nothing(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda _seen: Fault(flip_at=5 * CHUNK_BYTES))
    with pytest.raises(HashMismatch) as caught:
        pull_from(store, hub_at(fake), "acme/Dense")
    assert "nothing was installed" in caught.value.message
    assert store.list().models == ()
    (unfinished,) = store.usage().unfinished
    with store.resumable(unfinished.key) as staging, staging.journal("model.gguf", len(data), CHUNK_BYTES) as journal:
        assert journal.done_bytes == 0
    fake.answer = lambda _seen: NO_FAULT
    before = fake.sent_bytes
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    assert fake.sent_bytes - before == len(data)


def test_a_chunk_that_rotted_on_the_disk_is_fetched_alone(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda seen: Fault(status=503) if seen.number > 5 else None)
    with pytest.raises(HubBusy):
        pull_from(store, hub_at(fake), "acme/Dense")
    (folder,) = (store.root / ".staging").iterdir()
    with (folder / "model.gguf").open("r+b") as file:
        file.seek(10)
        file.write(b"\x00\x01\x02")
    fake.answer = lambda _seen: NO_FAULT
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    assert fake.sent_bytes == len(data) + CHUNK_BYTES


# --- another file ----------------------------------------------------------------------------------------------------


def test_another_length_than_listed(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.repositories["acme/Dense"].sizes[NAME] = len(data) + 1000
    with pytest.raises(HubFileChanged, match=f"has {len(data):,} bytes, {len(data) + 1000:,} were listed"):
        pull_from(store, hub_at(fake), "acme/Dense")


def test_a_length_that_changes_in_the_middle(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = at_request(4, Fault(total=len(data) + 5))
    with pytest.raises(HubFileChanged):
        pull_from(store, hub_at(fake), "acme/Dense")


def test_an_etag_that_changes_counts_for_nothing_when_the_hash_is_known(
    fake: FakeHub, store: ModelStore, data: bytes
) -> None:
    fake.answer = storage(lambda seen: Fault(etag=f'"{seen.number}"'))
    assert pull_from(store, hub_at(fake), "acme/Dense").model.path.read_bytes() == data
    assert fake.sent_bytes == len(data)


def unhashed(fake: FakeHub, data: bytes) -> RemoteFile:
    """The file as a mirror without any hashes would list it."""
    file = choice_of(hub_at(fake), "acme/Dense").files[0]
    return RemoteFile(file.path, len(data), file.url)


def transfer(fake: FakeHub, store: ModelStore, data: bytes, options: TransferOptions = OPTIONS) -> bytes:
    hub = hub_at(fake)
    file = unhashed(fake, data)
    wire = hub.wire()
    with store.resumable("test") as staging, staging.journal("x.gguf", len(data), options.chunk_bytes) as journal:
        Transfer(Source(hub.access, "acme/Dense", wire, file), journal, options, lambda _bytes: None).run()
        wire.close()
        return staging.path("x.gguf").read_bytes()


def test_an_etag_that_changes_begins_anew_when_no_hash_is_known(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    newer = data[:4] + bytes(len(data) - 4)
    old_requests = 3

    def replaced(seen: Seen) -> Fault | None:
        if seen.number == old_requests:
            fake.repositories["acme/Dense"].files[NAME] = newer
        return None

    fake.answer = storage(replaced)
    # The storage's address is made of the content's hash: the new one has another, and another ETag.
    assert transfer(fake, store, data, TransferOptions(1, CHUNK_BYTES, 2, RUN_BYTES)) == newer


def test_an_etag_that_keeps_changing_is_the_end(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda seen: Fault(etag=f'"{seen.number}"'))
    with pytest.raises(HubFileChanged, match="ETag keeps changing"):
        transfer(fake, store, data)


@pytest.mark.parametrize("server", ["hub", "storage"])
def test_a_log_in_page_is_no_model(fake: FakeHub, store: ModelStore, data: bytes, server: str) -> None:
    page = Fault(status=200, headers={"Content-Type": "text/html; charset=utf-8"}, body=LOGIN)
    hub, choice = hub_at(fake), choice_of(hub_at(fake), "acme/Dense")
    assert choice.files
    fake.answer = lambda seen: page if seen.server == server and "/api/" not in seen.path else NO_FAULT
    with pytest.raises(HubAnswerUnusable, match="'Hotel Wi-Fi: please sign in'") as caught:
        pull_from(store, hub, "acme/Dense")
    assert "log-in page" in str(caught.value.hint)


def test_a_page_of_just_the_right_length(fake: FakeHub, store: ModelStore) -> None:
    fake.add("acme/Page", {NAME: LOGIN + bytes(200_000)})
    with pytest.raises(HubAnswerUnusable, match="Hotel"):
        pull_from(store, hub_at(fake), "acme/Page")


def test_a_git_lfs_pointer_is_no_model(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda _seen: Fault(status=200, body=POINTER))
    with pytest.raises(GitLfsPointer, match=r"the real file of 4\.4 GiB was never downloaded"):
        pull_from(store, hub_at(fake), "acme/Dense")


def test_a_pointer_that_a_mirror_lists_as_the_file(fake: FakeHub, store: ModelStore) -> None:
    fake.add("acme/Mirror", {NAME: POINTER})
    with pytest.raises(GitLfsPointer):
        pull_from(store, hub_at(fake), "acme/Mirror")
    assert list((store.root / ".staging").iterdir()) == []


def test_a_packed_answer_is_refused(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = storage(lambda _seen: Fault(headers={"Content-Encoding": "gzip"}))
    with pytest.raises(HubAnswerUnusable, match="Content-Encoding"):
        pull_from(store, hub_at(fake), "acme/Dense")


def test_refused_by_the_hub_itself(fake: FakeHub, store: ModelStore, data: bytes) -> None:
    fake.answer = lambda seen: Fault(status=403) if "/resolve/" in seen.path else NO_FAULT
    with pytest.raises(HubRefused):
        pull_from(store, hub_at(fake), "acme/Dense")


@pytest.mark.parametrize(("status", "says"), [(404, "no longer there"), (416, "shorter than was listed")])
def test_gone_meanwhile(fake: FakeHub, store: ModelStore, data: bytes, status: int, says: str) -> None:
    fake.answer = lambda seen: Fault(status=status) if "/resolve/" in seen.path else NO_FAULT
    with pytest.raises(HubFileChanged, match=says):
        pull_from(store, hub_at(fake), "acme/Dense")
