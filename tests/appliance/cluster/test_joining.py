"""A box joins over a real port: once, with its own key; strangers and boxes that were taken out do not."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from appliance.cluster.authority import (
    BoxFiles,
    ClusterAuthority,
    asking_context,
    blind_context,
    ends_at,
    serving_context,
)
from appliance.cluster.book import ClusterBook, ClusterRecord, folder_of
from appliance.cluster.errors import (
    AlreadyInCluster,
    BoxNameTaken,
    BoxNotFound,
    ClusterFileUnusable,
    ClusterHasBoxes,
    InvitationRefused,
    LeaderRefused,
    LeaderUnreachable,
    NoCluster,
    NotTheInviter,
    NotTheLeader,
    RemovedFromCluster,
)
from appliance.cluster.invitation import Invitation, new_invitation
from appliance.cluster.leader_client import LeaderClient, join, say_goodbye, url_of
from appliance.cluster.wire import Beat
from tests.appliance.cluster.parts import LOOPBACK, Leader, free_port, leader


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[Leader]:
    (tmp_path / "one").mkdir()
    async with leader(tmp_path / "one") as found:
        yield found


@pytest.fixture
def second(tmp_path: Path) -> ClusterBook:
    (tmp_path / "two").mkdir()
    return ClusterBook(folder_of(tmp_path / "two"))


def beat(number: int = 1) -> Beat:
    return Beat(boot="b", number=number, address=LOOPBACK)


async def joined(first: Leader, second: ClusterBook, name: str = "box-2") -> ClusterRecord:
    return await join(second, await asyncio.to_thread(first.book.invite), name)


async def test_a_box_joins_and_is_known_by_its_certificate(first: Leader, second: ClusterBook) -> None:
    record = await joined(first, second)
    assert (record.role, record.leader, record.own_address) == ("member", "box-1", LOOPBACK)
    client = LeaderClient(second, record)
    assert (await client.beat(beat(7))).answers == 7
    await client.aclose()
    assert [box for box, _ in first.leading.beats] == ["box-2"]
    assert first.leading.notes == [("cluster.joined", "box-2")]
    assert first.book.led().boxes == ("box-1", "box-2")


async def test_keys_stay_where_they_were_made_and_are_closed_to_others(first: Leader, second: ClusterBook) -> None:
    await joined(first, second)
    for book in (first.book, second):
        for path in book.folder.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
    kept = "".join(path.read_text() for path in first.book.folder.iterdir())
    private = second.files.key.read_text().partition("-----END PRIVATE KEY-----")[0]
    assert "BEGIN PRIVATE KEY" in private
    assert private not in kept
    assert not (second.folder / "authority.key").exists()


async def test_a_token_is_good_once(first: Leader, second: ClusterBook, tmp_path: Path) -> None:
    invitation = await asyncio.to_thread(first.book.invite)
    assert invitation.secret.hex() not in (first.book.folder / "cluster.json").read_text()
    await join(second, invitation, "box-2")
    await asyncio.to_thread(first.book.invite)
    with pytest.raises(InvitationRefused):
        await join(ClusterBook(folder_of(tmp_path / "three")), invitation, "box-3")
    assert ("cluster.refused", None) in first.leading.notes


async def test_an_expired_token_and_a_wrong_secret_are_refused_alike(first: Leader, tmp_path: Path) -> None:
    expired = await asyncio.to_thread(first.book.invite, -1.0)
    wrong = replace(await asyncio.to_thread(first.book.invite), secret=bytes(24))
    said = []
    for number, invitation in enumerate((expired, wrong)):
        with pytest.raises(InvitationRefused) as refused:
            await join(ClusterBook(folder_of(tmp_path / str(number))), invitation, "box-2")
        said.append(refused.value.message)
    assert said[0] == said[1]
    assert first.book.led().members == ()


async def test_without_an_invitation_strangers_learn_nothing(first: Leader) -> None:
    async with httpx.AsyncClient(verify=blind_context(), base_url=url_of(LOOPBACK, first.port)) as stranger:
        answers = [
            await stranger.get("/v1/authority"),
            await stranger.post("/v1/join", content=b"{}"),
            await stranger.post("/v1/beat", content=b"{}"),
            await stranger.post("/v1/leave"),
            await stranger.post("/engine/v1/completions", content=b"{}"),
            await stranger.get("/engine/health"),
            await stranger.get("/v1/nothing"),
        ]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 403, 403, 403, 404]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{" * 5000,
        b"x" * 9000,
        b"\xff\xfe",
        json.dumps({"invitation": "0" * 16, "secret": "zz", "name": "box-2", "request": ""}).encode(),
        json.dumps({"invitation": "0" * 16, "secret": "00", "name": "../x", "request": ""}).encode(),
        json.dumps({"invitation": "0" * 16, "secret": "0", "name": "b", "request": "", "more": 1}).encode(),
    ],
)
async def test_garbage_from_strangers_is_refused(first: Leader, body: bytes) -> None:
    await asyncio.to_thread(first.book.invite)
    async with httpx.AsyncClient(verify=blind_context(), base_url=url_of(LOOPBACK, first.port)) as stranger:
        answer = await stranger.post("/v1/join", content=body)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["code"]


async def test_tries_are_bounded(first: Leader) -> None:
    await asyncio.to_thread(first.book.invite)
    async with httpx.AsyncClient(verify=blind_context(), base_url=url_of(LOOPBACK, first.port)) as stranger:
        codes = [(await stranger.post("/v1/join", content=b"{}")).status_code for _ in range(22)]
    assert codes == [400] * 20 + [403] * 2


async def test_another_box_that_answers_gets_nothing(first: Leader, second: ClusterBook) -> None:
    """Whoever took the leader's address shows another authority: the token's fingerprint tells."""
    made = await asyncio.to_thread(first.book.invite)
    forged = replace(made, fingerprint=bytes(32))
    with pytest.raises(NotTheInviter):
        await join(second, forged, "box-2")
    assert first.leading.notes == []
    assert second.read() is None
    await join(second, made, "box-2")


async def test_a_member_cannot_stand_in_for_the_leader(first: Leader, second: ClusterBook) -> None:
    """Its certificate may not serve, though the same authority signed it."""
    record = await joined(first, second)
    port = free_port()
    context = await asyncio.to_thread(serving_context, second.files)
    impostor = await asyncio.start_server(lambda reader, writer: writer.close(), LOOPBACK, port, ssl=context)
    try:
        client = LeaderClient(second, replace(record, port=port))
        with pytest.raises(LeaderUnreachable, match="certificate verify failed"):
            await client.beat(beat())
        await client.aclose()
    finally:
        impostor.close()
        await impostor.wait_closed()


async def test_a_box_of_another_cluster_is_refused_in_the_handshake(first: Leader, tmp_path: Path) -> None:
    other = ClusterBook(folder_of(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    record = other.begin("box-9", LOOPBACK, first.port)
    ClusterAuthority(other.folder, record.id)
    context = blind_context()
    context.load_cert_chain(other.files.certificate, other.files.key)
    async with httpx.AsyncClient(verify=context, base_url=url_of(LOOPBACK, first.port)) as stranger:
        with pytest.raises(httpx.TransportError):
            await stranger.post("/v1/beat", content=b"{}")


async def test_a_box_that_is_taken_out_is_refused_at_once_also_on_an_open_connection(
    first: Leader, second: ClusterBook
) -> None:
    record = await joined(first, second)
    context = await asyncio.to_thread(asking_context, second.files)
    context.check_hostname = False
    async with httpx.AsyncClient(verify=context, base_url=url_of(LOOPBACK, first.port)) as kept:
        assert (await kept.get("/engine/health")).text == "box-2"
        await asyncio.to_thread(first.book.remove, "box-2")
        assert (await kept.get("/engine/health")).status_code == 403
    client = LeaderClient(second, record)
    with pytest.raises(RemovedFromCluster):
        await client.beat(beat())
    await client.aclose()


async def test_a_certificate_is_renewed_and_both_are_good_meanwhile(first: Leader, second: ClusterBook) -> None:
    record = await joined(first, second)
    client, before = LeaderClient(second, record), second.files.certificate.read_bytes()
    early = LeaderClient(second, record)
    await client.renew()
    assert second.files.certificate.read_bytes() != before
    await client.beat(beat(1))
    await early.beat(beat(2))
    assert len(first.book.led().members[0].fingerprints) == 2
    await client.aclose()
    await early.aclose()


async def test_the_leaders_own_certificate_is_renewed_while_it_listens(first: Leader, second: ClusterBook) -> None:
    record = await joined(first, second)
    await asyncio.to_thread(ClusterAuthority(first.book.folder, record.id).renew_own, "box-1")
    first.listener.renewed()
    client = LeaderClient(second, record)
    assert (await client.beat(beat())).answers == 1
    await client.aclose()


async def test_leaving(first: Leader, second: ClusterBook) -> None:
    record = await joined(first, second)
    with pytest.raises(ClusterHasBoxes):
        first.book.leave()
    assert await say_goodbye(second, record) is None
    second.leave()
    assert (first.leading.left, first.book.led().members, second.read()) == (["box-2"], (), None)
    assert not second.files.key.exists()
    first.book.leave()
    assert first.book.read() is None
    assert not (first.book.folder / "authority.key").exists()


async def test_names_are_taken_once_and_the_token_is_kept_for_another_try(first: Leader, second: ClusterBook) -> None:
    invitation = await asyncio.to_thread(first.book.invite)
    with pytest.raises(BoxNameTaken):
        await join(second, invitation, "box-1")
    await join(second, invitation, "box-2")


async def test_a_box_belongs_to_one_cluster(first: Leader, second: ClusterBook) -> None:
    await joined(first, second)
    with pytest.raises(AlreadyInCluster):
        await joined(first, second, "box-3")
    with pytest.raises(AlreadyInCluster):
        second.begin("x", LOOPBACK, 1)
    with pytest.raises(NotTheLeader):
        second.invite()


async def test_a_leader_that_is_not_there(second: ClusterBook) -> None:
    with pytest.raises(LeaderUnreachable):
        await join(second, new_invitation(LOOPBACK, free_port(), bytes(32)), "box-2")


async def test_a_certificate_for_another_key_is_not_taken(first: Leader, second: ClusterBook) -> None:
    from appliance.cluster.authority import accept_certificate, new_request

    await joined(first, second)
    new_request(second.folder)
    with pytest.raises(LeaderRefused):
        accept_certificate(second.folder, second.files.certificate.read_bytes())


def test_a_box_of_its_own(tmp_path: Path) -> None:
    book = ClusterBook(folder_of(tmp_path))
    assert book.read() is None
    with pytest.raises(NoCluster):
        book.invite()
    with pytest.raises(NoCluster):
        book.leave()


def test_what_the_file_must_not_say(tmp_path: Path) -> None:
    book = ClusterBook(folder_of(tmp_path))
    book.begin("box-1", LOOPBACK, 8470)
    with pytest.raises(BoxNotFound):
        book.remove("box-2")
    (book.folder / "cluster.json").write_text("{}")
    with pytest.raises(ClusterFileUnusable):
        book.read()


def test_certificates_end_in_a_year_and_no_later_than_their_authority(tmp_path: Path) -> None:
    moment = datetime(2027, 1, 1, tzinfo=UTC)
    tmp_path.chmod(0o700)
    authority = ClusterAuthority(tmp_path, "0a1b2c3d", lambda: moment)
    authority.create("box-1")
    files = BoxFiles.of(tmp_path)
    assert ends_at(files.certificate) == moment + timedelta(days=397)
    late = ClusterAuthority(tmp_path, "0a1b2c3d", lambda: moment + timedelta(days=3600))
    late.renew_own("box-1")
    assert ends_at(files.certificate) == ends_at(files.authority)
    with pytest.raises(ValueError):
        authority.sign(b"no request", "box-2")


def test_tls_is_1_3(tmp_path: Path) -> None:
    ClusterAuthority(tmp_path, "0a1b2c3d").create("box-1")
    context = serving_context(BoxFiles.of(tmp_path))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert isinstance(new_invitation(LOOPBACK, 1, bytes(32)), Invitation)
