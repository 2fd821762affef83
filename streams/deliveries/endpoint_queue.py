"""The deliveries of one endpoint: which is next, and when one may begin. No queue waits for another."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schemas.time import MINUTE, SECOND, Micros
from streams.deliveries.delivery import Delivery
from streams.deliveries.health import Health
from streams.endpoints.endpoint import Endpoint
from streams.endpoints.subscription import ENDPOINT_TEST

_BURST: Final = SECOND // 10
"""So much of a second's rate may begin at once: what begins late doesn't lower the rate."""
_IN_TIME: Final = 2 * SECOND
_LONGEST_PAUSE: Final = MINUTE
"""A receiver that asks for a pause by Retry-After gets it for all its deliveries, for so long at most."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of an endpoint: its definition, or why that can't be used."""

    endpoint: Endpoint | None
    revision: int = 0
    problem: str = ""

    @property
    def closed(self) -> str | None:
        """Why nothing but a test is sent there; None when it is open."""
        if self.endpoint is None:
            return self.problem
        if not self.endpoint.enabled:
            return self.endpoint.disabled_because or "the endpoint is disabled"
        return None


UNKNOWN: Final = Target(None, problem="there is no such endpoint")


class EndpointQueue:
    """One endpoint's open deliveries, in the order in which they are due.

    The rate is kept: in any `t` seconds at most `rate * (t + 0.1) + 1` begin.
    """

    def __init__(self, endpoint_id: str, partition: int) -> None:
        self.endpoint_id = endpoint_id
        self.partition = partition
        self.target = UNKNOWN
        self.closed: str | None = UNKNOWN.problem
        self.closed_at: Micros = 0
        self.health = Health()
        self.under_way = 0
        self.wakes_at: Micros | None = None
        """When the outbox looks at it next."""
        self._ready: list[tuple[Micros, int, int, Delivery]] = []
        self._waiting: dict[int, Delivery] = {}
        self._not_before: Micros = 0
        self._earned: float = 0.0

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting) + self.under_way

    def aim(self, target: Target, closed: str | None, now: Micros) -> None:
        """The endpoint is (by now) as `target` says, and closed to all but tests for the reason given."""
        if closed and not self.closed:
            self.closed_at = now
        moved = (bool(closed), target.endpoint is None) != (bool(self.closed), self.target.endpoint is None)
        self.target, self.closed = target, closed
        rate = target.endpoint.rate if target.endpoint else None
        self._earned = min(self._earned, now + SECOND / rate) if rate else 0.0
        if moved:
            held = [*(each for *_, each in self._ready), *self._waiting.values()]
            self._ready, self._waiting = [], {}
            for delivery in held:
                self.add(delivery)

    def add(self, delivery: Delivery) -> None:
        """It is to be sent when it is due."""
        if self._shut_to(delivery):
            self._waiting[delivery.digest] = delivery
        else:
            self._push(delivery)

    def remove(self, delivery: Delivery) -> None:
        """It is not to be sent; does nothing to one that is under way."""
        if self._waiting.pop(delivery.digest, None) is None:
            self._ready = [each for each in self._ready if each[-1] is not delivery]
            heapq.heapify(self._ready)

    def _push(self, delivery: Delivery) -> None:
        heapq.heappush(self._ready, (delivery.due_at, delivery.offset, delivery.digest, delivery))

    def _shut_to(self, delivery: Delivery) -> bool:
        return self.target.endpoint is None or (bool(self.closed) and delivery.type != ENDPOINT_TEST)

    @property
    def width(self) -> int:
        """How many may be under way at once."""
        endpoint = self.target.endpoint
        if endpoint is None:
            return 0
        return 1 if self.health.probing else endpoint.concurrency

    def next_at(self) -> Micros | None:
        """When the next one may begin; None when that is not a matter of time."""
        if not self._ready or self.under_way >= self.width:
            return None
        return max(self._ready[0][0], self._not_before, round(self._earned) - _BURST)

    def hurries(self, now: Micros) -> bool:
        """Whether the next one was made just now and not tried yet: people wait for it."""
        if not self._ready:
            return False
        delivery = self._ready[0][-1]
        return delivery.attempts == 0 and now - delivery.created_at <= _IN_TIME

    def begin(self, now: Micros, most: int) -> Iterator[Delivery]:
        """Those that begin now, at most so many."""
        while most > 0 and (at := self.next_at()) is not None and at <= now:
            delivery = heapq.heappop(self._ready)[-1]
            rate = self.target.endpoint.rate if self.target.endpoint else None
            if rate:
                self._earned = max(self._earned, now) + SECOND / rate
            delivery.under_way = True
            self.under_way += 1
            most -= 1
            yield delivery

    def take_up(self, delivery: Delivery) -> None:
        """It is under way already: its request outlived a rebalance."""
        delivery.under_way = True
        self.under_way += 1

    def ended(self) -> None:
        """An attempt is over, and durable: there is room for another one."""
        self.under_way -= 1

    def pause(self, seconds: float | None, now: Micros) -> None:
        """The receiver has asked for a pause."""
        if seconds is not None and seconds > 0:
            self._not_before = max(
                self._not_before, now + min(_LONGEST_PAUSE, round(min(seconds, 1e6) * SECOND))
            )

    def parkable(self, now: Micros, settled: Micros, most: int) -> list[Delivery]:
        """Those that wait at a closed endpoint since `settled` or longer: taken out, at most so many.

        That time is for what is on its way: the definition of an endpoint that was just made or enabled.
        """
        if not self.closed or now - self.closed_at < settled:
            return []
        found: list[Delivery] = []
        for delivery in self._waiting.values():
            if len(found) == most:
                break
            if now - delivery.accepted_at >= settled:
                found.append(delivery)
        for delivery in found:
            del self._waiting[delivery.digest]
        return found
