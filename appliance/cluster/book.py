"""Which boxes belong together: one small file, written by commands and the daemon alike, a lock held meanwhile.

The leader's file names the others by the fingerprints of their certificates, so that a box which is taken out is
refused from the next request on, whatever certificate it holds. The others' file says who leads them.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from appliance.cluster.authority import BoxFiles, ClusterAuthority, fingerprint_of
from appliance.cluster.errors import (
    AlreadyInCluster,
    BadBoxName,
    BoxNameTaken,
    BoxNotFound,
    ClusterFileUnusable,
    ClusterHasBoxes,
    InvitationRefused,
    NoCluster,
    NotTheLeader,
)
from appliance.cluster.files import locked, make_folder, write_private
from appliance.cluster.invitation import Invitation, fits, hash_of, new_invitation

FILE = "cluster.json"
INVITATION_S = 900.0
MOST_INVITATION_S = 86_400.0
MOST_BOXES = 16
_MOST_INVITATIONS = 32
_MOST_BYTES = 1024 * 1024
_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_FINGERPRINTS = 2
"""The certificate in use, and the one that it was renewed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Another box, as the leader knows it. ``fingerprints`` are SHA-256 of its certificates, the newest last."""

    name: str
    fingerprints: tuple[str, ...]
    joined_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInvitation:
    """An invitation that nobody used yet. Its secret is kept as a hash."""

    id: str
    hash: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """The cluster as this box knows it. ``address`` and ``port`` are where the leader listens for the others;
    ``own_address`` is this box's on the link between them. ``members`` and ``invitations`` are the leader's alone.
    ``model`` is the id of what all boxes serve together."""

    id: str
    role: Literal["leader", "member"]
    name: str
    own_address: str
    address: str
    port: int
    leader: str
    members: tuple[Member, ...] = ()
    invitations: tuple[OpenInvitation, ...] = ()
    model: str | None = None

    @property
    def leads(self) -> bool:
        return self.role == "leader"

    @property
    def boxes(self) -> tuple[str, ...]:
        """Names of all boxes that are known here, the leader first."""
        return (self.leader, *(member.name for member in self.members))

    def member_with(self, fingerprint: str) -> Member | None:
        """The box that a certificate belongs to."""
        return next((member for member in self.members if fingerprint in member.fingerprints), None)


def _now() -> datetime:
    return datetime.now(UTC)


class ClusterBook:
    """The file, and the certificates beside it. All methods block, and raise ClusterFileUnusable."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = _now) -> None:
        self.folder = folder
        self._file = folder / FILE
        self._now = now
        self._seen: tuple[tuple[int, int, int], ClusterRecord] | None = None

    @property
    def files(self) -> BoxFiles:
        """Certificates and key of this box."""
        return BoxFiles.of(self.folder)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self) -> ClusterRecord | None:
        """The record as it is now; ``None`` for a box of its own. Quick when nothing has changed."""
        try:
            found = self._file.stat()
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if self._seen is not None and self._seen[0] == mark:
                return self._seen[1]
            if found.st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            record = msgspec.json.decode(self._file.read_bytes(), type=ClusterRecord)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        self._seen = (mark, record)
        return record

    def here(self) -> ClusterRecord:
        """The record. Raises NoCluster."""
        record = self.read()
        if record is None:
            raise NoCluster
        return record

    def led(self) -> ClusterRecord:
        """The record of a leader. Raises NoCluster, NotTheLeader."""
        record = self.here()
        if not record.leads:
            raise NotTheLeader(leader=record.leader)
        return record

    # -- the leader's side ------------------------------------------------------------------------------------------

    def begin(self, name: str, address: str, port: int) -> ClusterRecord:
        """Make this box the leader of a new cluster. Raises AlreadyInCluster, BadBoxName."""
        check_name(name)
        with self._locked():
            self._refuse_second()
            record = ClusterRecord(
                id=secrets.token_hex(4),
                role="leader",
                name=name,
                own_address=address,
                address=address,
                port=port,
                leader=name,
            )
            ClusterAuthority(self.folder, record.id, self._now).create(name)
            self._write(record)
        return record

    def invite(self, valid_s: float = INVITATION_S) -> Invitation:
        """A token for one box. Raises NoCluster, NotTheLeader."""
        with self._locked():
            record = self.led()
            made = new_invitation(record.address, record.port, fingerprint_of(self.files.authority.read_bytes()))
            expires_at = self._now() + timedelta(seconds=min(valid_s, MOST_INVITATION_S))
            kept = self._open(record)[-(_MOST_INVITATIONS - 1) :]
            one = OpenInvitation(id=made.id, hash=hash_of(made.secret), expires_at=expires_at)
            self._write(replace(record, invitations=(*kept, one)))
        return made

    def has_invitations(self) -> bool:
        """Whether somebody might join now."""
        record = self.read()
        return record is not None and bool(self._open(record))

    def admit(self, invitation_id: str, secret: bytes, name: str, request: bytes) -> bytes:
        """Let a box in, once for each invitation; its certificate (PEM).

        Raises InvitationRefused, BadBoxName, BoxNameTaken (the invitation is kept for these two), ValueError for a bad
        certificate request.
        """
        with self._locked():
            record = self.led()
            found = next((one for one in self._open(record) if one.id == invitation_id), None)
            # The comparison is made for unknown invitations too: how long it takes tells nothing.
            if not fits(secret, hash_of(b"") if found is None else found.hash) or found is None:
                raise InvitationRefused
            check_name(name)
            if name in record.boxes:
                raise BoxNameTaken(name=name)
            if len(record.members) + 1 >= MOST_BOXES:
                raise InvitationRefused
            certificate = ClusterAuthority(self.folder, record.id, self._now).sign(request, name)
            member = Member(name=name, fingerprints=(fingerprint_of(certificate).hex(),), joined_at=self._now())
            left = tuple(one for one in record.invitations if one.id != found.id)
            self._write(replace(record, members=(*record.members, member), invitations=left))
        return certificate

    def renew(self, name: str, request: bytes) -> bytes:
        """Another certificate for a box that belongs here. Raises BoxNotFound, ValueError."""
        with self._locked():
            record = self.led()
            member = self._member(record, name)
            certificate = ClusterAuthority(self.folder, record.id, self._now).sign(request, name)
            kept = (*member.fingerprints, fingerprint_of(certificate).hex())[-_FINGERPRINTS:]
            self._write(_with(record, replace(member, fingerprints=kept)))
        return certificate

    def remove(self, name: str) -> None:
        """Take a box out. Raises NoCluster, NotTheLeader, BoxNotFound."""
        with self._locked():
            record = self.led()
            member = self._member(record, name)
            self._write(replace(record, members=tuple(one for one in record.members if one is not member)))

    def serve_together(self, model_id: str | None) -> None:
        """What all boxes serve as one from now on. Raises NoCluster, NotTheLeader."""
        with self._locked():
            self._write(replace(self.led(), model=model_id))

    # -- the others' side -------------------------------------------------------------------------------------------

    def note_model(self, model_id: str | None) -> None:
        """What the leader said that all serve together: this box must not load it for itself at its next start."""
        with self._locked():
            record = self.read()
            if record is not None and not record.leads and record.model != model_id:
                self._write(replace(record, model=model_id))

    def join(self, record: ClusterRecord) -> None:
        """Remember who leads this box; its certificates are in place. Raises AlreadyInCluster."""
        with self._locked():
            self._refuse_second()
            self._write(record)

    def leave(self, *, force: bool = False) -> ClusterRecord:
        """Forget the cluster with all keys. Raises NoCluster, ClusterHasBoxes (for a leader without ``force``)."""
        with self._locked():
            record = self.here()
            if record.leads and record.members and not force:
                raise ClusterHasBoxes(boxes=", ".join(member.name for member in record.members))
            try:
                self._file.unlink()
                for kind in ("*.key*", "*.pem", "*.crt"):
                    for path in self.folder.glob(kind):
                        path.unlink()
                shutil.rmtree(self.folder / "run", ignore_errors=True)
            except OSError as error:
                raise self._unusable(error) from error
        return record

    # -- small parts ------------------------------------------------------------------------------------------------

    def _refuse_second(self) -> None:
        found = self.read()
        if found is not None:
            raise AlreadyInCluster(cluster=found.id, role=found.role)

    def _open(self, record: ClusterRecord) -> tuple[OpenInvitation, ...]:
        now = self._now()
        return tuple(one for one in record.invitations if one.expires_at > now)

    @staticmethod
    def _member(record: ClusterRecord, name: str) -> Member:
        found = next((one for one in record.members if one.name == name), None)
        if found is None:
            raise BoxNotFound(name=name, boxes=", ".join(one.name for one in record.members) or "none but its leader")
        return found

    def _write(self, record: ClusterRecord) -> None:
        make_folder(self.folder)
        try:
            write_private(self._file, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
        except OSError as error:
            raise self._unusable(error) from error
        self._seen = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with locked(self.folder):
                yield
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError | ValueError) -> ClusterFileUnusable:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ClusterFileUnusable(path=str(self._file), reason=reason)


def folder_of(state_dir: Path) -> Path:
    """Where a box keeps what belongs to its cluster."""
    return state_dir / "cluster"


def check_name(name: str) -> None:
    """Raises BadBoxName."""
    if not _NAME.fullmatch(name):
        raise BadBoxName(name=name[:80])


def _with(record: ClusterRecord, member: Member) -> ClusterRecord:
    members = tuple(member if one.name == member.name else one for one in record.members)
    return replace(record, members=members)
