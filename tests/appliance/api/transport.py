"""Requests straight into the application, which let others run as those over a socket do."""

from __future__ import annotations

import asyncio

import httpx


class Application(httpx.ASGITransport):
    """A test that asks again and again until something is so would otherwise keep the event loop to itself: an answer
    that waits for nothing gives it to nobody."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return await super().handle_async_request(request)
