"""Reading `chat.requests` for counting: from Kafka records to finished, priced requests in columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import polars as pl

from schemas.batch import Refusal, refuse_future
from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.registry import SchemaRegistry
from schemas.validity import refuse_invalid
from streams.pricing import PriceList
from streams.runtime.fetch import Fetch
from streams.windows.repeats import ARRIVED

_OFFSET, _TIMESTAMP = attrgetter("offset"), attrgetter("timestamp")


@dataclass(frozen=True)
class Requests:
    """What a fetch holds."""

    finished: pl.DataFrame
    """Finished requests in the order of their offsets: the event's columns, `_offset`, `_arrived`, and what
    `aggregate.Events` asks for: their cost, errors, cache hits."""
    refused: list[Refusal]
    records: int
    """How many there were, of whatever phase, readable or not."""


class RequestReader:
    """Reads fetches of `chat.requests`."""

    def __init__(self, registry: SchemaRegistry | None = None) -> None:
        # All columns, also those that aren't counted: what is readable must not depend on the reader.
        self._reader = ColumnarReader(schema("RequestEvent"), registry=registry)
        self._prices = PriceList()

    def read_fetch(self, fetch: Fetch) -> Requests:
        """Read a fetch of one partition.

        Raises RegistryUnavailableError when a writer's schema can't be had now.
        """
        return self.read(fetch.records)

    def read(self, records: Sequence[Any]) -> Requests:
        """Read Kafka records (with `value`, `offset`, and `timestamp` in milliseconds) of one partition.

        Raises RegistryUnavailableError when a writer's schema can't be had now.
        """
        values = [record.value for record in records]
        offsets = np.fromiter(map(_OFFSET, records), np.int64, len(records))
        arrived = np.fromiter(map(_TIMESTAMP, records), np.int64, len(records)) * 1000
        batch = refuse_future(self._reader.read(values, offsets), arrived)
        batch = refuse_invalid(batch, "RequestEvent")
        frame = batch.frame.hstack([pl.Series(ARRIVED, arrived[batch.indices])])
        if (phases := frame["phase"]).n_unique() > 1 or phases.first() != "finished":
            frame = frame.filter(phases == "finished")
        frame = countable(frame, self._prices.cost(frame))
        return Requests(frame, batch.refused, len(records))


def countable(frame: pl.DataFrame, cost: pl.Series) -> pl.DataFrame:
    """Finished requests as `aggregate.Events` asks for them; `cost` in nano-USD is null where unpriced."""
    return frame.with_columns_seq(
        cost.alias("cost_nano_usd"),
        errors=pl.col("error_type").is_not_null().cast(pl.Int64),
        cache_hits=pl.col("cache_hit").cast(pl.Int64),
        unpriced=pl.lit(cost).is_null().cast(pl.Int64),
    )
