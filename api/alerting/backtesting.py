"""Rules held against history, beside the event loop: one at a time, for so long and no longer."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from api.errors import Fault, InvalidError, UnavailableError
from clients.clickhouse.connection import connect, said
from infra.settings import ClickHouseSettings, NotificationSettings, WindowSettings
from schemas.time import Micros, clock, micros
from streams.alerts.rule import Rule
from streams.backtest.backtest import BacktestError, backtest, settled
from streams.backtest.recorded import RecordedHistory
from streams.endpoints.endpoint import Endpoint
from streams.notifications.terms import terms_of

MOST_SECONDS: Final = 60.0
MOST_TRANSITIONS: Final = 5_000
_NO_TABLES: Final = (60, 81)


@dataclass
class Found:
    """What came of a backtest: Avro records of transitions and notifications, times in microseconds."""

    through: Micros
    """Panes up to here were judged."""
    alerts: list[Mapping[str, Any]] = field(default_factory=list)
    notifications: list[Mapping[str, Any]] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    stopped: str | None = None
    """Why it ended before the end of the range, in words."""


class Backtester:
    """Runs backtests over the windows in ClickHouse, in a thread."""

    def __init__(
        self,
        clickhouse: ClickHouseSettings,
        windows: WindowSettings,
        notifications: NotificationSettings,
        *,
        most_seconds: float = MOST_SECONDS,
        most_transitions: int = MOST_TRANSITIONS,
    ) -> None:
        self._clickhouse = clickhouse
        self._windows = windows
        self._terms = terms_of(notifications, windows)
        self._most_seconds = most_seconds
        self._most_transitions = most_transitions
        self._running = asyncio.Lock()

    async def run(
        self, rule: Rule, start: Micros, end: Micros, include: str, endpoints: Mapping[str, Endpoint]
    ) -> Found:
        """What the rule would have raised between `start` and `end`, and whom it would have notified.

        `include`: live, imported or all. Raises InvalidError for a rule that can't be held against history,
        UnavailableError when ClickHouse is away, or another backtest runs.
        """
        if self._running.locked():
            raise UnavailableError(
                "Another backtest is running; one runs at a time. `chatgauge backtest` has no such limit.",
                where="backtest",
                retry_after=10,
            )
        async with self._running:
            return await asyncio.to_thread(self._run, rule, start, end, include, endpoints)

    def _run(
        self, rule: Rule, start: Micros, end: Micros, include: str, endpoints: Mapping[str, Endpoint]
    ) -> Found:
        deadline = time.monotonic() + self._most_seconds
        found = Found(start)
        try:
            with closing(connect(self._clickhouse)) as client:
                history = RecordedHistory(client, self._windows.timezone, include)
                lateness = micros(self._windows.lateness)
                end = settled(end, clock(), lateness)
                for step in backtest(
                    rule, history, start, end, endpoints=endpoints, terms=self._terms, lateness=lateness
                ):
                    found.through = step.through
                    found.alerts += step.alerts
                    found.notifications += step.notifications
                    found.decisions.update(step.decisions)
                    found.stopped = self._stopped(found, deadline, end)
                    if found.stopped:
                        break
        except BacktestError as error:
            raise InvalidError([Fault("rule", f"{error}.")]) from error
        except (ClickHouseError, OSError) as error:
            raise self._away(error) from error
        return found

    def _stopped(self, found: Found, deadline: float, end: Micros) -> str | None:
        if found.through >= end:
            return None
        if time.monotonic() > deadline:
            return f"it took over {self._most_seconds:g} s: go on from `through`, or use `chatgauge backtest`"
        if len(found.alerts) > self._most_transitions:
            return f"there are over {self._most_transitions:,} transitions: go on from `through`"
        return None

    def _away(self, error: Exception) -> UnavailableError:
        if getattr(error, "code", None) in _NO_TABLES:
            return UnavailableError(
                "ClickHouse has no tables yet: they are created when the sink starts (chatgauge sink).",
                where="clickhouse",
            )
        return UnavailableError(
            f"ClickHouse at {self._clickhouse.host}:{self._clickhouse.port} does not answer ({said(error)}).",
            where="clickhouse",
        )
