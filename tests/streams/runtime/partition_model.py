"""A model of one changelog partition on Kafka, its consumer group, and workers that a test interrupts.

Nothing happens by itself: each call of a worker to Kafka waits until the test lets it take effect, and then
until the test lets its answer through. A worker is paused as long as the test does neither.

What the model grants, and Kafka does:

- a claim is refused to whoever is not of the group's present generation, or was not when it asked;
- records of a partition never change their order, but bytes that the network held back land when they like,
  also after their writer has died, and also when the same was sent again;
- compaction keeps the last record of a key in a prefix of the log, and removes deletions. It does not come to
  what nobody has looked at since it landed: topics of state have a compaction lag of five minutes, an owner
  looks every ten seconds, and who takes over looks at once. (Deleted keys need no such grant: a zombie's
  record that was laid over a deletion may outlive it.);
- a deletion outlives the bytes that the network holds back of a worker that nobody has succeeded yet, until
  they have landed and been looked at (`delete.retention.ms`, half an hour). Those of a worker that was
  succeeded, and a worker that is paused, may come back after any time.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.runtime.changelog import Changelog, Write
from streams.runtime.entries import Claim, Entries, Entry
from streams.runtime.errors import LogUnavailableError, MovedError

PARTITION = 0
Values = dict[bytes, bytes]


@dataclass(eq=False)
class Call:
    """One call of a worker to Kafka: first it takes effect, then its answer comes."""

    worker: "Worker"
    name: str
    arguments: tuple[Any, ...]
    generation: int
    """That of its worker."""
    answer: "asyncio.Future[Any]"
    task: "asyncio.Task[Any] | None"
    result: Any = None
    has_taken_effect: bool = False


@dataclass
class Partition:
    """The log, and the group that has the partition of the source."""

    records: list[Entry] = field(default_factory=list)
    landed: list[Entry] = field(default_factory=list)
    held: list[Write] = field(default_factory=list)
    """What the network holds back."""
    note: str = ""
    generation: int = 0
    assigned: "Worker | None" = None
    looked_to: int = 0
    """Whoever had the right has seen, and set right, all that landed before."""

    @property
    def end(self) -> int:
        return len(self.landed)

    @property
    def claim(self) -> Claim:
        return Claim.read(self.note)

    def land(self, write: Write) -> int:
        entry = Entry(self.end, *write)
        self.landed.append(entry)
        self.records.append(entry)
        return entry.offset

    def recovered(self) -> Entries:
        """What a worker finds that starts now."""
        entries = Entries(self.claim)
        for entry in self.records:
            entries.take(entry)
        return entries

    def compactable_to(self) -> int:
        holds = self.recovered().values
        limit = self.looked_to
        beyond = [entry for entry in self.records if entry.offset >= limit]
        for entry in beyond:
            assert entry.rank is not None
            assert entry.key is not None
            if entry.key in holds or not self.claim.refuses(entry.offset, entry.rank.epoch):
                break
            limit = entry.offset + 1
        return limit

    def compact(self, limit: int, *, deletions: bool) -> None:
        last = {entry.key: entry.offset for entry in self.records if entry.offset < limit}
        unsucceeded = self.claim.after.epoch if self.claim.after else self.claim.epoch
        unseen = [entry for entry in self.landed if entry.offset >= self.looked_to]
        awaited = {one.key for one in (*self.held, *unseen) if one.rank and one.rank.epoch >= unsucceeded}
        self.records = [
            entry
            for entry in self.records
            if entry.offset >= limit
            or (
                last[entry.key] == entry.offset
                and not (deletions and entry.value is None and entry.key not in awaited)
            )
        ]


@dataclass(eq=False)
class WorkersLog:
    """Kafka, as one worker has it. A `streams.runtime.changelog.Log`."""

    worker: "Worker"
    topic: str = "chat.modelled"

    async def end(self, partition: int) -> int:
        return int(await self._call("end"))

    async def read(self, partition: int, begin: int, end: int) -> Sequence[Entry]:
        found: Sequence[Entry] = await self._call("read", begin, end)
        return found

    async def append(
        self, partition: int, writes: Sequence[Write], wanted: Callable[[], bool]
    ) -> Sequence[int]:
        offsets: list[int] = []
        while len(offsets) < len(writes):
            if not wanted():
                raise MovedError(self.topic)
            offsets += await self._call("append", writes[len(offsets) :])
        return offsets

    async def claim(self, partition: int, claim: Claim) -> None:
        await self._call("claim", claim)

    async def _call(self, name: str, *arguments: Any) -> Any:
        worker = self.worker
        answer = asyncio.get_running_loop().create_future()
        call = Call(worker, name, arguments, worker.generation, answer, asyncio.current_task())
        worker.calls.append(call)
        try:
            return await answer
        finally:
            worker.calls.remove(call)


@dataclass(eq=False)
class Worker:
    """A process that may own the partition."""

    partition: Partition
    loop: asyncio.AbstractEventLoop
    changelog: Changelog = field(init=False)
    generation: int = -1
    """That of the group, when it last joined."""
    calls: list[Call] = field(default_factory=list)
    tasks: "list[asyncio.Task[None]]" = field(default_factory=list)
    doubtful: "set[asyncio.Task[Any] | None]" = field(default_factory=set)
    """Tasks that Kafka did not tell what they asked."""
    seen: "dict[asyncio.Task[Any] | None, int]" = field(default_factory=dict)
    """The end of the log, as a task has seen it."""

    def __post_init__(self) -> None:
        self.changelog = Changelog(WorkersLog(self))

    @property
    def is_rightful(self) -> bool:
        """Of the group's present generation, and the partition is its own."""
        return self.partition.assigned is self and self.generation == self.partition.generation

    def begin(self, work: "Coroutine[Any, Any, None]") -> "asyncio.Task[None]":
        task = self.loop.create_task(work)
        self.tasks.append(task)
        return task

    def join(self, recovered_share: float) -> "asyncio.Task[None]":
        """Be assigned the partition; recover a first part of it, as Faust does, and begin to take it over."""
        self.generation = generation = self.partition.generation
        if PARTITION in self.changelog.expect({PARTITION: self.partition.claim}):
            until = int(self.partition.end * recovered_share)
            known = [entry for entry in self.partition.records if entry.offset < until]
            self.changelog.recover(PARTITION, known, until)

        async def take_over() -> None:
            while self.generation == generation:
                try:
                    await self.changelog.take_over(PARTITION)
                    return
                except LogUnavailableError:
                    continue
            raise MovedError

        return self.begin(take_over())

    # What the test lets happen.

    def take_effect(self, call: Call, among: int | None = None) -> None:
        """The call reaches Kafka; of what is appended, the first `among` records."""
        partition = self.partition
        call.has_taken_effect = True
        if call.name == "end":
            call.result = partition.end
            self.seen[call.task] = partition.end
        elif call.name == "read":
            begin, end = call.arguments
            call.result = [entry for entry in partition.records if begin <= entry.offset < end]
        elif call.name == "claim":
            if self.is_rightful and call.generation == self.generation:
                partition.note = call.arguments[0].note()
            else:
                call.result = MovedError("the group has a newer generation")
        else:
            call.result = [partition.land(write) for write in call.arguments[0][:among]]
            if call.result:
                self.seen[call.task] = max(self.seen.get(call.task, 0), call.result[-1] + 1)

    def answer(self, call: Call) -> None:
        """The answer arrives."""
        if isinstance(call.result, Exception):
            call.answer.set_exception(call.result)
        else:
            call.answer.set_result(call.result)

    def fail(self, call: Call) -> None:
        """No answer arrives, whether the call took effect or not. What is appended is sent again."""
        if call.name == "append":
            call.answer.set_result([])
        else:
            self.doubtful.add(call.task)
            call.answer.set_exception(LogUnavailableError("no answer"))

    def hold_back(self, call: Call) -> None:
        """The network holds back what is appended, and the worker is told that it failed."""
        self.partition.held += call.arguments[0]
        self.fail(call)
