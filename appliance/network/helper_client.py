"""Asks the helper that runs as root."""

from __future__ import annotations

import socket
from pathlib import Path

from pydantic import ValidationError

from appliance.network.errors import HelperMissing, HelperRefused
from appliance.network.messages import LARGEST_BYTES, Reply, Request
from appliance.schemas.network import TrialStatus

SYSTEM_SOCKET = Path("/run/r1box-system.sock")
ANSWER_TIMEOUT_S = 180.0
"""A change with all its waiting and a taking back."""
CONNECT_TIMEOUT_S = 2.0


class HelperClient:
    """One helper, by its socket. Blocks."""

    def __init__(self, path: Path = SYSTEM_SOCKET) -> None:
        self._path = path

    def ask(self, request: Request) -> TrialStatus:
        """How a trial stands after the request. Raises HelperMissing, HelperRefused."""
        try:
            content = self._exchange(request.model_dump_json().encode() + b"\n")
        except OSError as error:
            reason = (error.strerror or str(error) or type(error).__name__).lower()
            raise HelperMissing(path=str(self._path), reason=reason) from error
        try:
            reply = Reply.model_validate_json(content)
        except ValidationError as error:
            raise HelperMissing(path=str(self._path), reason="its answer is none") from error
        if reply.error is not None:
            told = reply.error
            raise HelperRefused(
                code=told.code, problem=told.message, hint=told.hint, status=told.http_status, param=told.param
            )
        return reply.status

    def _exchange(self, content: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(CONNECT_TIMEOUT_S)
            line.connect(str(self._path))
            line.settimeout(ANSWER_TIMEOUT_S)
            line.sendall(content)
            line.shutdown(socket.SHUT_WR)
            received = bytearray()
            while len(received) <= LARGEST_BYTES and (part := line.recv(65536)):
                received += part
            return bytes(received)
