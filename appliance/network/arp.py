"""Asks the network who has an IPv4 address (RFC 826), before it is taken (RFC 5227) and whether the router answers.

Needs the right to send raw packets (CAP_NET_RAW). IPv6 looks for duplicates by itself (RFC 4862).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time

PROBES = 3
PROBE_S = 0.4
_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_NONE = b"\x00" * 4
_FORM = "!HHBBH6s4s6s4s"


def who_has(interface: str, address: str, source: str | None = None, *, probes: int = PROBES) -> str | None:
    """The hardware address that answers for ``address`` on ``interface``; None when nobody does within about a second.

    ``source`` is an address of ours to ask from; without one nobody's table learns of it (a probe by RFC 5227). Raises
    OSError without the right, or where there is no such interface.
    """
    wanted = ipaddress.IPv4Address(address).packed
    ours = _NONE if source is None else ipaddress.IPv4Address(source).packed
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as line:
        line.bind((interface, _ARP))
        own = line.getsockname()[4]
        request = _BROADCAST + own + struct.pack("!H", _ARP)
        request += struct.pack(_FORM, 1, 0x0800, 6, 4, 1, own, ours, b"\x00" * 6, wanted)
        for _ in range(probes):
            line.send(request)
            until_s = time.monotonic() + PROBE_S
            while (left_s := until_s - time.monotonic()) > 0:
                line.settimeout(left_s)
                try:
                    frame = line.recv(128)
                except TimeoutError:
                    break
                if (holder := answer(frame, wanted, own)) is not None:
                    return holder
    return None


def answer(frame: bytes, wanted: bytes, own: bytes) -> str | None:
    """The hardware address in a frame by which another machine says that ``wanted`` is its own, or is about to take it;
    None for any other frame."""
    size = 14 + struct.calcsize(_FORM)
    if len(frame) < size or frame[12:14] != struct.pack("!H", _ARP):
        return None
    _, protocol, _, _, _, sender, address, _, target = struct.unpack(_FORM, frame[14:size])
    if protocol != 0x0800 or sender == own:
        return None
    claims = address == wanted or (address == _NONE and target == wanted)
    return ":".join(f"{byte:02x}" for byte in sender) if claims else None
