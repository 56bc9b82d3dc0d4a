from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from ollama import AsyncClient

from tests.appliance.api.box import Box


@pytest.fixture
async def ollama(box: Box, address: str) -> AsyncIterator[AsyncClient]:
    """The official client."""
    client = await asyncio.to_thread(AsyncClient, host=address, headers=box.authorization)
    async with client:
        yield client
