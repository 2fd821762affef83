"""Alerts for Alertmanager: as it takes them, and as Debian's own takes them."""

import asyncio
import json
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from infra.ports import free_port
from streams.deliveries.channels.alertmanager import AlertmanagerChannel, label_name, payload
from streams.deliveries.channels.message import message
from streams.deliveries.client import DeliveryClient
from streams.deliveries.outcome import Verdict
from tests.streams.deliveries.channels.samples import (
    NASTY,
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
from tests.streams.deliveries.receivers import Receiver, receiver

UNPACKED = Path(__file__).parents[4] / "var/lib/alertmanager"
PROGRAM = "usr/bin/prometheus-alertmanager"


@pytest.fixture
def channel(client: DeliveryClient) -> AlertmanagerChannel:
    return AlertmanagerChannel(client, VAULT)


def test_an_alert_is_its_labels_and_ends_in_a_week() -> None:
    (made,) = payload(message(of_alerts([alert()])), NOW)

    assert made == {
        "labels": {
            "alertname": "Error rate",
            "severity": "error",
            "rule_id": "error-rate",
            "space_id": "s1",
            "team": "search",
        },
        "annotations": {
            "summary": "25.3 % of the requests of space s1 failed",
            "alert_id": "al_0123456789abcdef0123",
            "value": "25.3 %",
            "threshold": "10 %",
            "since": "2023-11-14 22:10:00 UTC",
            "labels": "team=search",
        },
        "startsAt": "2023-11-14T22:10:00.000000Z",
        "endsAt": "2023-11-21T22:13:20.500Z",
        "generatorURL": "https://chatgauge.example/events?alert=al_0123456789abcdef0123&transition=2",
    }


def test_a_resolved_alert_has_the_same_labels_and_has_ended() -> None:
    (firing,) = payload(message(of_alerts([alert()])), NOW)
    over = message(of_alerts([alert(state="resolved", value=0.01, transition=3)], "alert.resolved"))
    (resolved,) = payload(over, NOW)

    assert resolved["labels"] == firing["labels"]
    assert resolved["endsAt"] == "2023-11-14T22:12:00.000000Z"


def test_an_alert_never_ends_before_it_starts() -> None:
    told = alert(state="resolved", changed_at=alert()["started_at"] - 1_000_000)
    (made,) = payload(message(of_alerts([told], "alert.resolved")), NOW)

    assert made["endsAt"] == made["startsAt"]


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("space_id", "space_id"),
        ("a.b-c", "a_b_c"),
        ("9lives", "_9lives"),
        ("__name__", "_name__"),
        ("ä", "_"),
        ("", "_"),
    ],
)
def test_label_names_are_made_valid(name: str, valid: str) -> None:
    assert label_name(name) == valid
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", valid)


def test_a_label_of_the_rule_can_t_hide_what_the_alert_is() -> None:
    told = alert(labels=["alertname=other", "severity=none", "space_id=other", "space-id=other", "empty="])
    (made,) = payload(message(of_alerts([told])), NOW)

    assert made["labels"] == {
        "alertname": "Error rate",
        "severity": "error",
        "rule_id": "error-rate",
        "space_id": "s1",
    }


async def test_grouped_alerts_are_one_request(channel: AlertmanagerChannel) -> None:
    async with receiver() as served:
        sent = endpoint("alertmanager", f"{served.url}/prefix/", credential=secret("Basic Z2VoZWlt"))
        response = await channel.send(sent, of_alerts(alerts(200)), 1, NOW)

    (request,) = served.requests
    assert response.verdict is Verdict.DELIVERED
    assert request.target == "/prefix/api/v2/alerts"
    assert request.headers["authorization"] == "Basic Z2VoZWlt"
    assert "Z2VoZWlt" not in response.request
    assert len(json.loads(request.body)) == 200


async def test_what_is_over_does_not_fire_again_by_an_attempt_that_comes_late(
    channel: AlertmanagerChannel,
) -> None:
    firing = of_alerts([alert(transition=2), *alerts(1, transition=2)])
    resolved = of_alerts([alert(state="resolved", transition=3)], "alert.resolved")
    async with receiver() as served:
        sent = endpoint("alertmanager", served.url)
        await channel.send(sent, resolved, 1, NOW)
        late = await channel.send(sent, firing, 2, NOW)
        nothing = await channel.send(sent, of_alerts([alert(transition=2)]), 2, NOW)

    told = [[each["labels"]["space_id"] for each in json.loads(request.body)] for request in served.requests]
    assert told == [["s1"], ["space-0"]]
    assert "(1 left out" in late.request
    assert nothing.verdict is Verdict.DELIVERED


