"""What an agent is: a stateful step from the fetches of one topic to entries of its state, and records.

How it is run is `streams.runtime.harness`'s to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from schemas.time import Micros
from schemas.topics import Topic
from streams.runtime.fetch import Fetch
from streams.runtime.ledger import ENVELOPED, Format, Ledger, State, Worker


class Agent(Protocol):
    """A stateful agent. `step`, `tick`, `restore` and `resume` are never called side by side.

    A MovedError that the ledger raises is passed on: the fetch comes again, to whom the partition belongs.
    Any other error ends the process, and the next one repeats the step.
    """

    async def begin(self, ledger: Ledger) -> None:
        """Once, before anything else."""
        ...

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """Take up the state of the partitions that are ours from now on, those without entries included.

        What was known before is void. Must not block.
        """
        ...

    async def resume(self, ledger: Ledger) -> None:
        """Publish again what the restored state had still to publish."""
        ...

    def reading_from(self, partition: int, committed: int) -> int:
        """The offset to read from, at most `committed`: earlier ones are to be remembered only."""
        ...

    def forget(self) -> None:
        """The partitions are going away: write nothing more for them. Must not block."""
        ...

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        """Take a fetch; when this returns, it is acknowledged. Records before `committed` are to be
        remembered only."""
        ...

    async def tick(self, now: Micros, ledger: Ledger) -> None:
        """Time has passed."""
        ...

    async def end(self) -> None:
        """Once, when the worker stops."""
        ...


class OwnPace(Protocol):
    """An agent as `Agent` says, but for one thing: a fetch that `step` has returned from is not acknowledged.

    The agent does that itself, when what it made of the fetch is durable (`Worker.acknowledge`).
    """

    async def begin(self, ledger: Worker) -> None: ...
    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None: ...
    async def resume(self, ledger: Worker) -> None: ...
    def reading_from(self, partition: int, committed: int) -> int: ...
    def forget(self) -> None: ...
    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Worker) -> None: ...
    async def tick(self, now: Micros, ledger: Worker) -> None: ...
    async def end(self) -> None: ...


@dataclass(frozen=True)
class Wiring:
    """What an agent reads, where its state is, and how it takes its steps."""

    name: str
    """The consumer group is `chatgauge-<name>`."""
    source: Topic
    state: Topic
    partitions: int
    """Of the source, and of the state."""
    linger: timedelta
    """How long records gather before a step; what has come is taken at once when it is `min_bytes`."""
    min_bytes: int = 64 * 1024
    max_fetch: int = 5_000
    """Most records in a step, but for the last batch of them."""
    tick_every: timedelta = timedelta(milliseconds=100)
    format: Format = ENVELOPED
    """How the entries of the state lie in the changelog."""
    own_pace: bool = False
    """The agent acknowledges for itself, see `OwnPace`."""
