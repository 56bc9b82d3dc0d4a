"""A worker without a model that writes tokens at a known pace: for measuring what the daemon adds.

Arguments: the socket's number, tokens per second of all sequences together, and the path of a file: while there is one
nobody gets a token but the first. Speaks the real protocol. A sequence's
first token comes at once; then, like a card, one step gives every running sequence a token and lasts as long as that
many tokens take. A quarter of an answer is thought.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

from appliance.engine.llamacpp import messages as wire

WORDS = ("the ", "box ", "answers ", "with ", "plain ", "words, ", "one ", "after ")
TOKEN_CHARS = 4
HELD_POLL_S = 0.02


class PacedWorker:
    """One connection to the daemon."""

    def __init__(self, connection: socket.socket, tokens_per_s: float, hold: str | None = None) -> None:
        self._connection = connection
        self._hold = hold
        self._token_s = 1 / tokens_per_s
        self._running: dict[str, list[int]] = {}
        """Tokens written, tokens wanted, tokens of the prompt."""
        self._received = bytearray()
        self._steps = 0
        self._generated = 0

    def run(self) -> None:
        self._send(wire.Hello(wire.PROTOCOL, os.getpid()))
        next_step_s = time.perf_counter()
        while True:
            now_s = time.perf_counter()
            wait_s = max(next_step_s - now_s, 0) if self._running else None
            held = self._hold is not None and os.path.exists(self._hold)  # noqa: PTH110  looked at for each token
            if held and self._running:
                wait_s = HELD_POLL_S
            readable, _, _ = select.select([self._connection], [], [], wait_s)
            if readable and not self._read():
                return
            now_s = time.perf_counter()
            if self._running and now_s >= next_step_s and not held:
                # A step that was late is not made up for by the next ones: a card does not hurry either.
                next_step_s = max(next_step_s + len(self._running) * self._token_s, now_s - 0.05)
                self._step([self._next(request_id) for request_id in list(self._running)])
            elif not self._running:
                next_step_s = now_s

    def _read(self) -> bool:
        data = self._connection.recv(1 << 20)
        if not data:
            return False
        self._received += data
        while len(self._received) >= wire.HEADER_BYTES:
            end = wire.HEADER_BYTES + wire.frame_length(bytes(self._received[: wire.HEADER_BYTES]))
            if len(self._received) < end:
                break
            message = wire.to_worker_decoder.decode(self._received[wire.HEADER_BYTES : end])
            del self._received[:end]
            if isinstance(message, wire.Shutdown):
                return False
            self._take(message)
        return True

    def _take(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Load(config):
                self._send(wire.Ready("paced", ("CPU",), config.seats, config.seat_context, 2**31, TOKEN_CHARS * 4, 1))
            case wire.Tokenize():
                tokens = [1] if message.add_bos else []
                for text, _ in message.segments:
                    tokens += [2] * -(-len(text) // TOKEN_CHARS)
                self._send(wire.Tokens(message.call_id, tokens))
            case wire.Generate():
                self._running[message.request_id] = [0, message.max_tokens, len(message.prompt)]
                self._step([self._next(message.request_id)])
            case wire.Abort(request_id) if request_id in self._running:
                self._step([self._end(request_id, "aborted")])
            case _:
                pass

    def _next(self, request_id: str) -> wire.Output:
        state = self._running[request_id]
        written, wanted, _ = state
        if written == wanted:
            return self._end(request_id, "length")
        state[0] += 1
        self._generated += 1
        text = "\n</think>\n\n" if written == wanted // 4 else WORDS[written % len(WORDS)]
        return wire.Output(request_id, text, 1)

    def _end(self, request_id: str, finish: str) -> wire.Output:
        written, _, prompt = self._running.pop(request_id)
        return wire.Output(request_id, finish=finish, prompt_tokens=prompt, completion_tokens=written)

    def _step(self, outputs: list[wire.Output]) -> None:
        self._steps += 1
        counters = wire.Counters(active=len(self._running), steps=self._steps, generated_tokens=self._generated)
        self._send(wire.Step(outputs, counters))

    def _send(self, message: wire.FromWorker) -> None:
        self._connection.sendall(wire.encode_frame(message))


if __name__ == "__main__":
    PacedWorker(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), *sys.argv[3:]).run()
