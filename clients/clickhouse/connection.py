"""Connections to ClickHouse, and which of its errors pass by themselves."""

from typing import Any, Final

import clickhouse_connect
import urllib3
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, DataError, ProgrammingError

from infra.settings import ClickHouseSettings

ANSWER_WITHIN_S: Final = 60
_CONNECT_WITHIN_S: Final = 5
_ASKED_WITHIN_S: Final = 3
_LONGEST_MESSAGE: Final = 1_000

PERMANENT_CODES: Final = frozenset(
    {10, 16, 20, 27, 38, 41, 43, 44, 46, 47, 48, 49, 50, 53, 60, 62, 69, 70, 80, 81, 115, 117}
    | {192, 193, 194, 321, 349, 497, 516}
)
"""Names, types, syntax and rights do not mend themselves (src/Common/ErrorCodes.cpp of ClickHouse)."""


def connect(settings: ClickHouseSettings, *, database: str | None = None) -> Client:
    """A client that several threads may use at once. Raises when ClickHouse does not answer."""
    return clickhouse_connect.get_client(
        **_where(settings) | ({} if database is None else {"database": database}),
        autogenerate_session_id=False,
        connect_timeout=_CONNECT_WITHIN_S,
        send_receive_timeout=ANSWER_WITHIN_S,
        # Within one machine compressing costs more than it saves.
        compress=False if settings.host in ("127.0.0.1", "localhost", "::1") else "lz4",
    )


async def connect_async(settings: ClickHouseSettings, *, answer_within: int) -> AsyncClient:
    """A client for questions that somebody waits for; an answer may take so many seconds. Raises as above."""
    return await create_async_client(
        **_where(settings), connect_timeout=_ASKED_WITHIN_S, send_receive_timeout=answer_within
    )


def _where(settings: ClickHouseSettings) -> dict[str, Any]:
    return {
        "host": settings.host,
        "port": settings.port,
        "username": settings.user,
        "password": settings.password.get_secret_value(),
        "database": settings.database,
        "secure": settings.secure,
        "query_retries": 0,  # who asks decides whether to ask again
    }


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: no answer, a server in trouble, a proxy's 5xx."""
    if isinstance(error, DatabaseError) and error.code is not None:
        return error.code not in PERMANENT_CODES
    if isinstance(error, ClickHouseError):
        return not isinstance(error, ProgrammingError | DataError)
    return isinstance(error, OSError | urllib3.exceptions.HTTPError)


def said(error: BaseException) -> str:
    """The error in a line: without the URL, which holds the whole statement."""
    if isinstance(error, DatabaseError) and error.code is None:
        cause = error.__cause__ or error
        cause = getattr(cause, "reason", None) or cause
        return f"no answer ({type(cause).__name__})"
    return " ".join(str(error).split())[:_LONGEST_MESSAGE]
