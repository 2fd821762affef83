"""A recorded trace as messages: the same file gives the same events, ids included."""

import hashlib
from collections.abc import Iterator
from datetime import datetime

import polars as pl

from schemas.topics import REQUESTS
from traffic.messages import Encoder, Messages
from traffic.traces import Trace

BLOCK = 8_192

_USERS = 100
_SPACES = 8


def events(trace: Trace, shift_to: datetime | None = None, users: int = _USERS) -> Iterator[pl.DataFrame]:
    """The trace as finished requests, in the order of time, at most 8,192 to a frame.

    The frames have the columns of RequestEvent, `_due_us` (the event time, in microseconds since 1970)
    and `_kind` (`request`, `failed request`). Ids follow from the file's content and the line. Where the
    file knows no users, its lines are spread over `users` made-up ones in eight made-up spaces, so that
    every partition gets its part.

    Events keep their times and are `imported`; with `shift_to` the whole trace moves so that its last
    event happens then, and its events are live.
    """
    shift_us = 0
    if shift_to is not None:
        shift_us = round(shift_to.timestamp() * 1_000_000) - int(trace.requests["occurred_at"][-1])
    for rows in trace.requests.iter_slices(BLOCK):
        ids = [_id(trace.digest, line) for line in rows["_line"]]
        occurred_at = rows["occurred_at"] + shift_us
        whole = rows.with_columns(
            event_id=pl.Series(ids),
            request_id=pl.Series([one[:24] for one in ids]),
            phase=pl.lit("finished"),
            occurred_at=occurred_at.cast(pl.Datetime("us", "UTC")),
            imported=pl.lit(shift_to is None),
            _due_us=occurred_at,
            _kind=pl.when(_failed(rows)).then(pl.lit("failed request")).otherwise(pl.lit("request")),
        )
        if "user_id" not in rows.columns:
            places = [int(one[24:], 16) % users for one in ids]
            whole = whole.with_columns(
                user_id=pl.Series([f"replay-user-{place + 1:03d}" for place in places])
            )
            if "space_id" not in rows.columns:
                spaces = pl.Series([f"replay-space-{place % _SPACES + 1}" for place in places])
                whole = whole.with_columns(space_id=spaces)
        yield whole.drop("_line")


def messages(
    trace: Trace, encoder: Encoder, shift_to: datetime | None = None, users: int = _USERS
) -> Iterator[list[Messages]]:
    """The trace as messages for `chat.requests`, keyed as the SDK keys them."""
    for frame in events(trace, shift_to, users):
        key = pl.coalesce("user_id", "request_id")
        yield [encoder.encode(REQUESTS.name, frame, key)]


def _id(digest: bytes, line: int) -> str:
    return hashlib.blake2b(line.to_bytes(8, "big"), key=digest, digest_size=16).hexdigest()


def _failed(rows: pl.DataFrame) -> pl.Expr:
    return pl.col("error_type").is_not_null() if "error_type" in rows.columns else pl.lit(value=False)
