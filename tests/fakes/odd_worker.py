"""A worker that goes wrong. Arguments: the socket's number, and how: another version, noise, a frame that announces
four gigabytes, an end without a word, noise after it was ready."""

from __future__ import annotations

import os
import socket
import sys

from appliance.engine.llamacpp import messages as wire


def main(number: int, kind: str) -> None:
    connection = socket.socket(fileno=number)
    reader = connection.makefile("rb")
    first = {
        "version": wire.encode_frame(wire.Hello(999, os.getpid())),
        "noise": b"\x00\x00\x00\x05noise",
        "huge": b"\xff\xff\xff\xff",
    }
    if kind == "silent-end":
        return
    connection.sendall(first.get(kind, wire.encode_frame(wire.Hello(wire.PROTOCOL, os.getpid()))))
    if kind == "noise-later":
        reader.read(wire.frame_length(reader.read(wire.HEADER_BYTES)))
        connection.sendall(wire.encode_frame(wire.Ready("odd", ("CPU",), 1, 64, 10, 4, 1000)))
        reader.read(wire.frame_length(reader.read(wire.HEADER_BYTES)))
        connection.sendall(b"\x00\x00\x00\x03abc")
    reader.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
