"""Rebuilding by itself, beside the sinks: who has partition 0 of `chat.requests` does it for all."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import is_transient, said
from infra.daemon_thread import daemon_thread
from infra.settings import SinkSettings
from infra.tasks import ended, within
from schemas.time import SECOND, Micros
from sinks.metrics import SinkMetrics
from sinks.rebuild.checking import Checking
from sinks.rebuild.history import History, Waiting
from sinks.rebuild.minutes import Outcome, Verdict
from sinks.rebuild.rebuild import rebuild

_LOG: Final = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 10.0
_REST: Final = 10
"""After a round at least so many times its duration: years of minutes take a while to look through."""
_ROUND_S: Final = 60.0
"""How long a round may take: then those that have come meanwhile are looked at too."""
_REFUSED_PAUSE_S: Final = 300.0
_LOOK_AGAIN_S: Final = 3_600.0
_SWEEP_EVERY_S: Final = 3_600.0


@dataclass
class Queue:
    """Which of the waiting minutes are due. Pure: `now` is any monotonic clock, in seconds."""

    quiet: float
    delay: float
    _first_seen: dict[Micros, float] = field(default_factory=dict)
    _not_whole: dict[Micros, tuple[Micros, float, Verdict]] = field(default_factory=dict)

    def due(self, waiting: Iterable[Waiting], now: float) -> list[Micros]:
        """Those that are quiet, or have been put off for long; not those that weren't whole a while ago,
        unless more has come."""
        found = {one.minute: one for one in waiting}
        self._first_seen = {minute: self._first_seen.get(minute, now) for minute in found}
        self._not_whole = {
            minute: (stored_at, at, verdict)
            for minute, (stored_at, at, verdict) in self._not_whole.items()
            if minute in found and found[minute].stored_at == stored_at and now < at + _LOOK_AGAIN_S
        }
        due = [
            minute
            for minute, one in found.items()
            if minute not in self._not_whole
            and (one.quiet >= self.quiet or now - self._first_seen[minute] >= self.delay)
        ]
        for minute in due:
            del self._first_seen[minute]
        return due

    def put_off(self, outcome: Outcome, waiting: Iterable[Waiting], now: float) -> None:
        """Remembers those that were not whole."""
        stored_at = {one.minute: one.stored_at for one in waiting}
        for verdict, minutes in outcome.not_whole.items():
            self._not_whole |= {minute: (stored_at[minute], now, verdict) for minute in minutes}

    def not_whole(self, verdict: Verdict) -> int:
        """How many were found not to be whole for this reason."""
        return sum(found is verdict for _, _, found in self._not_whole.values())

    def forget(self) -> None:
        """Somebody else does it now."""
        self._first_seen.clear()
        self._not_whole.clear()


class AutomaticRebuild:
    """Rebuilds what waits, a round every few seconds, on a connection and in a thread of its own.

    Inserts don't wait for it. What fails is repeated with growing pauses; it never ends the sinks.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        history: Callable[[Client], History],
        metrics: SinkMetrics,
        settings: SinkSettings,
        *,
        responsible: Callable[[], bool],
    ) -> None:
        self._connect = connect
        self._history = history
        self._metrics = metrics
        self._responsible = responsible
        self._queue = Queue(settings.rebuild_quiet.total_seconds(), settings.rebuild_delay.total_seconds())
        self._swept_at = time.monotonic()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set."""
        pause = _LOOK_EVERY_S
        while not await within(pause, stopping):
            pause = _LOOK_EVERY_S
            if not self._responsible():
                self._queue.forget()
                self._report(0)
                continue
            started = time.monotonic()
            try:
                work = asyncio.create_task(daemon_thread(self._round, stopping))
                if not await ended(work, stopping):
                    work.cancel()  # what its thread has under way does no harm
                    return
                pause = 0.0 if work.result() else max(pause, _REST * (time.monotonic() - started))
            except Exception as error:
                # Whatever it is, the sinks go on.
                transient = is_transient(error)
                pause = _LOOK_EVERY_S if transient else _REFUSED_PAUSE_S
                self._metrics.rebuild_failures.inc()
                _LOG.log(
                    logging.WARNING if transient else logging.ERROR,
                    "rebuilding: %s; trying again in %.0f s",
                    said(error),
                    pause,
                )

    def _round(self, stopping: asyncio.Event) -> bool:
        """Rebuilds what is due; whether some of it is left."""
        started = time.monotonic()
        with closing(self._connect()) as client:
            history = self._history(client)
            checking = Checking(client, self._queue.quiet)
            doubtful = checking.doubtful()
            waiting = history.waiting() + doubtful
            self._report(len(waiting))
            due = self._queue.due(waiting, started)
            if not due:
                self._sweep(history, started)
                return False
            outcome = self._rebuild(history, due, stopping)
            refused = {minute for minutes in outcome.not_whole.values() for minute in minutes}
            checking.note({one.minute // SECOND: one.stored_at for one in doubtful if one.minute in refused})
        ended = time.monotonic()
        self._queue.put_off(outcome, waiting, ended)
        self._report(len(waiting) - outcome.rebuilt)
        self._metrics.rebuild_seconds.observe(ended - started)
        _LOG.info(
            "rebuilt %d past minutes in %.1f s: events came for them late, repeated or imported",
            outcome.rebuilt,
            ended - started,
        )
        for verdict, minutes in outcome.not_whole.items():
            _LOG.warning(
                "%d past minutes stay as they are (from %s): raw events of them are %s",
                len(minutes),
                datetime.fromtimestamp(minutes[0] // SECOND, UTC).isoformat(),
                verdict.value,
            )
        return outcome.done < len(due)

    def _rebuild(self, history: History, due: list[Micros], stopping: asyncio.Event) -> Outcome:
        until = time.monotonic() + _ROUND_S

        def wanted() -> bool:
            return time.monotonic() < until and self._responsible() and not stopping.is_set()

        outcome, counted = Outcome(), 0
        for outcome in rebuild(history, due, wanted=wanted):
            self._metrics.rebuilt.inc(outcome.rebuilt - counted)
            counted = outcome.rebuilt
        return outcome

    def _sweep(self, history: History, now: float) -> None:
        if now >= self._swept_at + _SWEEP_EVERY_S:
            self._swept_at = now
            swept = history.sweep()
            if swept:
                _LOG.info("deleted %d rebuilt rows that had been rebuilt again since", swept)

    def _report(self, waiting: int) -> None:
        not_whole = {v: self._queue.not_whole(v) for v in Verdict if v is not Verdict.WHOLE}
        for verdict, minutes in not_whole.items():
            self._metrics.rebuild_not_whole.labels(verdict.value).set(minutes)
        self._metrics.rebuild_waiting.set(max(0, waiting - sum(not_whole.values())))
