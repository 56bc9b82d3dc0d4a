from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from anthropic import AsyncAnthropic

from tests.appliance.api.box import Box


@pytest.fixture
async def anthropic(box: Box, address: str) -> AsyncIterator[AsyncAnthropic]:
    """The official client."""
    client = await asyncio.to_thread(AsyncAnthropic, base_url=address, api_key=box.key, max_retries=0)
    async with client:
        yield client
