"""What a box says to its leader: once with a token, to join, and from then on with its certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TypeVar

import httpx
import msgspec

from appliance.cluster.authority import (
    accept_certificate,
    asking_context,
    blind_context,
    fingerprint_of,
    leader_name,
    new_request,
    trusting_context,
)
from appliance.cluster.book import ClusterBook, ClusterRecord, check_name
from appliance.cluster.errors import (
    AlreadyInCluster,
    BoxNameTaken,
    InvitationRefused,
    LeaderRefused,
    LeaderUnreachable,
    NotTheInviter,
    RemovedFromCluster,
)
from appliance.cluster.files import make_folder, write_private
from appliance.cluster.invitation import Invitation
from appliance.cluster.wire import Beat, Join, Joined, Renew, Renewed, Told
from appliance.engine.external.connection import NamedTransport

_Answer = TypeVar("_Answer")

TIMEOUT_S = 10.0
BEAT_TIMEOUT_S = 3.0
_MOST_ANSWER_BYTES = 64 * 1024
_REFUSALS = {
    "invitation_refused": InvitationRefused,
    "removed_from_cluster": RemovedFromCluster,
}


def url_of(address: str, port: int) -> str:
    """The leader's address as a URL."""
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"


async def join(book: ClusterBook, invitation: Invitation, name: str, own_address: str | None = None) -> ClusterRecord:
    """Use a token. The leader is known by the token's fingerprint before anything but a request for its authority is
    sent; the key of this box never leaves it.

    Raises NotTheInviter, InvitationRefused, BoxNameTaken, LeaderUnreachable, LeaderRefused, AlreadyInCluster.
    """
    check_name(name)
    here = await asyncio.to_thread(book.read)
    if here is not None:
        raise AlreadyInCluster(cluster=here.id, role=here.role)
    shown = f"{invitation.address}:{invitation.port}"
    async with _client(invitation.address, invitation.port, blind_context(), None) as stranger:
        authority = (await _ask(stranger, shown, "GET", "/v1/authority")).content
    if not await asyncio.to_thread(_is_inviter, authority, invitation.fingerprint):
        raise NotTheInviter(address=shown)
    context = trusting_context(authority)
    # The name in its certificate has the cluster's id, which is not known yet; its authority is known, and signs for
    # this cluster alone. That it may serve is checked as ever: no other box of the cluster can stand in for it.
    context.check_hostname = False
    await asyncio.to_thread(make_folder, book.folder)
    await asyncio.to_thread(write_private, book.files.authority, authority)
    request = await asyncio.to_thread(new_request, book.folder)
    asked = Join(invitation=invitation.id, secret=invitation.secret.hex(), name=name, request=request.decode("ascii"))
    async with _client(invitation.address, invitation.port, context, None) as client:
        joined = _decoded(await _ask(client, shown, "POST", "/v1/join", msgspec.json.encode(asked)), Joined)
    await asyncio.to_thread(accept_certificate, book.folder, joined.certificate.encode("ascii"))
    towards = await asyncio.to_thread(address_towards, invitation.address, invitation.port)
    record = ClusterRecord(
        id=joined.cluster,
        role="member",
        name=name,
        own_address=own_address or towards,
        address=invitation.address,
        port=invitation.port,
        leader=joined.leader,
    )
    await asyncio.to_thread(book.join, record)
    return record


class LeaderClient:
    """Speaks to the leader with this box's certificate. For one event loop; close it."""

    def __init__(self, book: ClusterBook, record: ClusterRecord) -> None:
        """Blocks on files. Raises OSError (ssl.SSLError)."""
        self._book = book
        self._shown = f"{record.address}:{record.port}"
        self._record = record
        self._client = self._connect()

    async def beat(self, beat: Beat) -> Told:
        """Tell how this box is. Raises LeaderUnreachable, RemovedFromCluster, LeaderRefused."""
        answer = await _ask(self._client, self._shown, "POST", "/v1/beat", msgspec.json.encode(beat), BEAT_TIMEOUT_S)
        return _decoded(answer, Told)

    async def renew(self) -> None:
        """Have this box's certificate signed anew. Raises as ``beat``."""
        request = await asyncio.to_thread(new_request, self._book.folder)
        asked = msgspec.json.encode(Renew(request=request.decode("ascii")))
        answer = _decoded(await _ask(self._client, self._shown, "POST", "/v1/renew", asked), Renewed)
        await asyncio.to_thread(accept_certificate, self._book.folder, answer.certificate.encode("ascii"))
        before, self._client = self._client, await asyncio.to_thread(self._connect)
        await before.aclose()

    async def leave(self) -> None:
        """Say good-bye. Raises as ``beat``."""
        await _ask(self._client, self._shown, "POST", "/v1/leave", b"")

    async def aclose(self) -> None:
        await self._client.aclose()

    def _connect(self) -> httpx.AsyncClient:
        record = self._record
        return _client(record.address, record.port, asking_context(self._book.files), leader_name(record.id))


async def say_goodbye(book: ClusterBook, record: ClusterRecord) -> str | None:
    """Tell the leader that this box leaves; why that could not be done, if so."""
    try:
        client = await asyncio.to_thread(LeaderClient, book, record)
    except (OSError, ValueError) as error:
        return str(error)
    try:
        await client.leave()
    except (LeaderUnreachable, LeaderRefused, RemovedFromCluster) as error:
        return error.message
    finally:
        await client.aclose()
    return None


def address_towards(address: str, port: int) -> str:
    """This machine's address on the way to another; nothing is sent. Blocks."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, port))
        return str(probe.getsockname()[0])


def _is_inviter(authority: bytes, fingerprint: bytes) -> bool:
    try:
        return fingerprint_of(authority) == fingerprint
    except ValueError:
        return False


def _client(address: str, port: int, context: ssl.SSLContext, name: str | None) -> httpx.AsyncClient:
    transport: httpx.AsyncHTTPTransport = (
        httpx.AsyncHTTPTransport(verify=context, trust_env=False) if name is None else NamedTransport(context, name)
    )
    return httpx.AsyncClient(
        transport=transport, base_url=url_of(address, port), timeout=TIMEOUT_S, trust_env=False, follow_redirects=False
    )


async def _ask(
    client: httpx.AsyncClient,
    shown: str,
    method: str,
    path: str,
    content: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
) -> httpx.Response:
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream(method, path, content=content, timeout=timeout_s) as response,
        ):
            found = bytearray()
            async for chunk in response.aiter_bytes():
                found += chunk
                if len(found) > _MOST_ANSWER_BYTES:
                    raise LeaderRefused(reason="its answer is too long")
    except TimeoutError as error:
        raise LeaderUnreachable(address=shown, reason=f"no answer within {timeout_s:.0f} s") from error
    except (httpx.HTTPError, OSError) as error:
        raise LeaderUnreachable(address=shown, reason=str(error) or type(error).__name__) from error
    if response.is_success:
        return httpx.Response(response.status_code, content=bytes(found))
    raise _refusal(bytes(found), response.status_code)


class _Said(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problem(msgspec.Struct, frozen=True):
    error: _Said = _Said()


def _refusal(raw: bytes, status: int) -> Exception:
    try:
        said = msgspec.json.decode(raw, type=_Problem).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Said()
    known = _REFUSALS.get(said.code)
    if known is not None:
        return known()
    if said.code == "box_name_taken":
        return BoxNameTaken(name="that was given")
    return LeaderRefused(reason=said.message[:300] or f"it answers {status}")


def _decoded(response: httpx.Response, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LeaderRefused(reason=f"its answer cannot be understood ({error})") from error
