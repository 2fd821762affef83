"""From closed panes to webhooks: the alert and delivery workers as processes, which are killed meanwhile."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infra.settings import ClickHouseSettings
from schemas.time import MINUTE, micros_of
from schemas.topics import ENDPOINTS, RULES, Topic
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher
from tests.end_to_end.parts import Parts
from tests.end_to_end.webhooks import Webhooks
from tests.streams.alerts.source import Source
from tests.streams.broker import Broker, wait_until

pytestmark = pytest.mark.timeout(400)

PARTITIONS = 2
ZONE = ZoneInfo("Asia/Kolkata")
"""Half an hour off: its days begin when none of UTC's hours does."""


@pytest.fixture(scope="module")
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    return Broker(fresh_kafka)


@pytest.fixture
def parts(broker: Broker, database: ClickHouseSettings, tmp_path: Path) -> Parts:
    """ClickHouse is there, and knows of no past."""
    return Parts.of(
        tmp_path,
        broker.bootstrap,
        PARTITIONS,
        database,
        CHATGAUGE_WINDOWS_TIMEZONE=ZONE.key,
        CHATGAUGE_ALERTS_TOO_LATE="P3D",
        CHATGAUGE_NOTIFICATIONS_GROUP_INTERVAL="PT1S",
    )


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with Webhooks() as server:
        yield server


def define(broker: Broker, topic: Topic, *definitions: Mapping[str, Any]) -> None:
    async def publish() -> None:
        publisher = DefinitionPublisher(broker.bootstrap)
        for each in definitions:
            await publisher.publish(topic, Definition(each["id"], 1, False, 0, "a test", each))
        await publisher.stop()

    asyncio.run(publish())


def endpoint(id_: str, url: str, **subscription: Any) -> dict[str, Any]:
    wanted = {"types": ["alert.*"], **subscription}
    return {"id": id_, "channel": "webhook", "url": f"{url}/{id_}", "subscriptions": [wanted]}


def test_a_daily_budget_is_told_of_once_a_step_across_kills_and_rebalances_and_begins_anew_at_midnight(
    broker: Broker, parts: Parts, webhooks: Webhooks
) -> None:
    budget = {
        "id": "tokens-a-day",
        "name": "Tokens a day",
        "kind": "budget",
        "severity": "warning",
        "metric": "tokens",
        "grouping": "user",
        "period": "day",
        "limit": "1000 tokens",
        "steps": ["80 %", "100 %"],
    }
    define(broker, RULES, budget)
    define(broker, ENDPOINTS, endpoint("spending", webhooks.url, rules=["tokens-a-day"]))
    midnight = (datetime.now(ZONE) - timedelta(hours=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    source = Source(broker, PARTITIONS, micros_of(midnight) - 5 * MINUTE, by="user_id")

    def spend(tokens: int) -> None:
        """Of one user, in the next minute, half of it in each source partition; and a little of another."""
        source.close({"spender": 1, "saver": 0}, prompt_tokens=tokens // PARTITIONS, completion_tokens=0)
        broker.wait_until_acknowledged("chatgauge-alerts", "chat.closed")

    def steps() -> list[float]:
        return [alert["step"] for hook in webhooks.at("/spending") for alert in hook.alerts]

    with parts.worker("deliveries"), ExitStack() as running:
        first = running.enter_context(parts.worker("alerts"))
        spend(500)
        spend(350)
        wait_until("80 % is told", lambda: steps() == [0.8])
        first.send_signal(signal.SIGKILL)
        spending_goes_on = running.enter_context(parts.worker("alerts"))
        spend(200)
        wait_until("100 % is told", lambda: steps() == [0.8, 1.0])
        running.enter_context(parts.worker("alerts"))
        for _ in range(2):
            spend(300)  # up to midnight, and nothing more to tell
        spend(850)
        wait_until("the new day's 80 % is told", lambda: len(steps()) > 2)
        assert spending_goes_on.poll() is None
        broker.wait_until_acknowledged("chatgauge-deliveries", "chat.notifications")

    assert steps() == [0.8, 1.0, 0.8]
    told = [alert for hook in webhooks.at("/spending") for alert in hook.alerts]
    assert {alert["group"]["user_id"] for alert in told} == {"spender"}
    assert told[0]["alert_id"] == told[1]["alert_id"] != told[2]["alert_id"]
    assert datetime.fromisoformat(told[2]["window"]["end"]) == midnight.astimezone(UTC) + timedelta(minutes=1)


def test_a_thousand_groups_that_cross_at_once_are_told_together_and_none_is_left_out(
    broker: Broker, parts: Parts, webhooks: Webhooks
) -> None:
    names = [f"service-{number:04}" for number in range(1_000)]
    rule = {
        "id": "storm",
        "name": "Storm",
        "kind": "threshold",
        "severity": "error",
        "metric": "requests",
        "aggregation": "sum",
        "grouping": "service",
        "window": "1m",
        "operator": ">=",
        "threshold": 2,
        "consecutive": 1,
    }
    define(broker, RULES, rule)
    define(broker, ENDPOINTS, *(endpoint(f"storm-{n}", webhooks.url, rules=["storm"]) for n in range(3)))
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    source = Source(broker, PARTITIONS, micros_of(now) - 5 * MINUTE)

    def told(path: str) -> Counter[str]:
        return Counter(alert["group"]["service"] for hook in webhooks.at(path) for alert in hook.alerts)

    with parts.worker("alerts"), parts.worker("deliveries"):
        source.close(dict.fromkeys(names, 1))  # one in each source partition
        for number in range(3):
            path = f"/storm-{number}"
            wait_until("all are told of", lambda path=path: len(told(path)) == len(names))

    for number in range(3):
        hooks = webhooks.at(f"/storm-{number}")
        assert told(f"/storm-{number}") == Counter(names), "each once"
        assert max(len(hook.alerts) for hook in hooks) <= 200
        # Five would hold them all; each partition of chat.closed is judged by itself, and may come later.
        assert len(hooks) <= 5 + PARTITIONS, "a few notifications, not a thousand"
