"""The tasks inside Kafka's client. Some end without a word, and what rests on them then waits for ever."""

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


def ended_task(client: AIOKafkaConsumer | AIOKafkaProducer) -> str | None:
    """Which task that a started client needs has ended, and how; None while all run. For any thread."""
    for name, task in _tasks(client):
        if task is not None and task.done():
            return f"{name} of Kafka's client {_how(task)}"
    return None


def _tasks(client: AIOKafkaConsumer | AIOKafkaProducer) -> Iterator[tuple[str, "asyncio.Task[Any] | None"]]:
    if isinstance(client, AIOKafkaProducer):
        yield "the metadata task", client.client._sync_task
        yield "the sending task", client._sender.sender_task
        return
    yield "the metadata task", client._client._sync_task
    if client._fetcher is not None:
        yield "the fetching task", client._fetcher._fetch_task
    coordinator = client._coordinator
    yield "the group's task", getattr(coordinator, "_coordination_task", None)
    # It ends by itself when the group has put the member out; then it has no id until it has joined again.
    if getattr(coordinator, "member_id", ""):
        yield "the heartbeat", getattr(coordinator, "_heartbeat_task", None)


def _how(task: "asyncio.Task[Any]") -> str:
    if task.cancelled():
        return "was cancelled"
    error = task.exception()
    return "ended" if error is None else f"failed: {type(error).__name__}: {error}"
