"""For a service's own tests: a gauge whose events stay in memory, to be looked at.

    gauge, captured = chatgauge.testing.capture()
    answer(question, gauge)
    (request,) = captured.finished_requests()
    assert request["completion_tokens"] == 96

Events take the ordinary way: buffered, made pseudonymous, encoded by the background thread, and
decoded again. What a test sees is what Kafka would have got.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chatgauge.gauge import Gauge
from chatgauge.transport import REQUESTS, SAMPLES, SPANS, Delivery, EncodedMessage
from chatgauge.wire import record_type


class CaptureTransport:
    """Keeps the messages. Set `away` to a reason, and nothing gets through until it is None again."""

    def __init__(self) -> None:
        self.away: str | None = None
        self.messages: list[EncodedMessage] = []

    def deliver(self, messages: Sequence[EncodedMessage]) -> Delivery:
        if self.away is not None:
            return Delivery(unsent=list(messages), reason=self.away)
        self.messages.extend(messages)
        return Delivery(sent=list(messages))

    def close(self) -> None:
        """There is nothing to give back."""

    def abandon(self) -> None:
        self.messages = []


class Captured:
    """What a gauge has sent, as dicts with the fields of the record types, in order."""

    def __init__(self, gauge: Gauge, transport: CaptureTransport) -> None:
        self._gauge = gauge
        self.transport = transport

    def requests(self) -> list[dict[str, Any]]:
        """Starts and finishes of requests."""
        return self._records(REQUESTS)

    def finished_requests(self) -> list[dict[str, Any]]:
        """The requests that have finished, well or badly."""
        return [record for record in self.requests() if record["phase"] == "finished"]

    def spans(self) -> list[dict[str, Any]]:
        """Starts and finishes of spans."""
        return self._records(SPANS)

    def finished_spans(self) -> list[dict[str, Any]]:
        """The spans that have finished, innermost first."""
        return [record for record in self.spans() if record["phase"] == "finished"]

    def samples(self) -> list[dict[str, Any]]:
        """The samples."""
        return self._records(SAMPLES)

    def clear(self) -> None:
        """Forget what was captured so far."""
        self._gauge.flush()
        self.transport.messages.clear()

    def _records(self, topic: str) -> list[dict[str, Any]]:
        self._gauge.flush()
        values = [message.value for message in self.transport.messages if message.topic == topic]
        return [record_type(topic).decode(value) for value in values]


def capture(
    service: str = "test",
    *,
    instance: str | None = "test",
    region: str | None = None,
    pseudonym_key: str | bytes | None = None,
    attributes: Collection[str] | None = None,
    error_types: Mapping[str, str] | None = None,
    buffer_bytes: int | None = None,
) -> tuple[Gauge, Captured]:
    """A gauge that needs no Kafka, and what it sends. The arguments are those of `Gauge`."""
    transport = CaptureTransport()
    gauge = Gauge(
        service,
        instance=instance,
        region=region,
        pseudonym_key=pseudonym_key,
        attributes=attributes,
        error_types=error_types,
        buffer_bytes=buffer_bytes,
        disabled=False,
        transport=transport,
    )
    return gauge, Captured(gauge, transport)
