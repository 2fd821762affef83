"""Adding up rows of the same groups: of several partitions, of panes, of live and imported blocks."""

from collections.abc import Iterable

import polars as pl
import pyarrow as pa

from streams.catalogue.groupings import Grouping
from streams.windows.block import row_schema

_ALL = "_all"
"""A key for the grouping that has none."""


def merge(tables: Iterable[pa.Table], grouping: Grouping) -> pl.DataFrame:
    """One row per group, in the columns of a block's rows, in no particular order.

    Sums and sketches are added, minima and maxima taken; a sketch's keys ascend. No rows merge into
    no row, also for the total.
    """
    schema = row_schema(grouping)
    frame = pl.DataFrame(pa.concat_tables([schema.empty_table(), *tables]).combine_chunks())
    keys = list(grouping.keys) or [_ALL]
    if not grouping.keys:
        frame = frame.with_columns(pl.lit(0).alias(_ALL))
    figures = [pl.col(name).sum() for name in grouping.sums]
    for name in grouping.latencies:
        figures += [pl.col(f"{name}_{part}").sum() for part in ("count", "sum")]
        figures += [pl.col(f"{name}_min").min(), pl.col(f"{name}_max").max()]
    merged = frame.group_by(keys).agg(figures)
    for name in grouping.latencies:
        merged = merged.join(_merged_sketch(frame, keys, name), on=keys, how="left")
    return merged.select(schema.names)


def _merged_sketch(frame: pl.DataFrame, keys: list[str], name: str) -> pl.DataFrame:
    """`keys`, `<name>_keys`, `<name>_counts`: a group without values has an empty sketch."""
    bucket, count = f"{name}_keys", f"{name}_counts"
    present = (
        frame.select(*keys, bucket, count)
        .explode(bucket, count)
        .drop_nulls(bucket)
        .group_by(*keys, bucket)
        .agg(pl.col(count).sum())
        .sort(bucket)
        .group_by(keys, maintain_order=True)
        .agg(bucket, count)
    )
    return (
        frame.select(keys)
        .unique()
        .join(present, on=keys, how="left")
        .with_columns(
            pl.col(bucket, count).fill_null(pl.lit([], dtype=pl.List(pl.Int64)).cast(pl.List(pl.Int64)))
        )
    )
