"""The FastAPI application, made from what it needs."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, tzinfo
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fastapi import FastAPI

from api.control import BODIES, Control
from api.description import describe
from api.health.readiness import Health
from api.history.store import History
from api.live.live import Live
from api.metrics import ApiMetrics, Scrape
from api.middleware import ApiMiddleware
from api.problems import answer_problems
from api.routes import current, health, historical, page
from api.times import Clock, system_clock
from infra.liveness import Part

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


def create_app(
    *,
    live: Live,
    history: History,
    health_checks: Health,
    scrape: Scrape,
    metrics: ApiMetrics,
    control: Control,
    part: Part | None = None,
    background: Background | None = None,
    hosts: Iterable[str] = (),
    zone: tzinfo = UTC,
    clock: Clock = system_clock,
) -> FastAPI:
    """The application. `hosts` are further host names to serve; days begin at midnight of `zone`."""

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
    answer_problems(app)
    app.include_router(current.router(live, clock))
    app.include_router(historical.router(history, clock, zone))
    for routes in control.routers():
        app.include_router(routes)
    describe(app, BODIES)
    app.include_router(health.router(health_checks, scrape, part or Part("api"), clock))
    app.include_router(page.router())
    app.add_middleware(ApiMiddleware, hosts=tuple(hosts), metrics=metrics)
    return app


def _version() -> str:
    try:
        return version("chatgauge-platform")
    except PackageNotFoundError:
        return "0+unknown"
