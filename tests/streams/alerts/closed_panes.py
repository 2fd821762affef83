"""Panes of a small system as they stand on a partition of `chat.closed`, and rules to judge them by."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.time import MINUTE, SECOND, Micros
from streams.alerts.closed_share import ClosedShare
from streams.alerts.judged import RuleVersion
from streams.alerts.pane_series import PaneSeries
from streams.alerts.rule import parse_rule
from streams.windows.block import row_schema
from streams.windows.measures import GROUPINGS
from streams.windows.sketch import keys_of

NOON = 1_790_000_040_000_000 - 1_790_000_040_000_000 % (60 * MINUTE)
"""A full hour in 2026, from which tests count their minutes."""

Row = Mapping[str, Any]


def minute(n: float) -> Micros:
    """The moment n minutes after NOON."""
    return NOON + int(n * MINUTE)


def rows(grouping: str, groups: Mapping[Any, Row]) -> pa.Table:
    """Rows of a grouping by their keys; latencies as lists of microseconds (`total_us=[...]`)."""
    kind = GROUPINGS[grouping]
    columns: dict[str, list[Any]] = {name: [] for name in row_schema(kind).names}
    for key, figures in groups.items():
        group = key if isinstance(key, tuple) else (key,)
        for name, value in zip(kind.keys, group, strict=True):
            columns[name].append(value)
        for name in kind.sums:
            columns[name].append(figures.get(name, 0))
        for name in kind.latencies:
            values = figures.get(name, [])
            buckets = sorted(keys_of(pa.array(values, pa.int64()).to_numpy()).tolist()) if values else []
            columns[f"{name}_count"].append(len(values))
            columns[f"{name}_sum"].append(sum(values))
            columns[f"{name}_min"].append(min(values, default=None))
            columns[f"{name}_max"].append(max(values, default=None))
            columns[f"{name}_keys"].append(sorted(set(buckets)))
            columns[f"{name}_counts"].append([buckets.count(each) for each in sorted(set(buckets))])
    return pa.table(columns, schema=row_schema(kind))


class Topic:
    """A partition of `chat.closed` that is written record by record."""

    def __init__(self, partitions: int = 1, begins_at: int = 0) -> None:
        self.partitions = partitions
        self.begins_at = begins_at
        self.records: list[ClosedShare] = []

    def __repr__(self) -> str:
        return "".join(f"\n  {_shown(record)}" for record in self.records)

    def _add(self, partition: int, watermark: Micros, table: str, **more: Any) -> ClosedShare:
        at = self.begins_at + len(self.records)
        more.setdefault("offset", at)
        self.records.append(ClosedShare(at, table, partition, self.partitions, watermark, **more))
        return self.records[-1]

    def heartbeat(self, watermark: Micros, partition: int = 0, table: str = "chat.windows") -> None:
        """A watermark alone."""
        self._add(partition, watermark, table)

    def share(
        self,
        end: Micros,
        groups: Mapping[Any, Row],
        *,
        grouping: str = "total",
        partition: int = 0,
        pane: str = "1m",
        **more: Any,
    ) -> None:
        """A source partition's share of the pane that ends at `end`."""
        series = PaneSeries(grouping, pane)
        fields = {"pane": pane, "pane_start": end - series.length, "pane_end": end, "grouping": grouping}
        self._add(partition, end, series.table, **fields, rows=rows(grouping, groups), **more)

    def close(
        self,
        end: Micros,
        groups: Mapping[Any, Row],
        *,
        grouping: str = "total",
        partitions: Iterable[int] | None = None,
        pane: str = "1m",
    ) -> None:
        """The pane ends: the rows come from the first of the partitions, heartbeats from all of them."""
        sources = range(self.partitions) if partitions is None else partitions
        for source in sources:
            if source == 0 and groups:
                self.share(end, groups, grouping=grouping, pane=pane)
            self.heartbeat(end, source, PaneSeries(grouping, pane).table)

    def since(self, record: int) -> Sequence[ClosedShare]:
        """The records from the one with this number on."""
        return self.records[record:]


def _shown(record: ClosedShare) -> str:
    where = f"{record.at}: {record.table} {record.partition}"
    if not isinstance(record.rows, pa.Table):
        return f"{where} reached {record.watermark}"
    rows = [{name: value for name, value in row.items() if value} for row in record.rows.to_pylist()]
    return f"{where} {record.grouping} {record.pane_end} v{record.offset}.{record.revision}: {rows}"


def rule(revision: int = 1, **fields: Any) -> RuleVersion:
    """A rule; without more said, one that fires over 10 requests a minute."""
    kind = fields.get("kind", "threshold")
    base: dict[str, Any] = {"id": "r", "name": "Rule", "kind": kind, "severity": "error"}
    if kind == "threshold":
        base |= {"metric": "requests", "aggregation": "sum", "window": "1m", "operator": ">", "threshold": 10}
    return RuleVersion(parse_rule(base | fields), revision)


def told(alerts: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Group, state, transition, and in which minute after NOON."""
    return [(*a["group"], a["state"], a["transition"], (a["changed_at"] - NOON) / MINUTE) for a in alerts]


__all__ = ["MINUTE", "NOON", "SECOND", "Topic", "minute", "rows", "rule", "told"]
