"""ClickHouse's HTTP interface: https://clickhouse.com/docs/en/interfaces/http

Not served, because the engine or its binding has none of it: sub-blocks of `client_protocol_version`,
`compress=1` (blocks with ClickHouse's own checksums), external tables, progress headers, roles and quotas.
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.clickhouse import access, form
from infra.clickhouse.compression import choose_encoding, encoder
from infra.clickhouse.engine import TIMEZONE, Context, Engine, Progress
from infra.clickhouse.errors import NOT_IMPLEMENTED, READONLY, ClickHouseError
from infra.clickhouse.execution import Execution, Insertion, Threads
from infra.clickhouse.request import Body, read_statement
from infra.clickhouse.sessions import DEFAULT_TIMEOUT, Sessions
from infra.clickhouse.space import Space
from infra.clickhouse.statement import Statement

# Parameters of the interface itself; all others are settings of the statement.
_OWN = frozenset(
    (
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    )
)
_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONStrings": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "Parquet": "application/octet-stream",
}
_LEAST_COMPRESSED = 512
_DEFAULT_FORMAT = "TabSeparated"


class BrokenOffError(Exception):
    """Ends an answer without its last chunk: no client shall take what was sent for the whole result."""


def create_app(
    open_engine: Callable[[], Engine],
    allowed: access.Credentials,
    *,
    largest_request: int,
    reserve: int = 0,
    threads: int = 8,
) -> Starlette:
    """The ASGI application. `largest_request` bounds a request's decompressed body, in bytes; `reserve` is
    what must stay free on the disk.

    `threads` statements and as many inserts run side by side; more of them wait. `/ping` never does.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine = open_engine()
        sessions = Sessions(engine)
        with (
            ThreadPoolExecutor(threads, "query") as queries,
            ThreadPoolExecutor(threads, "insert") as inserts,
        ):
            reading = Threads(queries)
            space = Space(engine.data, reserve, lambda text: reading.call(engine.ask, text))
            app.state.interface = Interface(
                engine, sessions, allowed, largest_request, reading, Threads(inserts), space
            )
            watching = asyncio.create_task(space.watch())
            yield
            watching.cancel()
            engine.cancel()
        sessions.close()
        engine.close()

    async def root(request: Request) -> Response:
        interface: Interface = request.app.state.interface
        return await interface.answer(request)

    async def ping(_: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    return Starlette(
        routes=[
            Route("/", root, methods=["GET", "POST"]),
            Route("/ping", ping),
            Route("/replicas_status", ping),
        ],
        lifespan=lifespan,
    )


class Interface:
    """Answers requests: who asks, what, in which context; then runs it and says how it went."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        allowed: access.Credentials,
        largest_request: int,
        queries: Threads,
        inserts: Threads,
        space: Space,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._allowed = allowed
        self._largest_request = largest_request
        self._queries = queries
        self._inserts = inserts
        self._space = space

    async def answer(self, request: Request) -> Response:
        asked = dict(request.query_params)
        query_id = asked.get("query_id") or request.headers.get("x-clickhouse-query-id") or str(uuid.uuid4())
        body = Body(request, self._largest_request)
        try:
            if request.method == "GET" and not asked.get("query"):
                return PlainTextResponse("Ok.\n")
            access.require_own_origin(request.headers)
            access.require(self._allowed, access.given(request.headers, asked))
            return await self._execute(request, asked, body, query_id)
        except ClickHouseError as error:
            await body.discard()
            return self._failure(error, query_id)

    async def _execute(self, request: Request, asked: dict[str, str], body: Body, query_id: str) -> Response:
        if asked.get("compress") == "1" or asked.get("decompress") == "1":
            raise ClickHouseError.of(
                NOT_IMPLEMENTED, "compress=1 is not served: use Accept-Encoding and Content-Encoding"
            )
        if request.headers.get("content-type", "").startswith(form.CONTENT_TYPE):
            whole = b"".join([piece async for piece in body])
            asked |= form.fields(request.headers["content-type"], whole)
        statement, data = await read_statement(asked.get("query", ""), body)
        if request.method == "GET" and statement.changes:
            raise ClickHouseError.of(
                READONLY, "Cannot execute query in readonly mode: use POST to change data"
            )
        if statement.kind == b"INSERT":
            self._space.require()
        context = Context(
            database=asked.get("database") or request.headers.get("x-clickhouse-database"),
            settings={k: v for k, v in asked.items() if k not in _OWN and not k.startswith("param_")},
            params={k.removeprefix("param_"): v for k, v in asked.items() if k.startswith("param_")},
            query_id=query_id,
        )
        connection = self._sessions.connection(
            asked.get("session_id"),
            context,
            keep=statement.keeps_state,
            must_exist=asked.get("session_check") == "1",
            timeout=_seconds(asked.get("session_timeout")),
        )
        if statement.data_from is not None:
            insertion = Insertion(self._inserts, connection, statement, self._engine.incoming())
            progress = await insertion.run(data)
            return Response(headers=self._headers(query_id, statement.format or "", progress))
        default_format = (
            asked.get("default_format") or request.headers.get("x-clickhouse-format") or _DEFAULT_FORMAT
        )
        execution = Execution(self._queries, connection, statement, default_format, query_id)
        return await self._result(request, asked, statement, execution, default_format, query_id)

    async def _result(
        self,
        request: Request,
        asked: dict[str, str],
        statement: Statement,
        execution: Execution,
        default_format: str,
        query_id: str,
    ) -> Response:
        first, more, progress = await execution.begin()
        wanted = statement.format or default_format
        headers = self._headers(query_id, wanted, progress)
        headers["Content-Type"] = _CONTENT_TYPES.get(wanted, "text/plain; charset=UTF-8")
        encoding = (
            choose_encoding(request.headers.get("accept-encoding"))
            if asked.get("enable_http_compression", "1") != "0"
            else None
        )
        if encoding and (more or len(first) >= _LEAST_COMPRESSED):
            headers["Content-Encoding"] = encoding
        else:
            encoding = None
        if not more:
            await execution.close()
            if encoding:
                packing = encoder(encoding)
                first = packing.encode(first) + packing.finish()
            return Response(first, headers=headers)
        tag = secrets.token_hex(8)
        headers["X-ClickHouse-Exception-Tag"] = tag
        return StreamingResponse(self._stream(first, execution, encoding, tag), headers=headers)

    async def _stream(
        self, first: bytes, execution: Execution, encoding: str | None, tag: str
    ) -> AsyncIterator[bytes]:
        packing = encoder(encoding) if encoding else None
        try:
            piece: bytes | None = first
            while piece is not None:
                yield packing.encode(piece) if packing else piece
                piece = await execution.next()
        except ClickHouseError as error:
            text = self._text(error)
            length = len(text.encode())
            block = f"\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n".encode()
            yield packing.encode(block) + packing.finish() if packing else block
            raise BrokenOffError(text) from error
        finally:
            await execution.close()
        if packing:
            yield packing.finish()

    def _headers(self, query_id: str, wanted: str, progress: Progress) -> dict[str, str]:
        summary = {
            "read_rows": progress.read_rows,
            "read_bytes": progress.read_bytes,
            "written_rows": progress.written_rows,
            "written_bytes": progress.written_bytes,
            "total_rows_to_read": progress.read_rows,
            "result_rows": progress.result_rows,
            "result_bytes": progress.result_bytes,
            "elapsed_ns": progress.elapsed_ns,
        }
        return {
            "X-ClickHouse-Server-Display-Name": "chatgauge",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Format": wanted,
            "X-ClickHouse-Timezone": TIMEZONE,
            "X-ClickHouse-Summary": orjson.dumps({k: str(v) for k, v in summary.items()}).decode(),
        }

    def _failure(self, error: ClickHouseError, query_id: str) -> Response:
        headers = {
            "X-ClickHouse-Server-Display-Name": "chatgauge",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": TIMEZONE,
            "X-ClickHouse-Exception-Code": str(error.code),
        }
        return PlainTextResponse(self._text(error), error.status, headers)

    def _text(self, error: ClickHouseError) -> str:
        return f"{error.text} (version {self._engine.version} (chdb))\n"


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdecimal() else DEFAULT_TIMEOUT
