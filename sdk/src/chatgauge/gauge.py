"""The face of the library: one `Gauge` for a service, made once, used everywhere."""

import atexit
import os
import weakref
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Never, Self, Unpack

from chatgauge import arguments, config
from chatgauge.buffer import Buffer, Stats
from chatgauge.encoder import Encoder
from chatgauge.failures import FailureTypes
from chatgauge.kafka import KafkaTransport
from chatgauge.notices import Notices, log
from chatgauge.privacy import NAMES_A_PERSON, Pseudonyms
from chatgauge.recorder import Recorder
from chatgauge.request import NO_REQUEST, Request, current_request
from chatgauge.sender import Sender
from chatgauge.span import NO_SPAN, About, Span, current_trace_id
from chatgauge.transport import SAMPLES, Transport

_senders: "weakref.WeakSet[Sender]" = weakref.WeakSet()


class Gauge:
    """Measures a chat service. Make one when the service starts, and keep it.

    Settings that are not given come from the environment (`CHATGAUGE_*`).

    service: the service's name. `CHATGAUGE_SERVICE`.
    instance: which instance of it; `host:pid` by default. `CHATGAUGE_INSTANCE`.
    region: where it runs, of every request and span that doesn't say otherwise. `CHATGAUGE_REGION`.
    kafka: where Kafka is: `"host:port,host:port"`, or a `KafkaConnection`. `CHATGAUGE_KAFKA_*`.
    pseudonym_key: makes user ids pseudonymous; 16 bytes or more, the same in every service that
        shares users. `CHATGAUGE_PSEUDONYM_KEY`.
    attributes: names of the attributes that may be published. `CHATGAUGE_ATTRIBUTES=tier,channel`.
    error_types: types for the service's own exceptions, by class name.
    buffer_bytes: memory for events that wait; 50 MB. `CHATGAUGE_BUFFER_BYTES`.
    exit_timeout: seconds that the process's exit may wait for the last events.
    disabled: measure nothing, at no cost. `CHATGAUGE_DISABLED=1`.
    transport: another way out than Kafka (`chatgauge.testing`).

    Making a gauge raises ConfigurationError when a setting is wrong. After that no call raises,
    and none waits, but for `flush` and `close`, whose business it is.
    """

    def __init__(
        self,
        service: str | None = None,
        *,
        instance: str | None = None,
        region: str | None = None,
        kafka: str | config.KafkaConnection | None = None,
        pseudonym_key: str | bytes | None = None,
        attributes: Collection[str] | None = None,
        error_types: Mapping[str, str] | None = None,
        buffer_bytes: int | None = None,
        exit_timeout: float = 3.0,
        disabled: bool | None = None,
        transport: Transport | None = None,
    ) -> None:
        environment = os.environ
        self._disabled = (
            config.switched_on(environment, "CHATGAUGE_DISABLED") if disabled is None else disabled
        )
        self.notices = Notices()
        """What went wrong without anybody being disturbed."""
        if self._disabled:
            return
        self._exit_timeout = exit_timeout
        self._closed = False
        if transport is None:
            connection = config.kafka_connection(kafka, environment)
            transport = KafkaTransport(connection)
        self._buffer = Buffer(config.buffer_bytes(buffer_bytes, environment))
        encoder = Encoder(
            config.service_name(service, environment),
            instance or environment.get("CHATGAUGE_INSTANCE"),
            config.region_name(region, environment),
            Pseudonyms(pseudonym_key or environment.get("CHATGAUGE_PSEUDONYM_KEY"), self.notices),
            self.notices,
        )
        self._sender = Sender(self._buffer, encoder, transport, self.notices)
        self._recorder = Recorder(
            self._buffer,
            self._sender,
            arguments.AttributeList(config.attribute_names(attributes, environment), self.notices),
            FailureTypes(error_types),
            self.notices,
        )
        _senders.add(self._sender)
        atexit.register(self.close)

    @property
    def disabled(self) -> bool:
        """Whether this gauge measures nothing."""
        return self._disabled

    def request(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        space_id: str | None = None,
        workflow: str | None = None,
        workflow_version: str | None = None,
        region: str | None = None,
        operation: str | None = None,
        conversation_id: str | None = None,
        experiment: str | None = None,
        variant: str | None = None,
        request_id: str | None = None,
        trace_id: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **unknown: Never,
    ) -> Request:
        """A chat request, to be used as a context manager. What is not known yet, `describe` says later.

        provider: who serves the model: openai, anthropic, azure, ...
        model: its name, as the provider spells it.
        user_id: an opaque id; see `pseudonym_key`.
        space_id: the project, team or tenant.
        region: where the request is served; by default the gauge's.
        operation: what is asked of the model, as OpenTelemetry names it: chat, embeddings, ...
        conversation_id: the conversation that the request is a turn of; an opaque id.
        experiment, variant: which variant of which experiment answers.
        request_id: an id of the service's own, unique; made up by default.
        trace_id: the trace to join; by default that of the surrounding span, else a new one.
        """
        if self._disabled:
            return NO_REQUEST
        recorder = self._recorder
        try:
            request = Request(
                recorder,
                request_id=arguments.text(request_id, "request_id", self.notices),
                trace_id=arguments.text(trace_id, "trace_id", self.notices) or current_trace_id(),
            )
            request.describe(
                provider=provider,
                model=model,
                user_id=user_id,
                space_id=space_id,
                workflow=workflow,
                workflow_version=workflow_version,
                region=region,
                operation=operation,
                conversation_id=conversation_id,
                experiment=experiment,
                variant=variant,
                attributes=attributes,
                **unknown,
            )
        except Exception as error:
            recorder.fault(error)
            return NO_REQUEST
        return request

    def span(self, kind: str = "other", name: str = "", **about: Unpack[About]) -> Span:
        """A step of the current request, to be used as a context manager or as a decorator.

        kind: workflow, step, agent, plugin, tool, model or other. What the model spans of a request
        cover is its `model_us`.
        provider, model, operation: of a model call.
        depends_on, links: other spans, as `Span.depends_on` and `Span.link` take them.
        """
        return NO_SPAN if self._disabled else Span(self._recorder, kind, name, about)

    def sample(
        self,
        name: str,
        value: float,
        *,
        state: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **unknown: Never,
    ) -> None:
        """A state of this instance, now: open WebSockets, a queue's depth, a circuit breaker."""
        if self._disabled:
            return
        recorder = self._recorder
        try:
            arguments.refuse(unknown, self.notices)
            written = arguments.text(name, "name", self.notices)
            number = arguments.figure(value, "value", self.notices)
            if written is None or number is None:
                return
            record = {"occurred_at": recorder.wall_ns() // 1000, "name": written, "value": number}
            shown = arguments.text(state, "state", self.notices)
            if shown is not None:
                record["state"] = shown
            if attributes:
                allowed: dict[str, str] = {}
                recorder.attributes.add(allowed, attributes)
                record["attributes"] = arguments.pairs(allowed)
            recorder.note(SAMPLES, record)
        except Exception as error:
            recorder.fault(error)

    def current_request(self) -> Request:
        """The request being measured in this context; outside of one, a request that measures nothing."""
        return current_request()

    def stats(self) -> Stats:
        """What became of the events of this process so far."""
        if self._disabled:
            return Stats()
        return replace(
            self._buffer.stats(),
            invalid=self.notices.total(arguments.INVALID, NAMES_A_PERSON),
            dropped_attributes=self.notices.total(arguments.DROPPED_ATTRIBUTE),
        )

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until what was measured before this call has been sent; False when time ran out.

        It waits: from a coroutine, `await asyncio.to_thread(gauge.flush)`.
        """
        return True if self._disabled else self._sender.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Send what can be sent within `timeout` seconds (`exit_timeout` by default), and stop.

        Returns at most 0.2 seconds later. What has not been acknowledged by then counts as dropped,
        though some of it may have arrived; the log says how much it is. What is measured afterwards
        counts as dropped too. Runs at the interpreter's exit by itself.
        """
        if self._disabled or self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        left = self._sender.close(self._exit_timeout if timeout is None else timeout)
        stats = self._buffer.stats()
        lost = f"{stats.dropped} of {stats.offered} events were dropped, {stats.failed} failed"
        if left:
            log.warning("closed with %d events unsent: Kafka could not be reached in time (%s)", left, lost)
        elif stats.dropped or stats.failed:
            log.warning("closed: %s", lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _after_fork() -> None:
    for sender in list(_senders):
        sender.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
