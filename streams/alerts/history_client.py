"""What ClickHouse knows of a rule's history: references for the coming windows, and what a budget has spent.

The judge asks, and goes on: an answer is there when it is there. While ClickHouse is away, has no tables
yet, or doesn't have the minutes yet that are asked for, a question is asked again and again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import is_transient, said
from clients.retry import retrying
from infra.daemon_thread import daemon_thread
from schemas.time import DAY, MINUTE, SECOND, Micros, clock
from streams.alerts import history_sql
from streams.alerts.history_sql import Query
from streams.alerts.judged import Question
from streams.alerts.kinds.grouped import GroupedRule
from streams.alerts.kinds.referenced import ReferencedRule
from streams.windows.measures import GROUPINGS

_LOG: Final = logging.getLogger(__name__)
_QUERY_S: Final = 30
_READING: Final = {"max_threads": 1, "max_execution_time": _QUERY_S}
_LOOK_AGAIN_S: Final = 2.0
"""When something isn't there yet that soon will be."""
_OVERDUE: Final[Micros] = 15 * MINUTE
"""So long after a minute what is still open of it is given up: its worker is gone."""
_PATIENCE: Final = 10
"""How often a question that ClickHouse refuses is asked, at most: only what passes is asked for ever."""


@dataclass(frozen=True)
class Answer:
    """What came of a question; `frame` is None when ClickHouse refuses it for good."""

    question: Question
    frame: pl.DataFrame | None


def read(client: Client, question: Question, zone: ZoneInfo) -> pl.DataFrame:
    """Asks once, in this thread. Raises what clickhouse-connect raises.

    The frame is what `RuleBase.learn` takes: the grouping's keys with `slot_start`, `mean`, `std`, `samples`
    (a reference); or with `at` (`start`, or that of the step) and all sums (what was spent).
    """
    rule = question.rule
    if question.what == "spent" and isinstance(rule, GroupedRule):
        frame = _rows(client, history_sql.spent(rule, question.start, question.until, question.step))
        return frame.select(
            *_keys(rule),
            pl.col("at").cast(pl.Int64) * SECOND,
            *(pl.col(name).cast(pl.Int64) for name in GROUPINGS[rule.grouping].sums),
        )
    if not isinstance(rule, ReferencedRule):
        raise TypeError(f"rules of kind {rule.kind_name()} have no {question.what}")
    parts = []
    for start, until in _days(question.start, question.until):
        spans = history_sql.spans(rule, start, until, zone)
        parts.append(_rows(client, history_sql.reference(rule, spans)))
    return pl.concat(parts).select(
        *_keys(rule),
        (pl.col("slot").cast(pl.Int64) * SECOND).alias("slot_start"),
        pl.col("mean").cast(pl.Float64),
        pl.col("std").cast(pl.Float64).fill_nan(None),
        pl.col("samples").cast(pl.Int64),
    )


def _rows(client: Client, query: Query) -> pl.DataFrame:
    table = client.query_arrow(query.text, parameters=query.parameters, settings=_READING, use_strings=True)
    return pl.DataFrame(table)


def _keys(rule: GroupedRule) -> Iterator[pl.Expr]:
    for place, key in enumerate(rule.keys, 1):
        yield pl.col(f"k{place}").cast(pl.String).alias(key)


def _days(start: Micros, until: Micros) -> Iterator[tuple[Micros, Micros]]:
    """The span in parts that are asked at once."""
    yield from ((begin, min(begin + DAY, until)) for begin in range(start, max(until, start + 1), DAY))


class _NotYetError(Exception):
    """ClickHouse doesn't have all of it yet."""


class HistoryClient:
    """Questions to ClickHouse, each asked in the background until it is answered.

    An answer may be of a part: of a change, slots can be known whose earlier window is over. Its question
    says of which part.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        zone: ZoneInfo,
        *,
        clock: Callable[[], Micros] = clock,
    ) -> None:
        self._connect = connect
        self._zone = zone
        self._clock = clock
        self._client: Client | None = None
        self._asking: dict[tuple[object, ...], tuple[Question, asyncio.Task[None]]] = {}
        self._answers: list[Answer] = []
        self._one_at_a_time = asyncio.Lock()
        self.failure: str | None = None
        """Why the last attempt failed; None when it didn't."""

    @property
    def waiting(self) -> int:
        """How many questions are not yet answered."""
        return len(self._asking)

    def ask(self, question: Question) -> None:
        """Sees to it that this is answered. Asking again before the answer has come changes nothing."""
        name = _name(question)
        asked, task = self._asking.get(name, (None, None))
        if asked is not None and asked.rule == question.rule:
            return
        if task is not None:
            task.cancel()
        self._asking[name] = (question, asyncio.create_task(self._ask(question)))

    def answers(self) -> list[Answer]:
        """Those that have come since this was last called."""
        found, self._answers = self._answers, []
        return found

    async def close(self) -> None:
        """Asks no more."""
        tasks = [task for _, task in self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    async def _ask(self, question: Question) -> None:
        answer = await self._answered(question)
        del self._asking[_name(question)]
        self._answers.append(answer)

    async def _answered(self, question: Question) -> Answer:
        refused = 0

        async def attempt() -> Answer:
            nonlocal refused
            try:
                # One at a time: many rules that wake up together leave ClickHouse to the others.
                async with self._one_at_a_time:
                    return await daemon_thread(self._read, question)
            except _NotYetError:
                raise
            except Exception as error:
                self.failure = said(error)
                refused += not _passes(error)
                if refused < _PATIENCE:
                    raise
            _LOG.error("rule %s: its history stays unknown: %s", question.rule.id, self.failure)
            return Answer(question, None)

        def failed(error: Exception, number: int, wait: float) -> None:
            _LOG.warning(
                "rule %s: its history is not known yet: %s; attempt %d in %.1f s",
                question.rule.id,
                self.failure,
                number,
                wait,
            )

        while True:
            try:
                return await retrying(
                    attempt, passes=lambda error: not isinstance(error, _NotYetError), failed=failed
                )
            except _NotYetError:
                await asyncio.sleep(_LOOK_AGAIN_S)

    def _read(self, question: Question) -> Answer:
        if self._client is None:
            self._client = self._connect()
        now, rule = self._clock(), question.rule
        question = question._replace(until=rule.known_until(question.until, now))
        if question.until <= question.start:
            raise _NotYetError
        if question.what == "spent" and isinstance(rule, GroupedRule) and now < question.until + _OVERDUE:
            asked = history_sql.still_open(rule, question.until)
            found = self._client.query(asked.text, parameters=asked.parameters, settings=_READING)
            if found.result_rows[0][0]:
                raise _NotYetError
        frame = read(self._client, question, self._zone)
        self.failure = None
        return Answer(question, frame)


def _name(question: Question) -> tuple[object, ...]:
    """What a question is known by, as long as its rule doesn't change."""
    return (question.rule.id, *question[1:])


def _passes(error: Exception) -> bool:
    """Whether the question may be answered later. Tables that are missing are made when the sink starts."""
    missing: Any = getattr(error, "code", None)
    return is_transient(error) or missing in (60, 81)
