"""HTTP sessions: what SET, USE and temporary tables leave for the session's next statement.

Most clients name a session and never leave anything in it (clickhouse-connect makes one up for every
client). Such a session costs nothing here: it has a connection only once a statement has left something.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from infra.clickhouse.engine import Context, Engine, prepare, quote_text
from infra.clickhouse.errors import SESSION_IS_LOCKED, SESSION_NOT_FOUND, ClickHouseError

DEFAULT_TIMEOUT = 60.0


@dataclass
class _Session:
    connection: Any
    timeout: float
    last_used: float
    busy: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """Connections that outlive their request, by session id; thread-safe. `clock` counts seconds."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._kept: dict[str, _Session] = {}
        self._guard = threading.Lock()

    @contextmanager
    def connection(
        self,
        session_id: str | None,
        context: Context,
        *,
        keep: bool,
        must_exist: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Iterator[Any]:
        """The session's connection, or a fresh one when nothing is kept and this statement keeps nothing.

        `ClickHouseError` when the session is in use by another request, or `must_exist` and does not.
        """
        session = self._find(session_id, keep=keep, must_exist=must_exist, timeout=timeout)
        if session is None:
            with self._engine.connection(context) as connection:
                yield connection
            return
        if not session.busy.acquire(blocking=False):
            raise ClickHouseError.of(
                SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client"
            )
        try:
            restore = _values(session.connection, context)
            prepare(session.connection, context)
            try:
                yield session.connection
            finally:
                for statement in restore:
                    session.connection.query(statement, "Null")
        finally:
            session.last_used = self._clock()
            session.busy.release()

    def close(self) -> None:
        with self._guard:
            for session in self._kept.values():
                session.connection.close()
            self._kept.clear()

    def _find(
        self, session_id: str | None, *, keep: bool, must_exist: bool, timeout: float
    ) -> _Session | None:
        with self._guard:
            self._drop_expired()
            if session_id is None:
                return None
            session = self._kept.get(session_id)
            if session is None and must_exist:
                raise ClickHouseError.of(SESSION_NOT_FOUND, f"Session {session_id} not found")
            if session is None and keep:
                session = _Session(self._engine.connect(), timeout, self._clock())
                self._kept[session_id] = session
            if session is not None:
                session.timeout = timeout
            return session

    def _drop_expired(self) -> None:
        now = self._clock()
        for name, session in list(self._kept.items()):
            if now - session.last_used > session.timeout and not session.busy.locked():
                self._kept.pop(name).connection.close()


def _values(connection: Any, context: Context) -> list[str]:
    """Statements that undo what the request's settings and database will change."""
    undo = []
    if context.settings:
        names = ", ".join(quote_text(name) for name in context.settings)
        rows = connection.query(
            f"SELECT name, changed, hex(value) FROM system.settings WHERE name IN ({names})",  # noqa: S608
            "TabSeparated",
        )
        for line in bytes(rows.bytes()).decode().splitlines():
            name, changed, value = line.split("\t")
            before = quote_text(bytes.fromhex(value).decode()) if changed == "1" else "DEFAULT"
            undo.append(f"SET {name} = {before}")
    return undo
