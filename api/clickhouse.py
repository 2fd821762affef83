"""ClickHouse, asked: connections, limits, and its failures in the API's words."""

import asyncio
import logging
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from api.errors import BadParameterError, UnavailableError
from clients.clickhouse.connection import connect_async
from infra.settings import ClickHouseSettings

_log = logging.getLogger(__name__)

_TIMEOUT_EXCEEDED: Final = 159
_UNKNOWN_TABLE: Final = 60
_UNKNOWN_DATABASE: Final = 81
_AWAY: Final = (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError)


class Query(NamedTuple):
    """A query's text, and the values of its parameters."""

    text: str
    parameters: dict[str, Any]


class ClickHouse:
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

    async def rows(self, query: Query) -> list[tuple[Any, ...]]:
        """The rows of the answer.

        Raises UnavailableError when ClickHouse is away or has no tables yet, BadParameterError when the
        question is too large to be answered in time.
        """
        return [tuple(row) for row in (await self._ask(query)).result_rows]

    async def records(self, query: Query) -> list[dict[str, Any]]:
        """As `rows`, each by the names of the columns."""
        result = await self._ask(query)
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    async def _ask(self, query: Query) -> Any:
        try:
            client = await self._connected()
            limits = {"max_execution_time": self._query_seconds}
            return await client.query(
                query.text, parameters=query.parameters, settings=limits, tz_mode="aware"
            )
        except DatabaseError as error:
            raise self._explained(error) from error
        except _AWAY as error:
            raise self._away(error) from error

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await connect_async(self._settings, answer_within=self._query_seconds + 5)
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
            "Live figures are still to be had from /api/metrics/current, open alerts from /api/alerts.",
            where="clickhouse",
        )
