"""Reading `chat.requests` for counting: from fetched batches to finished, priced requests in columns."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import polars as pl

from clients.kafka.fetched import Fetched
from schemas.batch import Batch, Refusal, refuse_future
from schemas.contract import schema
from schemas.raw import RawReader, Source
from schemas.registry import SchemaRegistry
from schemas.unpacking import MOST_BYTES
from schemas.validity import refuse_invalid
from streams.counting.pricing import PriceList
from streams.runtime.fetch import Fetch
from streams.windows.repeats import ARRIVED

_THREADS: Final = 2
"""That read a large fetch."""
_FEW: Final = 5_000
"""Records of all partitions up to which it is worth while to read them at once."""


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
    """Reads fetches of `chat.requests`. What came at the same time of several partitions is read at once."""

    def __init__(self, registry: SchemaRegistry | None = None, most_bytes: int = MOST_BYTES) -> None:
        # All columns, also those that aren't counted: what is readable must not depend on the reader.
        self._reader = RawReader(schema("RequestEvent"), registry=registry, limit=most_bytes)
        self._prices = PriceList()
        self._threads = ThreadPoolExecutor(_THREADS, "reading")
        self._together: Sequence[Fetched] = ()
        """What was read last, of which parts may be asked for yet …"""
        self._requests: list[Requests] = []
        """… and what each of it holds."""

    def read(self, fetch: Fetch) -> Requests:
        """Read a fetch of one partition.

        Raises RegistryUnavailableError when a writer's schema can't be had now.
        """
        together = fetch.beside if sum(each.count for each in fetch.beside) <= _FEW else (fetch.fetched,)
        if not any(each is fetch.fetched for each in self._together):
            self._requests, self._together = self._read(together), together
        [place] = [place for place, each in enumerate(self._together) if each is fetch.fetched]
        return self._requests[place]

    def _read(self, fetched: Sequence[Fetched]) -> list[Requests]:
        rows = self._reader.read([Source(each.batches, each.first) for each in fetched], self._threads)
        batch = refuse_invalid(refuse_future(rows.batch, rows.arrived_us), "RequestEvent")
        frame, places = batch.frame, batch.indices
        frame = frame.hstack([pl.Series(ARRIVED, rows.arrived_us[places])])
        if (phases := frame["phase"]).n_unique() > 1 or phases.first() != "finished":
            finished = phases == "finished"
            frame, places = frame.filter(finished), places[finished.to_numpy()]
        frame = countable(frame, self._prices.cost(frame))
        parts = rows.apart(Batch(frame, places, batch.refused))
        begins = [0, *rows.ends]
        return [
            Requests(part.frame, part.refused, end - begin)
            for part, begin, end in zip(parts, begins, rows.ends, strict=False)
        ]


def countable(frame: pl.DataFrame, cost: pl.Series) -> pl.DataFrame:
    """Finished requests as `aggregate.Events` asks for them; `cost` in nano-USD is null where unpriced."""
    return frame.with_columns_seq(
        cost.alias("cost_nano_usd"),
        errors=pl.col("error_type").is_not_null().cast(pl.Int64),
        cache_hits=pl.col("cache_hit").cast(pl.Int64),
        unpriced=pl.lit(cost).is_null().cast(pl.Int64),
    )
