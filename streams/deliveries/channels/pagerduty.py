"""PagerDuty's Events API v2: an event for each alert, with the alert's id as the incident's key.

A summary has at most 1,024 characters, a key 255. PagerDuty takes some 120 events a minute for a routing
key and answers 429 to more: what it has taken already isn't sent again by the next attempt.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from streams.deliveries.channel import Response
from streams.deliveries.channels.message import Alert, Message, message, shortened
from streams.deliveries.channels.overtaking import Told, overtaken
from streams.deliveries.channels.posting import JSON, Posting, deadline_of, post
from streams.deliveries.client import Answer, DeliveryClient
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict, of_status
from streams.endpoints.endpoint import PAGERDUTY_URL, Endpoint
from streams.endpoints.errors import SecretError
from streams.endpoints.secrets import Vault

_SUMMARY = 1_024
_KEY = 255
_AT_ONCE = 8
_THROTTLED_S = 60.0
_MOST_REMEMBERED = 1_000
_ACTIONS = {"resolved": "resolve", "acknowledged": "acknowledge"}
_SEVERITIES = frozenset({"info", "warning", "error", "critical"})


def events(said: Message, notification_id: str, routing_key: str) -> list[dict[str, Any]]:
    """The events of a message, in the order in which they have to be sent."""
    return [{"routing_key": routing_key, **event} for event in _events(said, notification_id)]


def _events(said: Message, notification_id: str) -> Iterator[dict[str, Any]]:
    if said.alerts:
        yield from map(_of_alert, said.alerts)
        return
    facts = dict(said.facts)
    key = (
        f"endpoint.failing/{facts.get('endpoint_id')}" if said.type == "endpoint.failing" else notification_id
    )
    event: dict[str, Any] = {
        "event_action": "trigger",
        "dedup_key": shortened(key, _KEY),
        "client": "Chatgauge",
        "payload": {
            "summary": shortened(said.title, _SUMMARY),
            "source": "chatgauge",
            "severity": said.severity,
            "class": said.type,
            "custom_details": {**facts, "text": said.text},
        },
    }
    yield _linked(event, said.link)
    if said.type == "endpoint.test":
        yield {"event_action": "resolve", "dedup_key": event["dedup_key"]}


def _of_alert(alert: Alert) -> dict[str, Any]:
    action = _ACTIONS.get(alert.state, "trigger")
    event: dict[str, Any] = {"event_action": action, "dedup_key": shortened(alert.id, _KEY)}
    if action != "trigger":
        return event
    event |= {
        "client": "Chatgauge",
        "payload": {
            "summary": shortened(f"{alert.title}: {alert.summary}", _SUMMARY),
            "source": ", ".join(alert.group.values()) or "chatgauge",
            "severity": alert.severity if alert.severity in _SEVERITIES else "error",
            "timestamp": alert.started_at,
            "group": alert.rule_id,
            "class": alert.metric,
            "custom_details": {
                **dict(alert.facts()),
                **{f"group {key}": v for key, v in alert.group.items()},
            },
        },
    }
    return _linked(event, alert.link)


def _name(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["dedup_key"], event["event_action"]


def _linked(event: dict[str, Any], link: str | None) -> dict[str, Any]:
    if link:
        event |= {"client_url": link, "links": [{"href": link, "text": "Open in Chatgauge"}]}
    return event


def _judged(answer: Answer) -> Verdict:
    # A wrong routing key can be set right, an event that PagerDuty can't read can't.
    if answer.status == 400 and "key" not in answer.text:
        return Verdict.REJECTED
    return of_status(answer.status)


class PagerDutyChannel:
    """Sends events to PagerDuty, or to what understands the same at another URL."""

    def __init__(self, client: DeliveryClient, vault: Vault) -> None:
        self._client = client
        self._vault = vault
        self._told = Told()
        self._taken: OrderedDict[str, set[tuple[str, str]]] = OrderedDict()

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """See `Channel.send`. Delivered once PagerDuty has taken every event of the notification."""
        assert endpoint.credential is not None
        try:
            key = self._vault.decrypt(endpoint.credential.value, endpoint.id)
        except SecretError as error:
            return Response(Verdict.FAILED, error=str(error))
        said = message(notification)
        fresh = self._told.fresh(endpoint.id, said.alerts)
        left_out = len(said.alerts) - len(fresh)
        if left_out and not fresh:
            return Response(Verdict.DELIVERED, request=f"({overtaken(left_out)})")
        pending = events(replace(said, alerts=fresh), notification.notification_id, key)
        name = f"{notification.notification_id}/{notification.redriven}"
        taken = self._taken.setdefault(name, set())
        self._taken.move_to_end(name)
        while len(self._taken) > _MOST_REMEMBERED:
            self._taken.popitem(last=False)
        answers = await self._send_all(endpoint, key, pending, taken, now)
        response = _together(answers, len(pending), len(taken))
        self._told.taken(endpoint.id, (alert for alert in fresh if _name(_of_alert(alert)) in taken))
        if response.verdict is Verdict.DELIVERED:
            self._taken.pop(name, None)
        return response

    async def _send_all(
        self,
        endpoint: Endpoint,
        key: str,
        pending: list[dict[str, Any]],
        taken: set[tuple[str, str]],
        now: float,
    ) -> list[Response]:
        url = endpoint.url or PAGERDUTY_URL
        deadline = deadline_of(endpoint)
        answers: list[Response] = []
        free = asyncio.Semaphore(_AT_ONCE)
        halted = False

        async def send(event: dict[str, Any]) -> None:
            nonlocal halted
            async with free:
                if halted:
                    return
                body = orjson.dumps(event).decode()
                posting = Posting(url, body, JSON, (key,))
                answer = await post(self._client, posting, deadline, now, _judged)
                if answer.verdict is Verdict.DELIVERED:
                    taken.add(_name(event))
                # One that it can't read says nothing about the others; anything else does.
                halted = halted or answer.verdict not in (Verdict.DELIVERED, Verdict.REJECTED)
                answers.append(answer)

        rest = [event for event in pending if _name(event) not in taken]
        if len({event["dedup_key"] for event in rest}) == len(rest):
            async with asyncio.TaskGroup() as tasks:
                for event in rest:
                    tasks.create_task(send(event))
        else:  # of one incident, in their order
            for event in rest:
                await send(event)
        return answers

    async def close(self) -> None:
        """Nothing: the client is shared."""


def _together(answers: list[Response], events_: int, taken: int) -> Response:
    """One response of many: the worst, and how many events were taken."""
    order = (Verdict.FAILED, Verdict.REFUSED, Verdict.GONE, Verdict.REJECTED, Verdict.DELIVERED)
    worst = min(answers, key=lambda answer: order.index(answer.verdict), default=Response(Verdict.DELIVERED))
    if events_ > 1 and worst.verdict is not Verdict.DELIVERED:
        worst = replace(worst, error=f"{taken} of {events_} events taken; {worst.error}")
    if worst.status == 429 and worst.retry_after is None:
        worst = replace(worst, retry_after=_THROTTLED_S)
    return worst
