"""Talks to a running box from the command line: its address, key and certificate, its errors as ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.errors import AppError

if TYPE_CHECKING:
    import httpx

SERVICE_SOCKET = Path("/run/r1box/admin.sock")

Url = Annotated[str | None, typer.Option(help="Address of the box. Default: the settings' host and port.")]
Key = Annotated[str | None, typer.Option(envvar="R1BOX_API_KEY", help="API key that may see or change this.")]


class BoxUnreachable(AppError):
    """The daemon does not answer."""

    code = "box_unreachable"
    http_status = 503
    template = "R1 Box does not answer at {url}: {reason}"
    hint_template = "Start it with: r1box serve. Another address: --url"


class BoxRefused(AppError):
    """The daemon answered with an error; its message and hint are kept."""

    code = "box_refused"
    template = "{problem}"
    hint_template = "{next_step}"


class BoxClient:
    """One box. With a key (or another address) by its port; without, on the box itself, by the admin socket, which asks
    for none."""

    def __init__(self, url: str | None, key: str | None) -> None:
        """Raises BoxRefused when there is neither a key nor a socket."""
        import httpx

        from appliance.cli.chat import default_url, http_client

        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        found = None if key or url else admin_socket()
        if found is not None:
            self._url = "http://r1box"
            self._client = httpx.Client(transport=httpx.HTTPTransport(uds=str(found)), timeout=None)  # noqa: S113
            self._shown = str(found)
            return
        if not key:
            raise BoxRefused(
                problem="There is no API key to send, and no admin socket of a running box here.",
                next_step="Give --key or set R1BOX_API_KEY; r1box keys create NAME --scope all makes one.",
            )
        self._url = self._shown = (url or default_url()).rstrip("/")
        # Loads take minutes.
        self._client = http_client(None, own=url is None) or httpx.Client(timeout=None, trust_env=False)  # noqa: S113

    def get(self, path: str) -> Any:
        """The JSON of a GET. Raises BoxUnreachable, BoxRefused."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, object] | None = None) -> Any:
        """The JSON of a POST; it may take minutes. Raises BoxUnreachable, BoxRefused."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: dict[str, object]) -> Any:
        """The JSON of a PATCH. Raises BoxUnreachable, BoxRefused."""
        return self._ask("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """The JSON of a DELETE. Raises BoxUnreachable, BoxRefused."""
        return self._ask("DELETE", path, None)

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """Name and JSON of each event of a stream, until it ends. Raises BoxUnreachable, BoxRefused."""
        import httpx

        name = "message"
        try:
            with self._client.stream("GET", f"{self._url}{path}", headers=self._headers) as response:
                if not response.is_success:
                    response.read()
                    raise _refused(response)
                for line in response.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, json.loads(line.removeprefix("data: "))
                        name = "message"
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _ask(self, method: str, path: str, body: dict[str, object] | None) -> Any:
        import httpx

        try:
            response = self._client.request(method, f"{self._url}{path}", headers=self._headers, json=body)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _refused(response)
        try:
            return response.json()
        except ValueError:
            return {}

    def _unreachable(self, error: Exception) -> BoxUnreachable:
        return BoxUnreachable(url=self._shown, reason=str(error) or type(error).__name__)


def admin_socket() -> Path | None:
    """The admin socket of a box on this machine that this user may open: that of the settings, then the service's."""
    from appliance.paths import default_admin_socket
    from appliance.settings import load_settings

    settings = load_settings()
    own = settings.admin_socket or default_admin_socket(settings.state_dir)
    return next((path for path in (own, SERVICE_SOCKET) if _answers(path)), None)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _refused(response: httpx.Response) -> BoxRefused:
    try:
        told = response.json().get("error", {})
    except (ValueError, AttributeError):
        told = {}
    return BoxRefused(
        problem=told.get("message") or f"The box answered with status {response.status_code}.",
        next_step=told.get("hint") or "Its log says more: r1box logs",
    )
