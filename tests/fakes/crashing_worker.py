"""A worker that speaks the real protocol and dies as llama.cpp does where its fast kernels crash.

Arguments: the socket's number, and a file that gets a line per start. With ``extra_buffers`` it ends by SIGSEGV after
``Load``; without it is ready and waits for its shutdown.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from appliance.engine.llamacpp import messages as wire


def main(number: int, starts: Path) -> None:
    connection = socket.socket(fileno=number)
    reader = connection.makefile("rb")

    def receive() -> wire.ToWorker:
        return wire.to_worker_decoder.decode(reader.read(wire.frame_length(reader.read(wire.HEADER_BYTES))))

    connection.sendall(wire.encode_frame(wire.Hello(wire.PROTOCOL, os.getpid())))
    load = receive()
    assert isinstance(load, wire.Load)
    with starts.open("a") as file:
        file.write(f"extra_buffers={load.config.extra_buffers}\n")
    if load.config.extra_buffers:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    ready = wire.Ready("fake", ("CPU",), load.config.seats, load.config.seat_context, 10, 4, 1000)
    connection.sendall(wire.encode_frame(ready))
    assert isinstance(receive(), wire.Shutdown)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
