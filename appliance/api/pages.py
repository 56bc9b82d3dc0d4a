"""The chat page's files, read once at start: no disk access per request, and no path of a client reaches the disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from appliance.errors import AppError

WEB_FOLDER = Path(__file__).parent / "web"

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)

# Own table: the mimetypes module asks files of the operating system, which differ.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


class NoAuthority(AppError):
    """The box has no authority of its own."""

    code = "no_authority"
    http_status = 404
    template = "This box has no authority of its own."
    hint_template = "It serves plain HTTP, or a certificate that computers trust already."


_FOR_TOOLS = frozenset(("package.json", "tsconfig.json"))


@dataclass(frozen=True, slots=True)
class Page:
    """A file in memory with the headers that go with it."""

    url_path: str
    content: bytes
    media_type: str
    etag: str


def load_pages(folder: Path) -> tuple[Page, ...]:
    """The files below ``folder`` of a type that is served, ``index.html`` as its folder's address. Blocks."""
    pages = []
    for file in sorted(folder.rglob("*")):
        media_type = _MEDIA_TYPES.get(file.suffix)
        if media_type is None or file.name in _FOR_TOOLS or not file.is_file():
            continue
        relative = file.relative_to(folder).as_posix()
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        address = relative.removesuffix("index.html") if file.name == "index.html" else relative
        pages.append(Page(url_path=f"/{address}", content=content, media_type=media_type, etag=etag))
    return tuple(pages)


def pages_router(pages: tuple[Page, ...]) -> APIRouter:
    """One route per file. No mount on ``/``: it would turn every 405 of the API into a 404."""
    router = APIRouter(include_in_schema=False)
    for page in pages:
        router.add_api_route(page.url_path, _endpoint(page), methods=["GET", "HEAD"], response_model=None)
    return router


def _endpoint(page: Page) -> Callable[[Request], Awaitable[Response]]:
    headers = {
        # The names do not change with the content, so a browser asks each time and mostly gets a 304.
        "Cache-Control": "no-cache",
        "ETag": page.etag,
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    }

    async def serve(request: Request) -> Response:
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if page.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(page.content, headers=headers, media_type=page.media_type)

    return serve


def authority_router(authority: Callable[[], bytes | None]) -> APIRouter:
    """``GET /authority.crt``: the certificate that a computer installs to trust the box. It is public by nature."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/authority.crt", methods=["GET", "HEAD"], response_model=None)
    async def get_authority() -> Response:
        pem = await asyncio.to_thread(authority)
        if pem is None:
            raise NoAuthority
        headers = {"Content-Disposition": 'attachment; filename="r1box-authority.crt"', "Cache-Control": "no-store"}
        return Response(pem, media_type="application/x-x509-ca-cert", headers=headers)

    return router
