"""Reading `chat.requests` for counting: from Kafka records to finished, priced requests in columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.batch import Refusal, refuse_future
from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.registry import SchemaRegistry
from schemas.validity import refuse_invalid
from streams.pricing import PriceList
from streams.together import Fetch, Part
from streams.windows.repeats import ARRIVED

_OFFSET, _TIMESTAMP = attrgetter("offset"), attrgetter("timestamp")


@dataclass(frozen=True)
class Requests:
    """What a fetch holds."""

    finished: pl.DataFrame
    """Finished requests in the order of their offsets: the event's columns, `_offset`, `_arrived`, and what
    `aggregate.Events` asks for: their cost, errors, cache hits."""
    refused: list[Refusal]


class RequestReader:
    """Reads fetches of `chat.requests`."""

    def __init__(self, registry: SchemaRegistry | None = None) -> None:
        # All columns, also those that aren't counted: what is readable must not depend on the reader.
        self._reader = ColumnarReader(schema("RequestEvent"), registry=registry)
        self._prices = PriceList()
        self._fetch: Fetch | None = None
        """The last fetch that was read, of which parts may be asked for yet …"""
        self._requests: list[Requests] = []
        """… and what it holds."""

    def read(self, records: Sequence[Any]) -> Requests:
        """Read Kafka records (with `value`, `offset`, and `timestamp` in milliseconds) of one partition.

        Raises RegistryUnavailableError when a writer's schema can't be had now.
        """
        if not isinstance(records, Part):
            return self._read([records])[0]
        if records.fetch is not self._fetch:
            self._requests, self._fetch = self._read(records.fetch), records.fetch
        return self._requests[records.place]

    def _read(self, fetch: Fetch) -> list[Requests]:
        """Read the records of several partitions at once."""
        records = list(chain.from_iterable(fetch))
        values = [record.value for record in records]
        offsets = np.fromiter(map(_OFFSET, records), np.int64, len(records))
        arrived = np.fromiter(map(_TIMESTAMP, records), np.int64, len(records)) * 1000
        batch = refuse_future(self._reader.read(values, offsets), arrived)
        batch = refuse_invalid(batch, "RequestEvent")
        frame, places = batch.frame.hstack([pl.Series(ARRIVED, arrived[batch.indices])]), batch.indices
        if (phases := frame["phase"]).n_unique() > 1 or phases.first() != "finished":
            finished = phases == "finished"
            frame, places = frame.filter(finished), places[finished.to_numpy()]
        frame = countable(frame, self._prices.cost(frame))
        requests = Requests(frame, batch.refused)
        return [requests] if len(fetch) == 1 else list(_apart(requests, places, fetch))


def _apart(requests: Requests, places: npt.NDArray[np.int64], fetch: Fetch) -> Iterator[Requests]:
    """What each partition's records hold; `places` says which of all records each row was."""
    end = row = 0
    for part in fetch:
        begin, end, first = end, end + len(part), row
        row = int(np.searchsorted(places, end))
        refused = [
            replace(refusal, index=refusal.index - begin)
            for refusal in requests.refused
            if begin <= refusal.index < end
        ]
        yield Requests(requests.finished.slice(first, row - first), refused)


def countable(frame: pl.DataFrame, cost: pl.Series) -> pl.DataFrame:
    """Finished requests as `aggregate.Events` asks for them; `cost` in nano-USD is null where unpriced."""
    return frame.with_columns_seq(
        cost.alias("cost_nano_usd"),
        errors=pl.col("error_type").is_not_null().cast(pl.Int64),
        cache_hits=pl.col("cache_hit").cast(pl.Int64),
        unpriced=pl.lit(cost).is_null().cast(pl.Int64),
    )
