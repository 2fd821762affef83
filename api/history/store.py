"""ClickHouse, asked for history."""

import asyncio
import logging
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from api.errors import BadParameterError, UnavailableError
from api.history import sql
from api.history.answer import build
from api.history.question import Question
from api.models.historical import Historical
from infra.settings import ClickHouseSettings
from streams.windows.panes import Micros

_log = logging.getLogger(__name__)

_TIMEOUT_EXCEEDED: Final = 159
_UNKNOWN_TABLE: Final = 60
_UNKNOWN_DATABASE: Final = 81
_AWAY: Final = (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError)


class History:
    """Questions to ClickHouse. Connects on first use; ClickHouse may come and go."""

    def __init__(self, settings: ClickHouseSettings, *, query_seconds: int = 20) -> None:
        self._settings = settings
        self._query_seconds = query_seconds
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ask(self, question: Question, now: Micros) -> Historical:
        """The series asked for.

        Raises UnavailableError when ClickHouse is away or has no tables yet, BadParameterError when the
        question is too large to be answered in time.
        """
        overall = await self._rows(sql.overall(question))
        groups = [(row[0], row[1]) for row in overall]
        series = await self._rows(sql.series(question, groups)) if groups else []
        coverage = await self._rows(sql.coverage(question))
        return build(question, overall, series, coverage, now)

    async def ping(self) -> None:
        """Raises UnavailableError unless ClickHouse answers and the table of windows is there."""
        await self._rows(sql.Query("SELECT 1 FROM window_rows LIMIT 1", {}))

    async def _rows(self, query: sql.Query) -> list[tuple[Any, ...]]:
        try:
            client = await self._connected()
            limits = {"max_execution_time": self._query_seconds}
            result = await client.query(query.text, parameters=query.parameters, settings=limits)
            return [tuple(row) for row in result.result_rows]
        except DatabaseError as error:
            raise self._explained(error) from error
        except _AWAY as error:
            raise self._away(error) from error

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await create_async_client(
                    host=self._settings.host,
                    port=self._settings.port,
                    username=self._settings.user,
                    password=self._settings.password.get_secret_value(),
                    database=self._settings.database,
                    secure=self._settings.secure,
                    connect_timeout=3,
                    send_receive_timeout=self._query_seconds + 5,
                    query_retries=0,
                )
            return self._client

    def _explained(self, error: DatabaseError) -> Exception:
        code = getattr(error, "code", None)
        if code == _TIMEOUT_EXCEEDED:
            return BadParameterError(
                f"This took longer than {self._query_seconds} s: ask for a shorter range, "
                "a key, or a grouping with fewer groups.",
                where="start",
            )
        if code in (_UNKNOWN_TABLE, _UNKNOWN_DATABASE):
            return UnavailableError(
                "ClickHouse has no tables yet: they are created when the sink starts (chatgauge sink).",
                where="clickhouse",
            )
        if code is not None:
            _log.error("ClickHouse refused a query: %s", error)
            return UnavailableError(
                f"ClickHouse could not answer (code {code}, {error.name}); the log of the API says more.",
                where="clickhouse",
            )
        return self._away(error)

    def _away(self, error: BaseException) -> UnavailableError:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        return UnavailableError(
            f"ClickHouse at {self._settings.host}:{self._settings.port} does not answer ({reason}). "
            "Live figures are still to be had from /api/metrics/current.",
            where="clickhouse",
        )
