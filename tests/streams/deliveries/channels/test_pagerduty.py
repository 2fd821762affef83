"""Events for PagerDuty: one per alert, known by the alert's id."""

import asyncio
import json
from typing import Any

import pytest

from streams.deliveries.channels.pagerduty import PagerDutyChannel
from streams.deliveries.client import DeliveryClient
from streams.deliveries.outcome import Verdict
from tests.streams.deliveries.channels.samples import (
    NOW,
    VAULT,
    alert,
    alerts,
    endpoint,
    of_alerts,
    of_failing,
    of_test,
    secret,
)
from tests.streams.deliveries.receivers import Received, Receiver, answer, receiver

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def channel(client: DeliveryClient) -> PagerDutyChannel:
    return PagerDutyChannel(client, VAULT)


def pager(served: Receiver, **fields: Any) -> Any:
    return endpoint("pagerduty", f"{served.url}/v2/enqueue", credential=secret(KEY), **fields)


def events(served: Receiver) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in served.requests]


TAKEN = answer(202, b'{"status":"success"}')


async def test_a_firing_alert_triggers_and_a_resolved_one_resolves_the_same_incident(
    channel: PagerDutyChannel,
) -> None:
    async with receiver(TAKEN) as served:
        fired = await channel.send(pager(served), of_alerts([alert()]), 1, NOW)
        over = of_alerts([alert(state="resolved", transition=3)], "alert.resolved")
        resolved = await channel.send(pager(served), over, 1, NOW)

    trigger, resolve = events(served)
    assert fired.verdict is resolved.verdict is Verdict.DELIVERED
    assert fired.status == 202
    assert trigger["event_action"] == "trigger"
    assert trigger["routing_key"] == KEY
    assert trigger["payload"] == {
        "summary": "Error rate (space_id=s1): 25.3 % of the requests of space s1 failed",
        "source": "s1",
        "severity": "error",
        "timestamp": "2023-11-14T22:10:00.000000Z",
        "group": "error-rate",
        "class": "errors",
        "custom_details": {
            "severity": "error",
            "value": "25.3 %",
            "threshold": "10 %",
            "since": "2023-11-14 22:10:00 UTC",
            "labels": "team=search",
            "group space_id": "s1",
        },
    }
    assert resolve == {"routing_key": KEY, "event_action": "resolve", "dedup_key": trigger["dedup_key"]}
    assert trigger["dedup_key"] == "al_0123456789abcdef0123"
    assert KEY not in fired.request


async def test_a_reminder_triggers_again_and_an_acknowledgement_acknowledges(
    channel: PagerDutyChannel,
) -> None:
    async with receiver(TAKEN) as served:
        await channel.send(pager(served), of_alerts([alert()], "alert.reminder"), 1, NOW)
        taken_over = of_alerts([alert(state="acknowledged")], "alert.acknowledged")
        await channel.send(pager(served), taken_over, 1, NOW)

    assert [event["event_action"] for event in events(served)] == ["trigger", "acknowledge"]


async def test_grouped_alerts_are_an_event_each_some_of_them_resolved(channel: PagerDutyChannel) -> None:
    told = [*alerts(20), alert(state="resolved")]
    async with receiver(TAKEN) as served:
        response = await channel.send(pager(served), of_alerts(told), 1, NOW)

    assert response.verdict is Verdict.DELIVERED
    assert {event["dedup_key"] for event in events(served)} == {each["alert_id"] for each in told}
    assert [event["event_action"] for event in events(served)].count("resolve") == 1


async def test_everything_is_within_the_limits(channel: PagerDutyChannel) -> None:
    async with receiver(TAKEN) as served:
        await channel.send(pager(served), of_alerts([alert(summary="ü" * 5000, severity="odd")]), 1, NOW)

    (event,) = events(served)
    assert len(event["payload"]["summary"]) == 1024
    assert event["payload"]["severity"] == "error"
    assert len(event["dedup_key"]) <= 255
    assert len(served.requests[0].body) < 512_000


