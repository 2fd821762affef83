"""A notifier whose worker is killed at any moment, and the Kafka around it: what is durable, what is sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from streams.alerts.rule import RuleBase
from streams.endpoints.endpoint import Endpoint
from streams.notifications.notifier import Notifier, Planned, Terms
from streams.notifications.silence import Acknowledgement, Silence


class KilledError(Exception):
    """The worker is gone."""


class Worker:
    """Takes steps as the agent does: parts, head, records, acknowledgement. `killed_after` says how many of
    these writes still succeed; None: all."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.alerts: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []
        self.decisions: list[dict[str, Any]] = []
        self.killed_after: int | None = None
        self.kills = 0
        self._entries: dict[bytes, bytes] = {}
        self._committed = 0
        self._defined: tuple[
            Mapping[str, RuleBase], Mapping[str, Endpoint], Mapping[str, Silence | Acknowledgement]
        ] = ({}, {}, {})
        self.notifier = Notifier(terms)

    def define(
        self,
        rules: Mapping[str, RuleBase],
        endpoints: Mapping[str, Endpoint],
        silences: Mapping[str, Silence | Acknowledgement],
    ) -> None:
        self._defined = (rules, endpoints, silences)
        self.notifier.define(*self._defined)

    def step(self, most: int, now: int) -> None:
        """Take at most so many alerts of those that are there."""
        batch = self.alerts[self._committed : self._committed + most]
        if not batch:
            return
        end = self._committed + len(batch)
        try:
            skipped = max(0, self.notifier.offset + 1 - self._committed)
            planned = self.notifier.take(batch[skipped:], now, end - 1)
            self._finish(planned)
            self._write()
            self._committed = end
        except KilledError:
            self._restart()

    def tick(self, now: int) -> None:
        try:
            self._finish(self.notifier.tick(now))
        except KilledError:
            self._restart()

    def _finish(self, planned: Planned) -> None:
        commit = self.notifier.commit(planned)
        if commit is None:
            return
        for entries in (commit.parts, commit.head):
            for key, value in entries.items():
                self._write()
                self._entries[key] = value
        self._send(planned)

    def _send(self, planned: Planned) -> None:
        sent: Sequence[tuple[list[dict[str, Any]], tuple[dict[str, Any], ...]]] = (
            (self.notifications, planned.notifications),
            (self.decisions, planned.decisions),
        )
        for topic, records in sent:
            for record in records:
                self._write()
                topic.append(record)

    def _write(self) -> None:
        if self.killed_after is not None:
            if self.killed_after == 0:
                raise KilledError
            self.killed_after -= 1

    def _restart(self) -> None:
        self.killed_after = None
        self.kills += 1
        self.notifier, outbox = Notifier.restore(self._terms, self._entries)
        self.notifier.define(*self._defined)
        self._send(outbox)
