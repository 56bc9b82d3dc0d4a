"""The chat page's files, read once at start: no disk access per request, and no path of a client reaches the disk."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.responses import Response

from appliance.api.replies import NO_STORE
from appliance.api.routes import Routes
from appliance.errors import AppError

WEB_FOLDER = Path(__file__).parent / "web"

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    # DOMPurify alone may turn text into elements.
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify"
)

CONSOLE_FOLDER = "/console/"
CONSOLE_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    # The terminal writes style sheets for the sizes and colours of cells. Scripts, and text as elements, stay out.
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Of the page with the operator's console."""

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


_HASHED_NAME = re.compile(r"^assets/.+-[0-9A-Z]{8}\.\w+$")
"""Names that the build gives: they change with the content."""

_LASTING = "public, max-age=31536000, immutable"
_A_DAY = "public, max-age=86400"
"""The page's sign, which browsers ask for again with every view."""
_ASK = "no-cache"
"""Asked for each time, and mostly answered with a 304."""
_PICTURES = frozenset(("image/svg+xml", "image/png", "image/x-icon"))

_TEXT = ("text/", "application/json", "application/manifest+json", "image/svg+xml")


@dataclass(frozen=True, slots=True)
class Page:
    """A file in memory with the headers that go with it. ``packed`` is it in gzip, None where that saves nothing;
    ``lasting``: its name changes with its content, so that browsers need never ask again."""

    url_path: str
    content: bytes
    packed: bytes | None
    media_type: str
    etag: str
    lasting: bool

    def headers(self) -> dict[str, str]:
        """Those of every answer with this file."""
        return {
            "Cache-Control": _LASTING if self.lasting else _A_DAY if self.media_type in _PICTURES else _ASK,
            "ETag": self.etag,
            "Content-Security-Policy": CONSOLE_POLICY
            if self.url_path.startswith(CONSOLE_FOLDER)
            else CONTENT_SECURITY_POLICY,
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Vary": "Accept-Encoding",
        }


def load_pages(folder: Path) -> tuple[Page, ...]:
    """The files below ``folder`` of a type that is served, ``index.html`` as its folder's address. Blocks."""
    pages = []
    for file in sorted(folder.rglob("*")):
        media_type = _MEDIA_TYPES.get(file.suffix)
        if media_type is None or file.name in _FOR_TOOLS or not file.is_file():
            continue
        relative = file.relative_to(folder).as_posix()
        content = file.read_bytes()
        # Once and well: pages are packed at the start and sent for as long as the daemon runs.
        packed = gzip.compress(content, 9, mtime=0) if media_type.startswith(_TEXT) else None
        address = relative.removesuffix("index.html") if file.name == "index.html" else relative
        pages.append(
            Page(
                url_path=f"/{address}",
                content=content,
                packed=packed if packed is not None and len(packed) < len(content) else None,
                media_type=media_type,
                etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
                lasting=_HASHED_NAME.match(relative) is not None,
            )
        )
    return tuple(pages)


def pages_router(pages: tuple[Page, ...]) -> Routes:
    """One route per file. No mount on ``/``: it would turn every 405 of the API into a 404."""
    router = Routes(include_in_schema=False)
    for page in pages:
        endpoint = _front_door(page) if page.url_path == "/" else _endpoint(page)
        router.add_api_route(page.url_path, endpoint, methods=["GET", "HEAD"], response_model=None)
    return router


def _front_door(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Whoever wants a page gets it. Ollama's clients, which look here for a sign of life, want none and are given the
    words that some of them compare."""
    show = _endpoint(page)

    async def serve(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            response = await show(request)
            response.headers["Vary"] = f"Accept, {response.headers['Vary']}"
            return response
        return Response("Ollama is running", media_type="text/plain", headers={"Vary": "Accept", **NO_STORE})

    return serve


def _endpoint(page: Page) -> Callable[[Request], Awaitable[Response]]:
    headers = page.headers()

    async def serve(request: Request) -> Response:
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if page.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        if page.packed is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            # A tag names the exact bytes; the weak form says that both encodings are the same file.
            packed_headers = {**headers, "Content-Encoding": "gzip", "ETag": f"W/{page.etag}"}
            return Response(page.packed, headers=packed_headers, media_type=page.media_type)
        return Response(page.content, headers=headers, media_type=page.media_type)

    return serve


def _takes_gzip(accepted: str) -> bool:
    """Whether an ``Accept-Encoding`` has gzip and does not exclude it with ``q=0`` (RFC 9110, section 12.5.3)."""
    for part in accepted.split(","):
        coding, _, weight = part.strip().partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False


def authority_router(authority: Callable[[], bytes | None]) -> Routes:
    """``GET /authority.crt``: the certificate that a computer installs to trust the box. It is public by nature."""
    router = Routes(include_in_schema=False)

    @router.api_route("/authority.crt", methods=["GET", "HEAD"], response_model=None)
    async def get_authority() -> Response:
        pem = await asyncio.to_thread(authority)
        if pem is None:
            raise NoAuthority
        headers = {"Content-Disposition": 'attachment; filename="r1box-authority.crt"', "Cache-Control": "no-store"}
        return Response(pem, media_type="application/x-x509-ca-cert", headers=headers)

    return router
