"""Messages ready to be sent, with the moment at which each is due."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.contract import schema
from schemas.registry import SchemaRegistry
from schemas.topics import REQUESTS, SAMPLES, SPANS
from schemas.wire import confluent_header
from traffic.avro import ColumnWriter


@dataclass(frozen=True)
class Messages:
    """Messages of one topic, in the order in which they are due."""

    topic: str
    keys: Sequence[bytes]
    values: Sequence[bytes | None]
    due_us: npt.NDArray[np.int64]
    """When to send each, in microseconds since 1970; ascending."""
    kinds: Sequence[str]
    """What each one is, for the count at the end."""

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice) -> Self:
        return type(self)(self.topic, self.keys[part], self.values[part], self.due_us[part], self.kinds[part])

    @classmethod
    def merged(cls, parts: Sequence[Self]) -> Self:
        """Messages of one topic, put in the order in which they are due; of those due at once, the
        earlier part's come first."""
        due = np.concatenate([part.due_us for part in parts])
        order = np.argsort(due, kind="stable")
        keys = [key for part in parts for key in part.keys]
        values = [value for part in parts for value in part.values]
        kinds = [kind for part in parts for kind in part.kinds]
        return cls(
            parts[0].topic,
            [keys[place] for place in order],
            [values[place] for place in order],
            due[order],
            [kinds[place] for place in order],
        )


class Encoder:
    """Writes rows as messages: single-object encoding, or Confluent's format with a schema registry."""

    def __init__(self, registry: SchemaRegistry | None = None) -> None:
        """Asks the registry for the ids at once; raises its RegistryErrors."""
        self._writers = {}
        for topic in (REQUESTS, SPANS, SAMPLES):
            header = None
            if registry:
                header = confluent_header(registry.register(topic.name, schema(topic.record)))
            self._writers[topic.name] = ColumnWriter(topic.record, header)

    def encode(self, topic: str, rows: pl.DataFrame, key: pl.Expr) -> Messages:
        """The messages of `rows`, which has the columns of the topic's record, `_due_us` and `_kind`.

        Sorted by `_due_us`; those due at once keep their order.
        """
        rows = rows.sort("_due_us", maintain_order=True)
        return Messages(
            topic,
            rows.select(key.cast(pl.Binary).alias("key"))["key"].to_list(),
            self._writers[topic].values(rows),
            rows["_due_us"].to_numpy(),
            rows["_kind"].to_list(),
        )
