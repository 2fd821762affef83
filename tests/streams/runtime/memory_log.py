"""A changelog's topic in memory, of which a test says what happens when."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from prometheus_client import REGISTRY

from streams.runtime.changelog import Changelog, Write
from streams.runtime.entries import UNCLAIMED, Claim, Entry, Rank
from streams.runtime.errors import MovedError

TOPIC = "chat.in-memory"
Hook = Callable[[], Awaitable[None]]


class MemoryLog:
    """One partition, 3. `done` tells what was asked of it; a hook runs before a method has its effect."""

    topic = TOPIC

    def __init__(self, *records: tuple[str, str | None, tuple[int, int] | None]) -> None:
        self.records: list[Entry] = []
        for key, value, rank in records:
            self.land(key, value, rank)
        self.done: list[str] = []
        self.claims: list[Claim] = []
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}

    def land(self, key: str, value: str | None, rank: tuple[int, int] | None) -> None:
        encoded = None if value is None else value.encode()
        offset = len(self.records)
        self.records.append(Entry(offset, key.encode(), encoded, None if rank is None else Rank(*rank)))

    def landed(self, since: int = 0) -> list[tuple[str, str | None, tuple[int, int] | None]]:
        return [
            ((one.key or b"").decode(), None if one.value is None else one.value.decode(), one.rank)
            for one in self.records[since:]
        ]

    async def end(self, partition: int) -> int:
        await self._reached(partition, "end")
        return len(self.records)

    async def read(self, partition: int, begin: int, end: int) -> Sequence[Entry]:
        await self._reached(partition, f"read {begin} {end}")
        return self.records[begin:end]

    async def append(
        self, partition: int, writes: Sequence[Write], wanted: Callable[[], bool]
    ) -> Sequence[int]:
        await self._reached(partition, f"append {len(writes)}")
        if not wanted():
            raise MovedError(TOPIC)
        if (hook := self.before.pop("land", None)) is not None:
            await hook()
        begin = len(self.records)
        self.records += [Entry(begin + i, *write) for i, write in enumerate(writes)]
        if (hook := self.after.pop("append", None)) is not None:
            await hook()
        return range(begin, begin + len(writes))

    async def claim(self, partition: int, claim: Claim) -> None:
        await self._reached(partition, claim.note())
        self.claims.append(claim)

    async def _reached(self, partition: int, what: str) -> None:
        assert partition == 3
        self.done.append(what)
        if (hook := self.before.pop(what.split()[0], None)) is not None:
            await hook()


def raising(error: Exception) -> Hook:
    async def hook() -> None:
        raise error

    return hook


def calling(what: Callable[..., Any], *arguments: Any) -> Hook:
    async def hook() -> None:
        what(*arguments)

    return hook


class Gate:
    """A hook that says when it is reached, and waits to be opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()


def encoded(**entries: str | None) -> Mapping[bytes, bytes | None]:
    return {key.encode(): None if value is None else value.encode() for key, value in entries.items()}


def held(changelog: Changelog) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in changelog.entries(3).items()}


async def owning(log: MemoryLog, claim: Claim = UNCLAIMED) -> Changelog:
    """A changelog that has just taken over the partition."""
    changelog = Changelog(log)
    changelog.expect({3: claim})
    changelog.recover(3, list(log.records), len(log.records))
    await changelog.take_over(3)
    log.done.clear()
    return changelog


def restored() -> float:
    return REGISTRY.get_sample_value("chatgauge_stream_foreign_writes_total", {"table": TOPIC}) or 0.0
