"""Everything that must be well for figures to be had and to grow."""

import asyncio

from api.errors import UnavailableError
from api.health.monitored import Monitored
from api.history.store import History
from api.models.health import Check, Readiness
from api.times import Clock
from schemas.time import SECOND


class Health:
    """Looks at Kafka, ClickHouse, what the API reads itself, and every follower's progress."""

    def __init__(self, monitored: Monitored, history: History, clock: Clock) -> None:
        self._monitored = monitored
        self._history = history
        self._clock = clock
        self._started = clock()

    def uptime_s(self) -> float:
        """Seconds since the process began."""
        return (self._clock() - self._started) / SECOND

    async def ready(self) -> Readiness:
        """All checks, each with what is wrong."""
        checks = [
            self._kafka(),
            await self._clickhouse(),
            self._live_state(),
            self._definitions(),
            *self._followers(),
        ]
        awaiting = list(dict.fromkeys(check.detail for check in checks if not check.ok))
        return Readiness(status="not ready" if awaiting else "ready", awaiting=awaiting, checks=checks)

    def _kafka(self) -> Check:
        failure = self._monitored.probe.failure
        return Check(name="kafka", part="kafka", ok=failure is None, detail=failure or "answers")

    async def _clickhouse(self) -> Check:
        try:
            await asyncio.wait_for(self._history.ping(), timeout=3)
        except TimeoutError:
            return Check(
                name="clickhouse",
                part="clickhouse",
                ok=False,
                detail="ClickHouse took over 3 s to answer",
            )
        except UnavailableError as error:
            return Check(name="clickhouse", part="clickhouse", ok=False, detail=error.detail)
        return Check(name="clickhouse", part="clickhouse", ok=True, detail="answers")

    def _live_state(self) -> Check:
        failure = self._monitored.reader.failure
        if failure is None and not self._monitored.live.caught_up:
            failure = "the API is still reading the windows that were there when it started"
        return Check(name="live state", part="api", ok=failure is None, detail=failure or "caught up")

    def _definitions(self) -> Check:
        failures = self._monitored.definitions.failures() + self._monitored.alerts.missing()
        return Check(
            name="alerts and definitions",
            part="api",
            ok=not failures,
            detail=failures[0] if failures else "caught up",
        )

    def _followers(self) -> list[Check]:
        return [
            Check(
                name=f"{verdict.follower.group} on {verdict.follower.topic}",
                part=verdict.follower.part,
                ok=verdict.ok,
                detail=verdict.detail,
                lag=verdict.lag,
                stuck_partitions=list(verdict.stuck),
            )
            for verdict in self._monitored.progress.judge(self._clock())
        ]
