"""Talks to a running box from the command line: its address, key and certificate, its errors as ours."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.errors import AppError

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
    """One box."""

    def __init__(self, url: str | None, key: str | None) -> None:
        from appliance.cli.chat import default_url, http_client

        if not key:
            raise BoxRefused(
                problem="There is no API key to send.",
                next_step="Give --key or set R1BOX_API_KEY; r1box keys create NAME --scope all makes one.",
            )
        self._url = (url or default_url()).rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._client = http_client(None, own=url is None)

    def get(self, path: str) -> Any:
        """The JSON of a GET. Raises BoxUnreachable, BoxRefused."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, object] | None = None) -> Any:
        """The JSON of a POST; it may take minutes. Raises BoxUnreachable, BoxRefused."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> Any:
        """The JSON of a DELETE. Raises BoxUnreachable, BoxRefused."""
        return self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: dict[str, object] | None) -> Any:
        import httpx

        client = self._client or httpx.Client(timeout=None, trust_env=False)  # noqa: S113 - loads take minutes
        try:
            response = client.request(method, f"{self._url}{path}", headers=self._headers, json=body)
        except httpx.TransportError as error:
            raise BoxUnreachable(url=self._url, reason=str(error) or type(error).__name__) from error
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        if response.is_success:
            return answer
        told = answer.get("error", {})
        raise BoxRefused(
            problem=told.get("message") or f"The box answered with status {response.status_code}.",
            next_step=told.get("hint") or "Its log says more.",
        )
