from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(
    ("path", "media_type", "text"),
    [
        ("/", "text/html; charset=utf-8", "<!doctype html><title>R1 Box</title>"),
        ("/js/app.js", "text/javascript; charset=utf-8", "export {};"),
    ],
)
async def test_files_and_their_headers(stranger: httpx.AsyncClient, path: str, media_type: str, text: str) -> None:
    stranger.headers["Accept"] = "text/html,*/*;q=0.8"
    response = await stranger.get(path)
    assert (response.status_code, response.text) == (200, text)
    headers = response.headers
    assert headers["content-type"] == media_type
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    again = await stranger.get(path, headers={"If-None-Match": headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == headers["etag"]
    other = await stranger.get(path, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)
async def test_texts_are_packed_for_who_takes_it(stranger: httpx.AsyncClient, accepted: str, packed: bool) -> None:
    response = await stranger.get("/assets/app-0A1B2C3D.js", headers={"Accept-Encoding": accepted})
    assert (response.headers.get("content-encoding") == "gzip") is packed
    assert response.text == "export {};\n" * 100
    assert response.headers["vary"] == "Accept-Encoding"
    # Both forms are the same file to a browser that asks again.
    again = await stranger.get(
        "/assets/app-0A1B2C3D.js", headers={"If-None-Match": response.headers["etag"], "Accept-Encoding": accepted}
    )
    assert again.status_code == 304


async def test_what_is_named_after_its_content_is_kept_for_ever(stranger: httpx.AsyncClient) -> None:
    response = await stranger.get("/assets/app-0A1B2C3D.js")
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    sign = await stranger.get("/favicon.svg")
    assert sign.headers["cache-control"] == "public, max-age=86400"


async def test_no_foreign_origin_is_let_in(stranger: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/"), ("GET", "/v1/models"), ("OPTIONS", "/v1/chat/completions")):
        response = await stranger.request(
            method, path, headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert not [name for name in response.headers if name.startswith("access-control-")]
