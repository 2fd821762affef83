"""Two agents in one worker: test_harness runs it as a process.

    python counting_agents.py BOOTSTRAP PARTITIONS [--stop-before-sending N]

Each numbers the records of its source, partition by partition, and says so on chat.decisions: the
decision's id is source, partition and number, its reason the record's value. It has a state that is only
right if every record came once and in order. Told to stop, it kills itself in the N-th step, between
writing the state and sending.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
from infra.settings import KafkaSettings
from schemas.topics import ALERTS, DECISIONS, NOTIFICATIONS, NOTIFIER_STATE, OUTBOX
from streams.runtime.agent import Wiring
from streams.runtime.fetch import Fetch
from streams.runtime.harness import run
from streams.runtime.ledger import Ledger, State

_NOTHING = {"next": 0, "count": 0, "said": []}


class Numbering:
    """An agent that numbers what it takes."""

    def __init__(self, name: str, stop_before: int = 0) -> None:
        self._name = name
        self._stop_before = stop_before
        self._states: dict[int, dict[str, Any]] = {}
        self._steps = 0

    async def begin(self, ledger: Ledger) -> None:
        pass

    async def end(self) -> None:
        pass

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: int) -> None:
        self._states = {
            partition: json.loads(entries[b"numbers"].state)
            if entries
            else {"next": 0, "count": 0, "said": []}
            for partition, entries in states.items()
        }

    async def resume(self, ledger: Ledger) -> None:
        for state in self._states.values():
            await self._say(state["said"], ledger)

    def reading_from(self, partition: int, committed: int) -> int:
        return committed

    def forget(self) -> None:
        self._states = {}

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        state = self._states[partition]
        said = []
        for record in fetch.records:
            if record.offset < state["next"]:
                continue
            assert record.offset == state["next"], f"{record.offset} came, and {state['next']} was next"
            assert record.value is not None
            said.append([f"{self._name}/{partition}/{state['count']}", record.value.decode()])
            state["next"] += 1
            state["count"] += 1
        state["said"] = said or state["said"]
        await ledger.write(partition, {b"numbers": json.dumps(state).encode()})
        self._steps += 1
        if self._steps == self._stop_before:
            os.kill(os.getpid(), signal.SIGKILL)
        await self._say(said, ledger)

    async def _say(self, said: Sequence[Sequence[str]], ledger: Ledger) -> None:
        records = [
            (name, {"decision_id": name, "decided_at": 0, "what": "evaluated", "reason": reason})
            for name, reason in said
        ]
        await ledger.send(DECISIONS, records)

    async def tick(self, now: int, ledger: Ledger) -> None:
        pass


def main(bootstrap: str, partitions: str, *options: str) -> None:
    stop = int(options[1]) if options else 0
    wirings = [
        (Wiring("numbering", NOTIFICATIONS, OUTBOX, int(partitions), timedelta(milliseconds=20)), stop),
        (Wiring("numbering-one", ALERTS, NOTIFIER_STATE, 1, timedelta(milliseconds=20)), 0),
    ]
    sys.argv = sys.argv[:1]
    run(
        [(Numbering(wiring.source.name, stop), wiring) for wiring, stop in wirings],
        KafkaSettings(bootstrap=bootstrap),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
