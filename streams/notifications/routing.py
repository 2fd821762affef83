"""Who is told: the endpoints whose subscriptions mean an alert."""

from collections.abc import Mapping
from typing import Any, Final

from streams.endpoints.endpoint import Endpoint
from streams.notifications.transition import FIRING, RESOLVED, Transition

ALERT_FIRING: Final = "alert.firing"
ALERT_RESOLVED: Final = "alert.resolved"
ALERT_REMINDER: Final = "alert.reminder"

TYPES: Final = {FIRING: ALERT_FIRING, RESOLVED: ALERT_RESOLVED}
"""The type of notification that tells of an alert in this state."""

_MOST_REMEMBERED: Final = 100_000


class Routing:
    """The endpoints there are, disabled ones included: what they miss is parked, and can be redriven.

    Most subscriptions look at what all alerts of a rule have in common; for those the answer is remembered.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = dict(endpoints)
        self._alike = {
            id_: not any(subscription.filters for subscription in endpoint.subscriptions)
            for id_, endpoint in endpoints.items()
        }
        self._particular = [id_ for id_, alike in self._alike.items() if not alike]
        self._answers: dict[tuple[str, ...], bool] = {}
        self._takers: dict[tuple[str, ...], list[str]] = {}

    def __contains__(self, endpoint_id: object) -> bool:
        return endpoint_id in self._endpoints

    def takers(self, type_: str, heard: Transition, data: Mapping[str, Any]) -> list[str]:
        """The ids of the endpoints that are to be told; `data` is the alert as bodies have it."""
        question = _question(type_, heard)
        alike = self._takers.get(question)
        if alike is None:
            _bound(self._takers)
            alike = self._takers[question] = [
                id_ for id_ in self._endpoints if self._alike[id_] and self.takes(id_, type_, heard, data)
            ]
        return alike + [id_ for id_ in self._particular if self.takes(id_, type_, heard, data)]

    def takes(self, endpoint_id: str, type_: str, heard: Transition, data: Mapping[str, Any]) -> bool:
        """Whether the endpoint, if it is there, is to be told of this."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return False
        if not self._alike[endpoint_id]:
            return endpoint.wants(type_, data)
        question = (endpoint_id, *_question(type_, heard))
        answer = self._answers.get(question)
        if answer is None:
            _bound(self._answers)
            answer = self._answers[question] = endpoint.wants(type_, data)
        return answer


def _question(type_: str, heard: Transition) -> tuple[str, ...]:
    return (type_, heard.severity, heard.rule_id, *heard.labels)


def _bound(remembered: dict[tuple[str, ...], Any]) -> None:
    if len(remembered) >= _MOST_REMEMBERED:
        remembered.clear()
