"""docs/webhooks.md: its receivers run, its endpoints and templates are what they say."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.ports import free_port
from streams.deliveries.addresses import AllowList
from streams.deliveries.channels.webhook import WebhookChannel
from streams.deliveries.client import DeliveryClient
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from streams.deliveries.signing import new_secret
from streams.deliveries.template import render
from streams.endpoints.endpoint import parse_endpoint
from tests.streams.deliveries.channels.samples import VAULT, alert, endpoint, of_alerts, secret

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/webhooks.md").read_text()
MODULES = ROOT / "var/lib/node/node_modules"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@contextlib.asynccontextmanager
async def running(command: list[str], whsec: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A receiver of the page, once it listens."""
    port = free_port()
    given = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": whsec, "NODE_PATH": str(MODULES)}
    process = await asyncio.create_subprocess_exec(
        *command, env=given, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("language", ["python", "js"])
async def test_a_receiver_of_the_page_takes_what_is_signed_with_its_secret_and_nothing_else(
    language: str,
) -> None:
    if language == "js" and not (shutil.which("node") and MODULES.exists()):
        pytest.skip("there is no Node, or make install has not installed its packages")
    (source,) = blocks(language)
    command = {"python": [sys.executable, "-c", source], "js": ["node", "-e", source]}[language]
    whsec, renderer = new_secret(), Renderer()
    async with (
        running(command, whsec) as (process, port),
        DeliveryClient(AllowList.of(["127.0.0.1"])) as client,
    ):
        channel = WebhookChannel(client, VAULT, renderer)
        url = f"http://127.0.0.1:{port}/"
        right = endpoint("webhook", url, secrets=[secret(whsec)])
        rotating = endpoint("webhook", url, secrets=[secret(new_secret()), secret(whsec, created_at=0)])
        wrong = endpoint("webhook", url, secrets=[secret(new_secret())])
        notification = of_alerts([alert(summary="Zoë ☂")])
        answers = [
            await channel.send(to, notification, 1, time.time() - late)
            for to, late in ((right, 0), (rotating, 0), (wrong, 0), (right, 600))
        ]
        assert process.stdout is not None
        printed = await process.stdout.readline()

    assert [answer.status for answer in answers] == [204, 204, 400, 400]
    assert answers[0].verdict is Verdict.DELIVERED
    assert printed.decode().split() == ["alert.firing", notification.notification_id]


@pytest.mark.parametrize("text", blocks("json"), ids=lambda text: str(json.loads(text)["id"]))
def test_an_endpoint_of_the_page_is_one(text: str) -> None:
    given = json.loads(text)
    if "credential" in given:
        given["credential"] = secret(given["credential"])

    parsed = parse_endpoint(given)

    assert parsed.channel == given["channel"]
    if parsed.template:
        event = json.loads(of_alerts([alert()]).body) | {"id": "nt_1"}
        assert json.loads(render(parsed.template, event))["key"] == "nt_1"


def test_every_channel_has_an_example() -> None:
    shown = {json.loads(text)["channel"] for text in blocks("json")}

    assert shown == {"webhook", "slack", "teams", "pagerduty", "alertmanager", "mail"}


def test_the_page_s_allow_list_can_be_read() -> None:
    (setting,) = re.findall(r"^CHATGAUGE_DELIVERY_ALLOW='(.*)'$", PAGE, re.MULTILINE)

    assert len(AllowList.of(json.loads(setting)).entries) == 4
