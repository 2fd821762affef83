"""Up to where panes are to be judged: what all source partitions have closed, or one has long done so."""

from collections import deque
from collections.abc import Iterable

from schemas.time import SECOND, Micros
from streams.alerts.watermarks import Watermarks


class DuePanes:
    """Keeps, for each table, when the foremost source partition came how far. `patience` as in `Limits`."""

    def __init__(self, watermarks: Watermarks, tables: Iterable[str], patience: Micros) -> None:
        self._watermarks = watermarks
        self._patience = patience
        self._leads: dict[str, deque[tuple[Micros, Micros]]] = {table: deque() for table in tables}

    def advance(self, table: str, now: Micros) -> Micros | None:
        """Take note of how far the foremost has come by now; then as `upto`."""
        lead, leads = self._watermarks.lead(table), self._leads[table]
        if lead is not None and (not leads or lead - lead % SECOND > leads[-1][1]):
            leads.append((now, lead - lead % SECOND))
        return self.upto(table, now)

    def upto(self, table: str, now: Micros) -> Micros | None:
        """Panes ending up to here are due; None while nothing is known."""
        leads = self._leads[table]
        while len(leads) > 1 and leads[1][0] <= now - self._patience:
            leads.popleft()
        long_closed = leads[0][1] if leads and leads[0][0] <= now - self._patience else None
        frontier = self._watermarks.frontier(table)
        if frontier is None or long_closed is None:
            return frontier if long_closed is None else long_closed
        return max(frontier, long_closed)
