"""ClickHouse as the sinks use it: asked until it answers, and never given the same rows twice."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from clients.clickhouse.connection import ANSWER_WITHIN_S, is_transient, said
from clients.retry import GivenUp, retrying
from infra.daemon_thread import daemon_thread
from infra.liveness import Unit
from sinks import arrivals
from sinks.errors import InsertRefusedError
from sinks.metrics import SinkMetrics
from sinks.writer import Insert

_LOG: Final = logging.getLogger(__name__)

_T = TypeVar("_T")
_ANSWERED_WITHIN_S: Final = 10.0 * ANSWER_WITHIN_S
"""Of a request in all; it ends sooner when no byte has come for ANSWER_WITHIN_S."""
_FEW_ROWS: Final = 5_000
"""An insert of fewer costs ClickHouse the same as one of none: a burst of processing."""
_FEW_AT_ONCE: Final = max(1, (os.cpu_count() or 1) // 2)
"""How many such inserts are made at once. All of a second's would come together, with whatever else runs
on the machine waiting behind them."""

# One insert is one block: a block is stored whole or not at all, and deduplication counts blocks.
_ONE_BLOCK: Final = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    # What a view notes of an insert is noted after it, and once more when it is sent again.
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "parallel_view_processing": 0,
    "max_insert_block_size": 100_000_000,
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 0,
    "max_partitions_per_insert_block": 0,
}


class Abandoned(Exception):  # noqa: N818 - not an error: what was asked is no longer wanted
    """The request was given up between two attempts."""


class Claim(Protocol):
    """The right to insert rows. A sink that slept may have lost it without knowing."""

    def wanted(self) -> bool:
        """Whether the rows are still to be inserted, as far as is known."""
        ...

    def is_fresh(self) -> bool:
        """Whether they still are, and that was confirmed a moment ago. Called from any thread, just before
        the request: it may have waited for its turn."""
        ...

    async def confirm(self) -> None:
        """Returns once the claim is fresh, or lost."""
        ...


class _Stale(Exception):  # noqa: N818 - not an error: the claim has to be confirmed again
    """The claim was not fresh when the request was about to be sent."""


class Store:
    """ClickHouse behind endless patience.

    A request that fails for a passing reason (no answer, a server in trouble) is repeated, the same to
    the byte, with growing pauses, until it succeeds or `wanted` says no. One that can never succeed
    raises InsertRefusedError.
    """

    def __init__(self, connect: Callable[[], Client], metrics: SinkMetrics) -> None:
        self._connect = connect
        self._metrics = metrics
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._few = asyncio.Semaphore(_FEW_AT_ONCE)

    async def insert(self, insert: Insert, claim: Claim, unit: Unit | None = None) -> None:
        """Writes the rows. Raises Abandoned when they are no longer wanted, InsertRefusedError for good.

        `unit` is who inserts: while ClickHouse is away, it waits.
        """
        started = time.monotonic()

        def send(client: Client) -> None:
            nonlocal started
            if not claim.is_fresh():
                raise _Stale
            started = time.monotonic()
            client.insert_arrow(
                insert.table, insert.rows, settings={**_ONE_BLOCK, "insert_deduplication_token": insert.token}
            )

        turn = self._few if insert.rows.num_rows < _FEW_ROWS else None
        await self._ask(insert.table, send, claim.wanted, unit or Unit(insert.table), claim.confirm, turn)
        self._metrics.insert_seconds.labels(insert.table).observe(time.monotonic() - started)

    async def highest_offset(
        self, table: str, partition: int, wanted: Callable[[], bool], unit: Unit | None = None
    ) -> int | None:
        """The highest `_offset` stored of a partition, or None when there is none."""

        def ask(client: Client) -> int | None:
            # Of each part ClickHouse reads one row, of the projection `reached`.
            rows = client.query(
                f"SELECT max(_offset) FROM {table} WHERE _partition = {{partition:Int32}} "  # noqa: S608
                "GROUP BY _partition",
                parameters={"partition": partition},
            ).result_rows
            if not rows:
                return None
            if table == arrivals.SOURCE:
                arrivals.note_again(client, partition, rows[0][0])
            return int(rows[0][0])

        return await self._ask(table, ask, wanted, unit or Unit(table))

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def _ask(
        self,
        table: str,
        request: Callable[[Client], _T],
        wanted: Callable[[], bool],
        unit: Unit,
        confirm: Callable[[], Awaitable[None]] | None = None,
        turn: asyncio.Semaphore | None = None,
    ) -> _T:
        async def ask() -> _T:
            while True:
                if confirm is not None:
                    await confirm()
                if not wanted():
                    raise Abandoned
                try:
                    return await self._answer(request, unit, turn)
                except _Stale:
                    continue

        def failed(error: Exception, number: int, wait: float) -> None:
            self._metrics.clickhouse_up.set(0)
            self._metrics.retries.labels(str(_code(error) or 0)).inc()
            _LOG.warning("ClickHouse (%s): %s; attempt %d in %.1f s", table, said(error), number, wait)

        def outage(error: Exception) -> AbstractContextManager[None]:
            return unit.waiting(f"ClickHouse: {said(error)}")

        try:
            answer = await retrying(ask, passes=is_transient, failed=failed, wanted=wanted, outage=outage)
        except GivenUp:
            raise Abandoned from None
        except Abandoned:
            raise
        except Exception as error:
            raise InsertRefusedError(table, _code(error), said(error)) from error
        self._metrics.clickhouse_up.set(1)
        return answer

    async def _answer(
        self, request: Callable[[Client], _T], unit: Unit, turn: asyncio.Semaphore | None
    ) -> _T:
        with unit.waiting("its turn to insert"):
            client = await self._connected()
            if turn is not None:
                await turn.acquire()
        try:
            async with unit.bounded("an answer of ClickHouse", _ANSWERED_WITHIN_S):
                return await daemon_thread(request, client)
        finally:
            if turn is not None:
                turn.release()

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await daemon_thread(self._connect)
            return self._client


def _code(error: Exception) -> int | None:
    return error.code if isinstance(error, DatabaseError) else None
