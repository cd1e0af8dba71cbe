"""What every test module shares: both event loops, and both roads over httpx."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from fault_server import client_context
from hypothesis import settings as hypothesis_settings

from skycore_async import HttpxTransport, SkycoreClient

# How long a case takes says more of the machine than of the code; and a gate
# that judges a change tries the same cases each time.
hypothesis_settings.register_profile("skycore", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("skycore")

KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"

# Takes the base URL, and settings of the client in place of those of the tests.
OpenClient = Callable[..., AbstractAsyncContextManager[SkycoreClient]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each test marked `anyio` on both event loops."""
    return str(request.param)


@asynccontextmanager
async def over_lanes(base_url: str, **settings: Any) -> AsyncIterator[SkycoreClient]:
    """Open a client over connections of its own."""
    settings = {"api_key": KEY, "from_": "60856", "timeout": 5, **settings}
    transport = HttpxTransport(
        max_in_flight=settings.pop("max_in_flight", 50), verify=client_context()
    )
    async with SkycoreClient(base_url=base_url, transport=transport, **settings) as client:
        yield client


@asynccontextmanager
async def over_http_client(base_url: str, **settings: Any) -> AsyncIterator[SkycoreClient]:
    """Open a client over an `httpx.AsyncClient` that is not its own."""
    settings = {"api_key": KEY, "from_": "60856", "timeout": 5, **settings}
    limits = httpx.Limits(max_connections=settings.pop("max_in_flight", 50))
    async with (
        httpx.AsyncClient(verify=client_context(), limits=limits, trust_env=False) as http_client,
        SkycoreClient(base_url=base_url, http_client=http_client, **settings) as client,
    ):
        yield client


@pytest.fixture(
    params=[pytest.param(over_lanes, id="lanes"), pytest.param(over_http_client, id="http_client")]
)
def open_client(request: pytest.FixtureRequest) -> OpenClient:
    """Open a client over either of the roads that httpx makes."""
    opener: OpenClient = request.param
    return opener