async def test_when_it_is_throttled_only_the_rest_comes_again(channel: PagerDutyChannel) -> None:
    taken: list[str] = []

    async def throttling(request: Received, writer: asyncio.StreamWriter) -> None:
        if len(taken) % 50 == 40 and taken[-1] != "throttled":
            await answer(429, b"")(request, writer)
            return
        taken.append(json.loads(request.body)["dedup_key"])
        await TAKEN(request, writer)

    notification = of_alerts(alerts(100))
    async with receiver(throttling) as served:
        first = await channel.send(pager(served), notification, 1, NOW)
        assert first.verdict is Verdict.FAILED
        assert first.retry_after == 60
        assert str(first.error).startswith("40 of 100 events taken")
        taken.append("throttled")
        second = await channel.send(pager(served), notification, 2, NOW + 60)
        taken.append("throttled")
        third = await channel.send(pager(served), notification, 3, NOW + 120)

    assert second.verdict is Verdict.FAILED
    assert third.verdict is Verdict.DELIVERED
    keys = [key for key in taken if key != "throttled"]
    assert sorted(keys) == sorted(each["alert_id"] for each in alerts(100))


async def test_an_event_it_can_t_read_is_rejected_and_a_wrong_key_may_be_set_right(
    channel: PagerDutyChannel,
) -> None:
    unreadable = b'{"status":"invalid event","errors":["payload.severity is wrong"]}'
    wrong_key = b'{"status":"invalid event","errors":["Length of routing_key is incorrect"]}'
    async with receiver(answer(400, unreadable)) as served:
        rejected = await channel.send(pager(served), of_alerts([alert()]), 1, NOW)
        served.answering = answer(400, wrong_key)
        failed = await channel.send(pager(served), of_alerts([alert()]), 1, NOW)

    assert rejected.verdict is Verdict.REJECTED
    assert failed.verdict is Verdict.FAILED


async def test_a_test_opens_an_incident_and_closes_it(channel: PagerDutyChannel) -> None:
    async with receiver(TAKEN) as served:
        await channel.send(pager(served), of_test(), 1, NOW)

    trigger, resolve = events(served)
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"]
    assert trigger["payload"]["severity"] == "info"


async def test_a_failing_endpoint_is_one_incident_however_often_it_is_told(
    channel: PagerDutyChannel,
) -> None:
    async with receiver(TAKEN) as served:
        await channel.send(pager(served), of_failing(), 1, NOW)
        await channel.send(pager(served), of_failing(disabled=True), 1, NOW)

    first, second = events(served)
    assert first["dedup_key"] == second["dedup_key"] == "endpoint.failing/other"
    assert (first["payload"]["severity"], second["payload"]["severity"]) == ("error", "critical")


async def test_all_events_share_the_endpoint_s_time(channel: PagerDutyChannel) -> None:
    async def silent(_request: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with receiver(silent) as served:
        async with asyncio.timeout(15):
            response = await channel.send(pager(served, timeout=0.3), of_alerts(alerts(50)), 1, NOW)

    assert response.verdict is Verdict.FAILED
    assert str(response.error).startswith("0 of 50 events taken")


async def test_what_is_over_is_not_opened_again_by_an_attempt_that_comes_late(
    channel: PagerDutyChannel,
) -> None:
    firing = of_alerts([alert(transition=2), *alerts(1, transition=2)])
    resolved = of_alerts([alert(state="resolved", transition=3)], "alert.resolved")
    async with receiver(answer(503)) as served:
        failed = await channel.send(pager(served), firing, 1, NOW)
        served.answering = TAKEN
        served.requests.clear()
        await channel.send(pager(served), resolved, 1, NOW + 1)
        late = await channel.send(pager(served), firing, 2, NOW + 5)
        nothing = await channel.send(pager(served), of_alerts([alert(transition=2)]), 2, NOW + 5)
        again = await channel.send(pager(served), of_alerts([alert(transition=4)]), 1, NOW + 9)

    assert failed.verdict is Verdict.FAILED
    assert late.verdict is nothing.verdict is again.verdict is Verdict.DELIVERED
    assert [(event["event_action"], event["dedup_key"]) for event in events(served)] == [
        ("resolve", "al_0123456789abcdef0123"),
        ("trigger", "al_00000000000000000000"),
        ("trigger", "al_0123456789abcdef0123"),
    ]
    assert "1 left out" in nothing.request
