"""ClickHouse's engine on one directory: statements in, bytes out. Blocking; for use from threads.

Every request gets a connection to the engine of its own (0.1 ms), so that its database, settings and
parameters end with it. What a session keeps (SET, USE, temporary tables) is in `infra.clickhouse.sessions`.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from infra.clickhouse.errors import SYNTAX_ERROR, UNKNOWN_SETTING, ClickHouseError
from infra.clickhouse.statement import Statement

# The engine takes its time zone from the process, once.
os.environ["TZ"] = "UTC"
import chdb

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PIECE = 1024 * 1024
# A stream is one encoding per block: only of these is the concatenation an encoding too.
_STREAMED = frozenset(("Native", "RowBinary", "TabSeparated", "TSV", "CSV", "JSONEachRow"))
TIMEZONE = "UTC"


# The binding has no annotations.
_connect: Callable[[str], Any] = chdb.connect


@dataclass(frozen=True)
class Context:
    """What a request sets around its statement. `params` are ClickHouse's query parameters, as text."""

    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    query_id: str = ""


@dataclass
class Progress:
    """Counts of one statement, for the X-ClickHouse-Summary header."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0


class Engine:
    """One per process and directory: the engine locks the directory, and there is one engine in a process.

    `memory` bounds what all queries may hold together, in bytes.
    """

    def __init__(self, data: Path, memory: int) -> None:
        self.data = data.resolve()
        self._address = str(self.data)
        self._incoming = self.data / "incoming"
        # What an end by force left there was never acknowledged.
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)
        # The first connection opens the directory and keeps it open for the others.
        self._keeper = _connect(
            f"{self._address}?max_server_memory_usage={memory}&mark_cache_size={memory // 16}"
        )
        self.version = _text(self._keeper, "SELECT version()")

    def connect(self) -> Any:
        return _connect(self._address)

    @contextmanager
    def connection(self, context: Context) -> Iterator[Any]:
        """A connection with the request's database, settings and parameters."""
        connection = self.connect()
        try:
            prepare(connection, context)
            yield connection
        finally:
            connection.close()

    def incoming(self) -> IO[bytes]:
        """A new file for the data of an INSERT, gone when it is closed."""
        return tempfile.NamedTemporaryFile(dir=self._incoming, buffering=_PIECE)

    def cancel(self, query_id: str | None = None) -> None:
        """Stop the query, or all of them."""
        which = f"query LIKE '%{_mark(query_id)}%'" if query_id else "query NOT LIKE 'KILL%'"
        try:
            self._keeper.query(f"KILL QUERY WHERE {which} ASYNC", "Null")
        except RuntimeError as error:
            raise ClickHouseError.from_engine(error) from error

    def ask(self, text: str) -> str:
        """Execute a statement; its result, as TabSeparated."""
        try:
            return _text(self._keeper, text)
        except RuntimeError as error:
            raise ClickHouseError.from_engine(error) from error

    def close(self) -> None:
        self._keeper.close()


def prepare(connection: Any, context: Context) -> None:
    """Give a connection the request's database, settings and parameters."""
    try:
        if context.database:
            connection.query(f"USE {quote_name(context.database)}", "Null")
        values = dict(context.settings) | {f"param_{name}": text for name, text in context.params.items()}
        # Nothing can be set after it.
        readonly = values.pop("readonly", None)
        if values:
            connection.query(f"SET {_assignments(values)}", "Null")
        if readonly is not None:
            connection.query(f"SET readonly = {quote_text(readonly)}", "Null")
    except RuntimeError as error:
        raise ClickHouseError.from_engine(error) from error


def run(
    connection: Any, statement: Statement, default_format: str, query_id: str
) -> Generator[tuple[bytes, Progress], None, None]:
    """The result's bytes in pieces, each with the counts so far; at least one piece, maybe empty."""
    wanted = statement.format or default_format
    text = _decoded(statement)
    if statement.reads:
        text += _mark(query_id)  # a query that can be found again, to cancel it
    if statement.reads and wanted in _STREAMED and "json_array_of_rows" not in text:
        yield from _streamed(connection, text, wanted)
        return
    try:
        result = connection.query(text, wanted)
    except RuntimeError as error:
        raise ClickHouseError.from_engine(error) from error
    progress = Progress(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        result_bytes=result.bytes_read(),
        elapsed_ns=int(result.elapsed() * 1e9),
    )
    body = result.bytes() or b""
    for start in range(0, max(len(body), 1), _PIECE):
        yield body[start : start + _PIECE], progress


def _streamed(connection: Any, text: str, wanted: str) -> Generator[tuple[bytes, Progress], None, None]:
    progress = Progress()
    pieces: list[bytes] = []
    size = 0
    try:
        with connection.send_query(text, wanted) as stream:
            for block in stream:
                progress.result_rows += block.rows_read()
                progress.result_bytes += block.bytes_read()
                progress.read_rows = max(progress.read_rows, block.storage_rows_read())
                progress.read_bytes = max(progress.read_bytes, block.storage_bytes_read())
                progress.elapsed_ns = int(block.elapsed() * 1e9)
                pieces.append(block.bytes())
                size += len(pieces[-1])
                if size >= _PIECE:
                    yield b"".join(pieces), progress
                    pieces, size = [], 0
    except RuntimeError as error:
        raise ClickHouseError.from_engine(error) from error
    yield b"".join(pieces), progress


def insert(connection: Any, statement: Statement, data: Path) -> Progress:
    """Execute an INSERT with the data that the file holds, in the statement's format.

    (The binding can also be fed piece by piece, `send_insert`, but then it keeps silent about errors that
    come up while the last rows are written: a violated constraint, a full disk.)
    """
    settings = statement.settings.decode(errors="replace")
    text = f"{_decoded(statement)} FROM INFILE {quote_text(str(data))} {settings} FORMAT {statement.format}"
    try:
        result = connection.query(text, "Null")
    except RuntimeError as error:
        raise ClickHouseError.from_engine(error) from error
    return Progress(
        read_rows=result.rows_written(),
        read_bytes=result.bytes_written(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        elapsed_ns=int(result.elapsed() * 1e9),
    )


def _decoded(statement: Statement) -> str:
    try:
        return statement.text.decode()
    except UnicodeDecodeError as broken:
        raise ClickHouseError.of(
            SYNTAX_ERROR, f"Syntax error: the statement is not UTF-8: {broken}"
        ) from broken


def _mark(query_id: str | None) -> str:
    return f"\n/* query_id={re.sub(r'[^A-Za-z0-9._:-]', '_', query_id or '')} */"


def _assignments(values: Mapping[str, str]) -> str:
    for name in values:
        if not _NAME.fullmatch(name):
            raise ClickHouseError.of(UNKNOWN_SETTING, f"Unknown setting '{name}'")
    return ", ".join(f"{name} = {quote_text(text)}" for name, text in values.items())


def quote_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quote_name(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _text(connection: Any, sql: str) -> str:
    return bytes(connection.query(sql, "TabSeparated").bytes()).decode().rstrip("\n")
