"""What holds notifications back, by the notifier's own rules: by what people have set up, and what fires."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo
from typing import TypeVar

from api.alerting.opened import OpenAlerts
from api.definitions.store import DefinitionReader
from api.models.alerts import HeldBack
from schemas.time import Micros
from schemas.topics import ENDPOINTS, RULES, SILENCES
from streams.alerts.errors import RuleError
from streams.alerts.rule import parse_rule
from streams.definitions.definition import Definition
from streams.endpoints.endpoint import Endpoint, parse_endpoint
from streams.endpoints.errors import EndpointError
from streams.notifications.body import alert_item
from streams.notifications.errors import SilenceError
from streams.notifications.routing import ALERT_FIRING
from streams.notifications.setup import Holding, Setup
from streams.notifications.silence import parse_silence
from streams.notifications.transition import Transition

_log = logging.getLogger(__name__)
T = TypeVar("T")


class PresentSetup:
    """Rules, endpoints and silences as they are now; what can't be read is left out, and logged once."""

    def __init__(self, readers: Mapping[str, DefinitionReader], zone: tzinfo = UTC) -> None:
        self._readers = readers
        self._zone = zone
        self._known: tuple[list[tuple[Definition, ...]], Setup] | None = None

    def __call__(self) -> Setup:
        """As the notifier takes it."""
        present = [tuple(self._readers[topic.name].items.values()) for topic in (RULES, ENDPOINTS, SILENCES)]
        if self._known is None or not _same(self._known[0], present):
            rules, endpoints, silences = present
            self._known = (
                present,
                Setup(
                    _read(rules, lambda each: parse_rule(each.definition)),
                    self.endpoints_of(endpoints),
                    _read(silences, lambda each: parse_silence(each.definition)),
                    self._zone,
                ),
            )
        return self._known[1]

    @staticmethod
    def endpoints_of(definitions: tuple[Definition, ...]) -> dict[str, Endpoint]:
        """Those that can be read, by id."""
        return _read(definitions, lambda each: parse_endpoint(each.definition))


class HeldBackNow:
    """What holds each alert back at one moment."""

    def __init__(self, setup: Setup, alerts: OpenAlerts, now: Micros) -> None:
        self._setup = setup
        self._holding = Holding(setup, alerts.firing, now)

    def of(self, transition: Transition | None) -> HeldBack | None:
        """Why nobody is notified of an alert that fires; None when somebody is, or it doesn't fire."""
        if transition is None:
            return None
        hold = self._holding.of(transition)
        if hold is not None:
            return HeldBack(what=hold.what, reason=hold.reason, by=hold.by or None)
        if not self._setup.routing.takers(ALERT_FIRING, transition, alert_item(transition, "")):
            return HeldBack(
                what="unmatched", reason="no endpoint subscribes to it: see /api/endpoints", by=None
            )
        return None


def _read(definitions: tuple[Definition, ...], parse: Callable[[Definition], T]) -> dict[str, T]:
    found = {}
    for definition in definitions:
        try:
            found[definition.id] = parse(definition)
        except (RuleError, EndpointError, SilenceError) as error:
            _log.error("%s can't be read, and is left out: %s", definition.id, error)
    return found


def _same(one: list[tuple[Definition, ...]], other: list[tuple[Definition, ...]]) -> bool:
    # Definitions are replaced, never changed: the same objects are the same definitions.
    return all(
        len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )
