"""What a receiver that keeps an alert's state must not be told any more.

A notification that failed comes again after minutes or hours. When a later transition of the alert has got
through meanwhile, the old one would open again what is over: it is left out. This is remembered in memory
only: after a restart the later transition, told again or not, has to stand for itself.
"""

from collections import OrderedDict
from collections.abc import Iterable

from streams.deliveries.channels.message import Alert

_MOST = 50_000


class Told:
    """The latest transition of each alert that each endpoint has taken."""

    def __init__(self) -> None:
        self._latest: OrderedDict[tuple[str, str], int] = OrderedDict()

    def fresh(self, endpoint_id: str, alerts: Iterable[Alert]) -> tuple[Alert, ...]:
        """The alerts of which the endpoint has taken nothing later."""
        return tuple(
            alert
            for alert in alerts
            if self._latest.get((endpoint_id, alert.id), alert.transition) <= alert.transition
        )

    def taken(self, endpoint_id: str, alerts: Iterable[Alert]) -> None:
        """The endpoint has taken these."""
        for alert in alerts:
            key = (endpoint_id, alert.id)
            self._latest[key] = max(self._latest.get(key, 0), alert.transition)
            self._latest.move_to_end(key)
        while len(self._latest) > _MOST:
            self._latest.popitem(last=False)


def overtaken(count: int) -> str:
    """What the log says of alerts that were left out."""
    return f"{count} left out: something later of the same alert has been taken already"
