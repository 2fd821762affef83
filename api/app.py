"""The FastAPI application, made from what it needs."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fastapi import FastAPI

from api.description import describe_bodies
from api.metrics import ApiMetrics
from api.middleware import ApiMiddleware
from api.problems import answer_problems
from api.routes import (
    alerts,
    current,
    deliveries,
    endpoint_actions,
    endpoints,
    events,
    health,
    historical,
    page,
    rules,
    silences,
)
from api.services import Services

_ABOUT: Final = """
Figures of chat services that call language models: requests, latencies, tokens, cost, errors, cache hits.

* **Live** figures (`/api/metrics/current`) come from memory, a moment after the events.
* **Historical** ones (`/api/metrics/historical`) come from ClickHouse.
* **Alerts** (`/api/alerts`) are raised by rules, told to endpoints, and held back by silences.

Every answer says which span of time it covers, how old it is, and what it lacks. Latencies are in
milliseconds, costs in USD, times in UTC. Percentiles have at most 1 % relative error. `total` tokens
are prompt and completion tokens; cached and reasoning tokens are parts of these. Failures are
`application/problem+json`.

Changing anything takes the admin key, in the header `Authorization: Bearer cg_…`; it was printed when
Chatgauge first started.
"""

Background = Callable[[], AbstractAsyncContextManager[None]]
"""What runs as long as the app does."""
ROUTERS: Final = (
    current.router,
    historical.router,
    alerts.router,
    rules.router,
    silences.router,
    endpoints.router,
    endpoint_actions.router,
    deliveries.router,
    events.router,
    health.router,
    page.router,
)


def create_app(
    services: Services,
    metrics: ApiMetrics,
    *,
    background: Background | None = None,
    hosts: Iterable[str] = (),
) -> FastAPI:
    """The application. `hosts` are further host names to serve."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if background is None:
            yield
        else:
            async with background():
                yield

    app = FastAPI(
        title="Chatgauge", version=_version(), description=_ABOUT, lifespan=lifespan, redoc_url=None
    )
    app.state.services = services
    answer_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    describe_bodies(app, ROUTERS)
    app.add_middleware(ApiMiddleware, hosts=tuple(hosts), metrics=metrics)
    return app


def _version() -> str:
    try:
        return version("chatgauge-platform")
    except PackageNotFoundError:
        return "0+unknown"
