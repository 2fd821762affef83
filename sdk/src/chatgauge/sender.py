"""The background thread: gathers, encodes, delivers, tries again.

A step: take what each lane has (what is under way first) -> encode it -> hand it to the transport
-> settle what was sent or refused -> keep the rest under way. A lane whose events could not be sent
is left alone for a while, longer each time. Lanes are independent: a topic that can't be written
to holds back its own events only.
"""

import logging
import random
import threading
import time
from dataclasses import replace

from chatgauge.buffer import Buffer, Lane
from chatgauge.encoder import UNENCODABLE, Encoder
from chatgauge.notices import Notices
from chatgauge.transport import SAMPLES, Delivery, EncodedMessage, Transport

log = logging.getLogger("chatgauge")

DROPPED = "events were dropped: the buffer is full, because Kafka is away or too slow"
UNDELIVERABLE = "events can't be delivered and wait in the buffer"
REFUSED = "an event was refused by Kafka"
BROKEN = "the transport failed unexpectedly"
RECOVERED = "events are delivered again"

_LINGER_S = 0.05
_MOST_AT_ONCE = 4000
_SLICE = 32
_BREATH_S = 0.0001
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_LONGEST_WATCHED_WAIT_S = 0.25
_MOST_UNEXPECTED = 60


class Sender:
    """Sends what the buffer takes. The thread starts with the first event, and again after a fork."""

    def __init__(self, buffer: Buffer, encoder: Encoder, transport: Transport, notices: Notices) -> None:
        self._buffer = buffer
        self._encoder = encoder
        self._transport = transport
        self._notices = notices
        self._renew()

    def _renew(self) -> None:
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._progress = threading.Condition()
        self._flushing = 0
        self._closing = False
        self._stopped = False
        self._unexpected = 0
        self._undelivered = False

    def after_fork(self) -> None:
        """Begin anew in a forked child. The parent sends what it had; the child has nothing yet."""
        closed = self._closing
        self._buffer.reset()
        self._notices.reset()
        self._encoder.renew()
        self._transport.abandon()
        self._renew()
        if closed:
            self._buffer.shut()
            self._closing = self._stopped = True

    def nudge(self) -> None:
        """There is something to do. Cheap, and never waits once the thread is there."""
        if self._thread is None:
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was accepted before this call is settled; False when time ran out."""
        if self._thread is None or threading.current_thread() is self._thread:
            return self._buffer.stats().queued == 0
        targets = [(lane, lane.accepted) for lane in self._buffer.lanes.values()]
        with self._progress:
            self._flushing += 1
            self._urgent.set()
            self._wake.set()
            try:
                return self._progress.wait_for(
                    lambda: all(lane.settled >= at for lane, at in targets), timeout
                )
            finally:
                self._flushing -= 1

    def close(self, timeout: float) -> int:
        """Send what can be sent in time, stop the thread; returns how many events were left behind."""
        deadline = time.monotonic() + timeout
        self._buffer.shut()
        self._closing = True
        self.flush(timeout)
        left = self._buffer.give_up()
        self._tell_progress()
        self._stopped = True
        self._urgent.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - time.monotonic()) + 0.2)
        return left

    def _start(self) -> None:
        # A second caller does not wait for the first: its event is in the buffer already.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="chatgauge-sender", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError:  # the interpreter is shutting down: no new threads
            self._stopped = True
        finally:
            self._starting.release()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(self._until_due())
            if not self._closing:
                self._urgent.wait(_LINGER_S)
            self._wake.clear()
            if self._urgent.is_set():
                self._urgent.clear()
                for lane in self._buffer.lanes.values():
                    lane.retry_at = 0.0
            try:
                self._send_due()
            except Exception:  # a fault of ours must end neither the thread nor the service
                log.exception("the sending thread failed and goes on")
                self._urgent.wait(_LONGEST_WAIT_S)
        self._transport.close()

    def _until_due(self) -> float | None:
        """Seconds until a lane with events may be tried; None when there are no events."""
        waiting = [lane.retry_at for lane in self._buffer.lanes.values() if lane.noted or lane.under_way]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _send_due(self) -> None:
        """Send until every lane is empty, or has to be left alone for a while."""
        while not self._stopped:
            now = time.monotonic()
            due = [lane for lane in self._buffer.lanes.values() if lane.retry_at <= now]
            messages = [message for lane in due for message in self._next(lane)]
            self._notices.write()
            if not messages:
                return
            delivery = self._deliver(messages)
            self._settle(delivery)
            if delivery.sent:
                self._report_drops()
            self._report_trouble(delivery)

    def _report_trouble(self, delivery: Delivery) -> None:
        if delivery.unsent:
            self._undelivered = True
            self._notices.count(UNDELIVERABLE, delivery.reason)
        elif self._undelivered and not any(lane.under_way for lane in self._buffer.lanes.values()):
            self._undelivered = False
            log.info(RECOVERED)

    def _next(self, lane: Lane) -> list[EncodedMessage]:
        """What the lane has to send: what is under way, filled up with newly encoded events."""
        encoded = 0
        while len(lane.under_way) < _MOST_AT_ONCE and (taken := self._buffer.take(lane)):
            record, charge = taken
            message = self._encoder.message(lane.topic, record, charge)
            if message is None:
                self._buffer.settle(lane, charge=charge, failed=1)
                self._tell_progress()
            else:
                lane.under_way.append(message)
            encoded += 1
            if encoded % _SLICE == 0 and not self._buffer.crowded:
                time.sleep(_BREATH_S)  # let the service's threads have the interpreter
        return lane.under_way

    def _deliver(self, messages: list[EncodedMessage]) -> Delivery:
        try:
            delivery = self._transport.deliver(messages)
        except Exception as error:  # a bug, here or in a library: not a broker that is away
            if not self._unexpected:
                log.exception(BROKEN)
            self._unexpected += 1
            reason = f"{BROKEN}: {type(error).__name__}"
            if self._unexpected < _MOST_UNEXPECTED:
                return Delivery(unsent=messages, reason=reason)
            delivery = Delivery(refused=messages, reason=reason)
        self._unexpected = 0
        return delivery

    def _settle(self, delivery: Delivery) -> None:
        for topic, lane in self._buffer.lanes.items():
            sent = [m for m in delivery.sent if m.topic == topic]
            refused = [m for m in delivery.refused if m.topic == topic]
            unsent = [m for m in delivery.unsent if m.topic == topic]
            if not (sent or refused or unsent):
                continue
            own = sum(message.own for message in (*sent, *refused))
            lane.under_way = unsent
            self._postpone(lane, progress=bool(sent or refused))
            self._buffer.settle(
                lane,
                charge=sum(message.charge for message in (*sent, *refused)),
                sent=sum(not message.own for message in sent),
                failed=sum(not message.own for message in refused),
                own=own,
            )
        for _ in delivery.refused:
            self._notices.count(REFUSED, delivery.reason)
        self._tell_progress()

    def _postpone(self, lane: Lane, *, progress: bool) -> None:
        if not lane.under_way:
            lane.retry_at = lane.pause = 0.0
            return
        longest = _LONGEST_WATCHED_WAIT_S if self._closing or self._flushing else _LONGEST_WAIT_S
        lane.pause = _SHORTEST_WAIT_S if progress else min(max(2 * lane.pause, _SHORTEST_WAIT_S), longest)
        lane.retry_at = time.monotonic() + lane.pause * random.uniform(0.8, 1.2)  # noqa: S311  jitter

    def _tell_progress(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def _report_drops(self) -> None:
        """Kafka is there: tell it how many events it will never see."""
        drops = self._buffer.unreported_drops()
        if not drops:
            return
        record = {
            "occurred_at": time.time_ns() // 1000,
            "name": "sdk_dropped_events",
            "value": float(drops),
        }
        message = self._encoder.message(SAMPLES, record, 0)
        if message is not None:
            self._buffer.admit(replace(message, own=True))


__all__ = ["BROKEN", "DROPPED", "REFUSED", "UNDELIVERABLE", "UNENCODABLE", "Sender"]
