"""Who is at the other end of the admin socket, by the kernel's word (``SO_PEERCRED``, unix(7)).

Trusted are root, the service's own user, and members of the group ``r1box`` when the service is in it: a group that
other people happen to be in, such as ``users``, gives nobody anything.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

GROUP = "r1box"
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    """A process as it was when it connected."""

    pid: int
    uid: int
    gid: int


def peer_of_socket(connection: socket.socket) -> Peer:
    """The process that connected to a unix socket."""
    return Peer(*_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def admin_group() -> int | None:
    """The id of the group ``r1box`` when there is one and this process is in it. Reads the group database."""
    try:
        gid = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
    return gid if gid in {os.getegid(), *os.getgroups()} else None


def trusted_account(peer: Peer) -> str | None:
    """The peer's login name when it may use the admin socket, else None. Reads the user database."""
    try:
        account = pwd.getpwuid(peer.uid)
        name, groups = account.pw_name, set(os.getgrouplist(account.pw_name, peer.gid))
    except KeyError:
        name, groups = f"uid {peer.uid}", {peer.gid}
    return name if peer.uid in (0, os.geteuid()) or admin_group() in groups else None
