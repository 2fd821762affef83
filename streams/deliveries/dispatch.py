"""Which queues may begin something now. Queues share nothing but the bound on all attempts under way."""

import heapq

from schemas.time import Micros
from streams.deliveries.delivery import Delivery
from streams.deliveries.endpoint_queue import EndpointQueue


class Dispatch:
    """Looks at each queue when something may begin in it, at no other time.

    `most` attempts are under way at once, and at most half of them at endpoints that keep failing: however
    many of those hang until their time is out, the others have room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_probes = max(1, most // 2)
        self._wakes: list[tuple[Micros, str]] = []
        self._held: dict[str, EndpointQueue] = {}
        """Keep failing, and wait until fewer of their kind are under way."""
        self._late: dict[str, EndpointQueue] = {}
        """Have a backlog, or try again; in the order of their turns."""
        self._probes: set[int] = set()
        self.queues: dict[str, EndpointQueue] = {}
        self.under_way = 0

    def wake(self, queue: EndpointQueue) -> None:
        """Something has changed in the queue."""
        at = queue.next_at()
        if at is not None and (queue.wakes_at is None or at < queue.wakes_at):
            queue.wakes_at = at
            heapq.heappush(self._wakes, (at, queue.endpoint_id))

    def begin(self, now: Micros, most: int, most_late: int) -> list[Delivery]:
        """Those whose attempts begin now, at most so many; more than `most_late` only of those that
        people wait for: first attempts, in time."""
        begun: list[Delivery] = []
        most = min(most, self._most - self.under_way)
        for endpoint_id in list(self._late):
            if len(begun) >= min(most, most_late):
                break
            if (queue := self._late.pop(endpoint_id)) is self.queues.get(endpoint_id):
                begun += self._begin_in(queue, now, min(most, most_late) - len(begun))
        while len(begun) < most and (at := self._next()) is not None and at <= now:
            _, endpoint_id = heapq.heappop(self._wakes)
            queue = self.queues[endpoint_id]
            queue.wakes_at = None
            room = (most if queue.hurries(now) else min(most, most_late)) - len(begun)
            if room <= 0:
                self._late[endpoint_id] = queue
            else:
                begun += self._begin_in(queue, now, room)
        return begun

    def _begin_in(self, queue: EndpointQueue, now: Micros, room: int) -> list[Delivery]:
        probing = queue.health.probing
        if probing:
            room = min(room, self._most_probes - len(self._probes))
        if room <= 0:
            self._held[queue.endpoint_id] = queue
            return []
        taken = list(queue.begin(now, room))
        self.under_way += len(taken)
        if probing:
            self._probes.update(each.digest for each in taken)
        self.wake(queue)
        return taken

    @property
    def behind(self) -> bool:
        """Whether something waits for room."""
        return bool(self._late)

    def take_up(self, delivery: Delivery) -> None:
        """It is under way already."""
        self.queues[delivery.endpoint_id].take_up(delivery)
        self.under_way += 1

    def ended(self, delivery: Delivery) -> None:
        """Its attempt is over, and durable."""
        queue = self.queues[delivery.endpoint_id]
        queue.ended()
        self.under_way -= 1
        if delivery.digest in self._probes:
            self._probes.discard(delivery.digest)
            held, self._held = self._held, {}
            for waiting in held.values():
                self.wake(waiting)
        self.wake(queue)

    def next_at(self) -> Micros | None:
        """When `begin` may have something; None when that is not a matter of time."""
        return self._next() if self.under_way < self._most else None

    def _next(self) -> Micros | None:
        while self._wakes:
            at, endpoint_id = self._wakes[0]
            queue = self.queues.get(endpoint_id)
            if queue is not None and queue.wakes_at == at:
                return at
            heapq.heappop(self._wakes)
        return None