class Running:
    """An Alertmanager, and the webhook that it notifies."""

    def __init__(self, url: str, told: Receiver) -> None:
        self.url = url
        self._told = told

    async def active(self) -> list[dict[str, Any]]:
        """What is firing, as it says."""

        def ask() -> list[dict[str, Any]]:
            with urlopen(f"{self.url}/api/v2/alerts", timeout=5) as answered:
                found: list[dict[str, Any]] = json.load(answered)
                return found

        return await asyncio.to_thread(ask)

    async def notified(self, status: str) -> dict[str, Any]:
        """Its first notification of this status."""
        async with asyncio.timeout(15):
            while True:
                for request in self._told.requests:
                    said: dict[str, Any] = json.loads(request.body)
                    if said["status"] == status:
                        return said
                await asyncio.sleep(0.02)


CONFIG = """\
route: {receiver: test, group_by: ["..."], group_wait: 1ms, group_interval: 100ms, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: "%s", send_resolved: true}]}]
"""


def command() -> tuple[list[str], Path]:
    """How to start it, and the folder that it sees as its root."""
    if (Path("/") / PROGRAM).exists():
        return [f"/{PROGRAM}"], Path("/")
    if not (UNPACKED / PROGRAM).exists():
        pytest.skip("make install has found no Debian package of Alertmanager")
    # Debian's build looks for its templates under /usr/share.
    root = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    return [*root, "chroot", str(UNPACKED), f"/{PROGRAM}"], UNPACKED


async def started(running: Running, process: asyncio.subprocess.Process, log: Path) -> None:
    """Returns once it answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                await running.active()
            except OSError:
                assert process.returncode is None, await asyncio.to_thread(log.read_text)
                await asyncio.sleep(0.02)
            else:
                return


@pytest.fixture
async def alertmanager(tmp_path: Path) -> AsyncIterator[Running]:
    """Debian's Alertmanager."""
    program, root = command()
    log = tmp_path / "log"
    with tempfile.TemporaryDirectory(dir=root / "tmp") as folder:
        inside = f"/{Path(folder).relative_to(root)}"
        async with receiver() as told:
            (Path(folder) / "alertmanager.yml").write_text(CONFIG % told.url)
            port = free_port()
            running = Running(f"http://127.0.0.1:{port}", told)
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *program,
                    f"--config.file={inside}/alertmanager.yml",
                    f"--storage.path={inside}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--cluster.listen-address=",
                    stdout=output,
                    stderr=output,
                )
            try:
                await started(running, process, log)
                yield running
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def test_debian_s_alertmanager_takes_what_fires_and_lets_it_go(
    channel: AlertmanagerChannel, alertmanager: Running
) -> None:
    now = time.time()
    started = int((now - 60) * 1e6)
    fields = {"started_at": started, "labels": ["team=search", f"nasty-label.9={NASTY}"], "summary": NASTY}
    sent = endpoint("alertmanager", alertmanager.url)

    fired = await channel.send(sent, of_alerts([alert(**fields), *alerts(3, **fields)]), 1, now)
    active = await alertmanager.active()
    firing = await alertmanager.notified("firing")

    assert (fired.verdict, fired.status, fired.error) == (Verdict.DELIVERED, 200, None)
    assert {each["labels"]["space_id"] for each in active} == {"s1", "space-0", "space-1", "space-2"}
    assert all(each["labels"]["alertname"] == "Error rate" for each in active)
    assert all(datetime.fromisoformat(each["endsAt"]).timestamp() > now + 6 * 86_400 for each in active)
    assert firing["alerts"][0]["labels"]["team"] == "search"

    over = of_alerts([alert(**fields, state="resolved", changed_at=int(now * 1e6))], "alert.resolved")
    resolved = await channel.send(sent, over, 1, now + 1)
    told = await alertmanager.notified("resolved")

    assert resolved.verdict is Verdict.DELIVERED
    assert {each["labels"]["space_id"] for each in await alertmanager.active()} == {
        "space-0",
        "space-1",
        "space-2",
    }
    assert told["alerts"][0]["labels"]["space_id"] == "s1"


async def test_debian_s_alertmanager_takes_what_is_no_alert(
    channel: AlertmanagerChannel, alertmanager: Running
) -> None:
    sent = endpoint("alertmanager", alertmanager.url)
    for notification in (of_failing(), of_test()):
        response = await channel.send(sent, notification, 1, time.time())
        assert response.error is None

    active = await alertmanager.active()

    assert {each["labels"]["alertname"] for each in active} == {"ChatgaugeEndpointFailing", "ChatgaugeTest"}
