"""Forwards alerts to Alertmanager (`POST /api/v2/alerts`), which groups and routes them by its own rules.

To Alertmanager an alert is its labels: the rule's name as `alertname`, the severity, the group's keys and the
rule's labels, in that order where names collide. A firing alert is sent with an end a week ahead, so that
Alertmanager doesn't take it for over while nothing changes; the resolved one ends when it ended.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from streams.deliveries.channel import Response
from streams.deliveries.channels.message import Alert, Message, message
from streams.deliveries.channels.overtaking import Told, overtaken
from streams.deliveries.channels.posting import Posting, deadline_of, post
from streams.deliveries.client import DeliveryClient
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict
from streams.endpoints.endpoint import Endpoint
from streams.endpoints.errors import SecretError
from streams.endpoints.secrets import Vault

_PATH = "/api/v2/alerts"
_FIRING_S = 7 * 24 * 3600.0
_EVENT_S = 300.0
_NAMES = {"endpoint.failing": "ChatgaugeEndpointFailing", "endpoint.test": "ChatgaugeTest"}


def label_name(name: str) -> str:
    """A valid label name: letters, digits and underscores, no digit and no `__` in front."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    name = re.sub(r"^__+", "_", name)
    return f"_{name}" if not name or name[0].isdigit() else name


def payload(said: Message, now: float) -> list[dict[str, Any]]:
    """The alerts as Alertmanager takes them; `now` in seconds since 1970."""
    if said.alerts:
        return [_of_alert(alert, now) for alert in said.alerts]
    name = _NAMES.get(said.type, "Chatgauge" + "".join(part.title() for part in said.type.split(".")))
    facts = dict(said.facts)
    identity = [(fact, facts[fact]) for fact in ("endpoint_id", "name", "service", "kind") if fact in facts]
    return [
        {
            "labels": _labels([("alertname", name), ("severity", said.severity), *identity]),
            "annotations": _annotations({"summary": said.title, "description": said.text}),
            "startsAt": _instant(now),
            "endsAt": _instant(now + _EVENT_S),
            **({"generatorURL": said.link} if said.link else {}),
        }
    ]


def _of_alert(alert: Alert, now: float) -> dict[str, Any]:
    names = [("alertname", alert.rule), ("severity", alert.severity), ("rule_id", alert.rule_id)]
    ends = max(alert.changed_at, alert.started_at) if alert.resolved else _instant(now + _FIRING_S)
    return {
        "labels": _labels([*names, *alert.group.items(), *alert.labels.items()]),
        "annotations": _annotations(
            {"summary": alert.summary or alert.title, "alert_id": alert.id, **dict(alert.facts())}
        ),
        "startsAt": alert.started_at,
        "endsAt": ends,
        **({"generatorURL": alert.link} if alert.link else {}),
    }


def _labels(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for name, value in pairs:
        if value:
            labels.setdefault(label_name(name), value)
    return labels


def _annotations(pairs: Mapping[str, str]) -> dict[str, str]:
    return _labels((name, value) for name, value in pairs.items() if name != "severity")


def _instant(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class AlertmanagerChannel:
    """Posts alerts to an Alertmanager."""

    def __init__(self, client: DeliveryClient, vault: Vault) -> None:
        self._client = client
        self._vault = vault
        self._told = Told()

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """See `Channel.send`."""
        assert endpoint.url is not None
        try:
            credential = endpoint.credential and self._vault.decrypt(endpoint.credential.value, endpoint.id)
        except SecretError as error:
            return Response(Verdict.FAILED, error=str(error))
        said = message(notification)
        fresh = self._told.fresh(endpoint.id, said.alerts)
        left_out = len(said.alerts) - len(fresh)
        note = overtaken(left_out) if left_out else None
        if said.alerts and not fresh:
            return Response(Verdict.DELIVERED, request=f"({note})")
        url = endpoint.url.rstrip("/")
        url = url if url.endswith(_PATH) else url + _PATH
        posting = Posting(
            url,
            orjson.dumps(payload(replace(said, alerts=fresh), now)).decode(),
            {
                **endpoint.headers,
                "Content-Type": "application/json",
                **({"Authorization": credential} if credential else {}),
            },
            (credential,) if credential else (),
            note,
        )
        response = await post(self._client, posting, deadline_of(endpoint), now)
        if response.verdict is Verdict.DELIVERED:
            self._told.taken(endpoint.id, fresh)
        return response

    async def close(self) -> None:
        """Nothing: the client is shared."""
