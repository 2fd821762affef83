"""A producer that goes on through everything: a steady, seeded feed of chat.requests.

Each event is sent until it is acknowledged, over broker restarts too. A send whose acknowledgement got
lost may make a repeat: the same bytes by the same key. Batches are of every codec, in turn.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.faults.mix import MIX, Message, Mixer

TOPIC = "chat.requests"
CODECS = ("gzip", "snappy", "lz4", "zstd", None)
"""As aiokafka's producer calls them; None: not compressed."""
_TICK_S = 0.02
_MOST_UNACKNOWLEDGED = 5_000
_REQUEST_TIMEOUT_MS = 15_000
_STOPPED_WITHIN_S = 10
_LARGEST_REQUEST = 4 * 1024 * 1024


class Sent(NamedTuple):
    """A record that Kafka has acknowledged."""

    topic: str
    partition: int
    offset: int
    kind: str
    event_id: str


class Feed:
    """Sends `rate` messages a second while it runs, of the kinds that `mix` says (shares).

    While the broker is away nothing is made up for: it holds what it has, and goes on at its rate.
    """

    def __init__(
        self, bootstrap: str, *, rate: float = 500, seed: int = 1, mix: Mapping[str, float] = MIX
    ) -> None:
        self.rate = rate
        self.sent: list[Sent] = []
        """In the order of their acknowledgements."""
        self.beside: list[Sent] = []
        """What others have sent to the topic, and Kafka has acknowledged: see `add`."""
        self.aborted: set[tuple[int, int]] = set()
        """Partition and offset of what others have sent in transactions that they aborted."""
        self.unreadable: dict[tuple[int, int], int] = {}
        """Partition and first offset of the batches of others that nobody can read: how many offsets they
        take."""
        self._bootstrap = bootstrap
        self._mixer = Mixer(seed, clock=lambda: time.time_ns() // 1_000, shares=mix)
        self._waiting: deque[Message] = deque()
        self._unacknowledged = 0
        """Handed over, and not acknowledged yet."""
        self._lock = threading.Lock()
        self._steady = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(within_s=120 if error is None else 0)

    @property
    def acknowledged(self) -> int:
        """Records, repeats included."""
        return len(self.sent)

    @property
    def places(self) -> dict[tuple[int, int], str]:
        """The event id by partition and offset of all that was acknowledged."""
        return {(one.partition, one.offset): one.event_id for one in [*self.sent, *self.beside]}

    @property
    def ends(self) -> dict[int, int]:
        """The offset past the last record of each partition. Behind it may lie what nobody is to read:
        aborted records, and the markers of transactions."""
        ends: dict[int, int] = {}
        for one in [*self.sent, *self.beside]:
            ends[one.partition] = max(one.offset + 1, ends.get(one.partition, 0))
        for (partition, offset), count in self.unreadable.items():
            ends[partition] = max(offset + count, ends.get(partition, 0))
        return ends

    def start(self) -> None:
        """Begin, or go on. The broker need not be there yet."""
        self._steady.set()
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = 120) -> None:
        """Make no more, and return once all is acknowledged; TimeoutError if that takes too long."""
        if self._thread is None:
            return
        self._steady.clear()
        try:
            if within_s:
                self.settle(within_s)
        finally:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def settle(self, within_s: float = 120) -> None:
        """Return once all that was handed over for sending is acknowledged; TimeoutError otherwise.

        While the feed runs at a rate, there is always something on its way: all that there was when
        this was called is waited for.
        """
        deadline = time.monotonic() + within_s
        with self._lock:
            wanted = self.acknowledged + self._unacknowledged
        while self.acknowledged < wanted:
            if self._failure is not None:
                raise RuntimeError("the feed has failed") from self._failure
            if time.monotonic() > deadline:
                missing = wanted - self.acknowledged
                raise TimeoutError(f"{missing} events are not acknowledged after {within_s:.0f} s")
            time.sleep(0.02)

    def burst(self, count: int) -> None:
        """So many of the mix, as fast as they go, beside the steady ones."""
        self._hand_over(count)

    def imports(self, count: int) -> None:
        """So many of years ago, marked as imported."""
        self._hand_over(count, "imported")

    def all_bad(self, count: int) -> None:
        """So many that nobody can read, of every kind."""
        self._hand_over(count, "bad")

    def all_of(self, kind: str, count: int) -> None:
        """So many of one kind of the mix."""
        self._hand_over(count, kind)

    def messages(self, count: int, kind: str | None = None) -> list[Message]:
        """So many, for somebody else to send: see `add`."""
        with self._lock:
            return list(self._mixer.messages(count, kind))

    def add(self, sent: Iterable[Sent]) -> None:
        """These are on the topic too, to be counted like the feed's own."""
        self.beside.extend(sent)

    def _hand_over(self, count: int, kind: str | None = None) -> None:
        with self._lock:
            self._waiting.extend(self._mixer.messages(count, kind))
            self._unacknowledged += count

    def _run(self) -> None:
        try:
            asyncio.run(self._feed())
        except BaseException as failure:
            self._failure = failure
            raise

    async def _feed(self) -> None:
        while not self._ended.is_set():
            # A producer that has lost its broker for long can't go on: its numbers no longer follow.
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id="feed",
                acks="all",
                enable_idempotence=True,
                max_request_size=_LARGEST_REQUEST,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
            )
            try:
                await producer.start()
                await self._produce(producer)
            except (KafkaError, OSError):
                await asyncio.sleep(0.2)
            finally:
                await give_up(producer)

    async def _produce(self, producer: AIOKafkaProducer) -> None:
        """Send until something fails, or the end. What isn't acknowledged then waits to be sent again."""
        under_way: dict[asyncio.Future[Any], Message] = {}
        failed: list[Message] = []

        def done(future: asyncio.Future[Any]) -> None:
            message = under_way.pop(future)
            if future.cancelled() or future.exception() is not None:
                failed.append(message)
            else:
                with self._lock:
                    self._count(message, future.result())

        began, due = time.monotonic(), 0
        codecs = itertools.cycle(CODECS)
        try:
            while not failed and not self._ended.is_set():
                if self._steady.is_set():
                    before, due = due, int((time.monotonic() - began) * self.rate)
                    room = _MOST_UNACKNOWLEDGED - self._unacknowledged
                    self._hand_over(max(min(due - before, room), 0))
                use_codec(producer, next(codecs))
                while self._waiting and len(under_way) < _MOST_UNACKNOWLEDGED and not failed:
                    message = self._waiting[0]
                    future = await producer.send(TOPIC, message.value, message.key)
                    self._waiting.popleft()
                    under_way[future] = message
                    future.add_done_callback(done)
                await asyncio.sleep(_TICK_S)
        finally:
            if failed and under_way:
                await asyncio.wait(list(under_way), timeout=_REQUEST_TIMEOUT_MS / 1_000)
            left = list(under_way.values())
            for future in list(under_way):
                future.remove_done_callback(done)
                future.cancel()
            self._waiting.extendleft(reversed(failed + left))

    def _count(self, message: Message, there: Any) -> None:
        self.sent.append(Sent(there.topic, there.partition, there.offset, message.kind, message.event_id))
        self._unacknowledged -= 1


def use_codec(producer: AIOKafkaProducer, codec: str | None) -> None:
    """Batches that are begun from now on are compressed so. aiokafka itself has one codec per producer."""
    attribute = 0 if codec is None else AIOKafkaProducer._COMPRESSORS[codec][1]
    producer._message_accumulator._compression_type = attribute


async def give_up(producer: AIOKafkaProducer) -> None:
    """Stop it; what it still holds is not waited for, since it is sent again, or given up."""
    with contextlib.suppress(KafkaError, OSError, asyncio.TimeoutError):
        await asyncio.wait_for(producer.stop(), _STOPPED_WITHIN_S)
        return
    if producer._sender is not None:
        await producer._sender.close()
    await producer.client.close()
