"""Reading a request: the statement first, then the data of an INSERT as they come."""

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from infra.clickhouse.compression import decoder
from infra.clickhouse.errors import TOO_MANY_BYTES, ClickHouseError
from infra.clickhouse.statement import Statement, parse

_LONGEST_HEAD = 256 * 1024
"""Within so many bytes the FORMAT or VALUES of an INSERT must come (ClickHouse's max_query_size)."""
_DISCARDED = 64 * 1024 * 1024


class Body:
    """A request's body, decompressed piece by piece; `limit` bounds what it may become, in bytes."""

    def __init__(self, request: Request, limit: int) -> None:
        self._pieces = request.stream()
        self._encoding = request.headers.get("content-encoding")
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoding = decoder(self._encoding)
        size = 0
        async for piece in self._pieces:
            decoded = decoding.decode(piece)
            size += len(decoded)
            if size > self._limit:
                raise ClickHouseError.of(
                    TOO_MANY_BYTES,
                    f"The request is larger than {self._limit} bytes: send it in parts, "
                    "or start the server with a larger --largest-request",
                )
            if decoded:
                yield decoded
        decoding.finish()

    async def discard(self) -> None:
        """Read what is left, so that the client gets to read the answer; up to a bound."""
        size = 0
        try:
            async for piece in self._pieces:
                size += len(piece)
                if size > _DISCARDED:
                    return
        except (ClientDisconnect, RuntimeError):  # gone, or read to its end before
            return


async def read_statement(query: str, body: Body) -> tuple[Statement, AsyncIterator[bytes]]:
    """The statement of the `query` parameter and the body, and the data that follow it."""
    pieces = aiter(body)
    head = query.encode(errors="surrogateescape")
    if head.strip():
        statement = parse(head)
        if statement.data_from is not None:
            return statement, _following(head[statement.data_from :], pieces)
    ended = False
    while not ended:
        while len(head) < _LONGEST_HEAD and not ended:
            piece = await anext(pieces, None)
            ended = piece is None
            head += piece or b""
        statement = parse(head)
        if statement.data_from is not None:
            return statement, _following(head[statement.data_from :], pieces)
        rest = [head] + [piece async for piece in pieces]
        ended = True
        head = b"".join(rest)
    return parse(head), pieces


async def _following(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in pieces:
        yield piece
