"""What the workers announce on `chat.closed`, minute by minute, from a test's side."""

from collections.abc import Mapping
from typing import Final

from schemas.time import HOUR, MINUTE, Micros
from streams.catalogue.groupings import SERVICE, USER, Grouping
from streams.counting.announce import heartbeat, shares
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from tests.streams.broker import Broker
from tests.streams.windows.requests import Request, frame, request

_MINUTES: Final = Pane("1m", 26 * HOUR, MINUTE, corrected_for=100 * MINUTE)
_TABLES: Final[Mapping[str, tuple[Grouping, str]]] = {
    "service": (SERVICE, "chat.windows"),
    "user_id": (USER, "chat.usage"),
}


class Source:
    """Closes minutes, one after the other, in all of `partitions` source partitions at once."""

    def __init__(self, broker: Broker, partitions: int, minute: Micros, by: str = "service") -> None:
        self._broker = broker
        self._partitions = partitions
        self._by = by
        self.minute = minute
        """The start of the minute that is closed next."""

    def close(self, requests: Mapping[str, int], **fields: int) -> None:
        """A minute with so many requests of each service (or user), in each source partition."""
        start, self.minute = self.minute, self.minute + MINUTE
        grouping, table = _TABLES[self._by]
        messages: dict[int, list[bytes]] = {partition: [] for partition in range(self._partitions)}
        for source in range(self._partitions):
            windows = PartitionWindows(source, Plan(((grouping, _MINUTES),), lateness=0), lambda key: None)
            events = self._events(requests, start, fields)
            if events:
                windows.count(frame(events), len(events) - 1, start)
            where = (table, source, self._partitions, start + MINUTE, len(events))
            for closed in windows.advance(start + MINUTE).closed:
                for to, _, value in shares(closed, *where):
                    messages[to].append(value)
            for to in messages:
                messages[to].append(heartbeat(*where)[1])
        self._broker.send("chat.closed", messages)

    def _events(self, requests: Mapping[str, int], start: Micros, fields: Mapping[str, int]) -> list[Request]:
        named = [name for name, count in requests.items() for _ in range(count)]
        return [
            request(place, start, **{self._by: name}, **fields) | {"event_id": f"{start}-{place}"}
            for place, name in enumerate(named)
        ]
