"""What all channels share: a client that may call this machine, and the renderer of templates."""

from collections.abc import AsyncIterator

import pytest

from streams.deliveries.addresses import AllowList
from streams.deliveries.client import DeliveryClient
from streams.deliveries.rendering import Renderer


@pytest.fixture
async def client() -> AsyncIterator[DeliveryClient]:
    """May call 127.0.0.1, and nothing else that isn't public."""
    async with DeliveryClient(AllowList.of(["127.0.0.1"])) as opened:
        yield opened


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    """Starts its processes when they are needed."""
    opened = Renderer()
    yield opened
    await opened.close()
