"""How far the source partitions of a table have closed their panes, as their heartbeats say."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.time import Micros
from schemas.topics import USAGE, WINDOWS
from streams.alerts.pane_series import ALWAYS


@dataclass
class SourceWatermark:
    """What a source partition has said of one table."""

    watermark: Micros = ALWAYS
    """The greatest of its heartbeats."""
    at: int = -1
    """The offset of the first heartbeat that said so."""
    seen: Micros = ALWAYS
    """The greatest watermark on any of its records."""


class Watermarks:
    """The watermarks of the source partitions, for each of the tables `chat.windows` and `chat.usage`."""

    def __init__(self) -> None:
        self.partitions = 0
        """How many source partitions there are."""
        self._sources: dict[str, dict[int, SourceWatermark]] = {WINDOWS.name: {}, USAGE.name: {}}

    @property
    def tables(self) -> Mapping[str, Mapping[int, SourceWatermark]]:
        """By table and source partition."""
        return self._sources

    def of(self, table: str, partition: int) -> tuple[SourceWatermark, bool]:
        """That of a source partition, and whether it is met for the first time."""
        sources = self._sources[table]
        if partition in sources:
            return sources[partition], False
        found = sources[partition] = SourceWatermark()
        return found, True

    def frontier(self, table: str) -> Micros | None:
        """Panes ending up to here are closed in every source partition; None while one is unknown."""
        sources = self._sources[table]
        if not self.partitions or len(sources) < self.partitions:
            return None
        least = min(each.watermark for each in sources.values())
        return least if least > 0 else None

    def lead(self, table: str) -> Micros | None:
        """Panes ending up to here are closed in at least one source partition."""
        most = max((each.watermark for each in self._sources[table].values()), default=0)
        return most if most > 0 else None

    def parts(self, table: str, end: Micros) -> int:
        """In how many source partitions panes ending at `end` are closed."""
        return sum(each.watermark >= end for each in self._sources[table].values())

    def greatest_seen(self, table: str) -> Micros:
        """The greatest watermark on any record."""
        return max((each.seen for each in self._sources[table].values()), default=ALWAYS)

    def has_closed(self, table: str, partition: int, end: Micros) -> bool:
        """Whether a source partition has closed the pane that ends at `end`."""
        return self._sources[table][partition].watermark >= end

    def offsets(self, table: str) -> list[int]:
        """The offsets of the heartbeats that the watermarks rest on."""
        return [each.at for each in self._sources[table].values() if each.at >= 0]
