"""A partition's windows through any history: batches, idle times and crashes, against a plain model.

The model knows the log alone. Whatever way it is read, and however often, the blocks say the same.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.time import HOUR, MINUTE, SECOND, Micros
from streams.catalogue.groupings import ERROR, SPACE, TOTAL, USER
from streams.windows.block import Block, BlockKey
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import ClosedRows, Step
from tests.streams.windows.expected import rows_of, windows
from tests.streams.windows.requests import NOON, Request, frame, request

LATENESS = 10 * SECOND
MINUTES = Pane("1m", 26 * HOUR, MINUTE, corrected_for=100 * MINUTE)
SECONDS = Pane("1s", 2 * HOUR, SECOND, live_only=True)
COUNTED = ((TOTAL, MINUTES), (SPACE, MINUTES), (ERROR, MINUTES), (USER, MINUTES), (TOTAL, SECONDS))
PLAN = Plan(COUNTED, LATENESS, write_every=SECOND)
LENGTHS = {"1m": MINUTE, "1s": SECOND}


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """How long after the one before a request arrives, and what it says; it may repeat an earlier one."""
    fields: dict[str, Any] = {
        "late": draw(
            st.sampled_from([0, 0, SECOND, 30 * SECOND, 4 * MINUTE, 5 * MINUTE, 7 * MINUTE, -4 * MINUTE])
        ),
        "repeats": draw(st.none() | st.none() | st.integers(1, 12)),
        "imported": draw(st.sampled_from([False, False, False, True])),
        "space_id": draw(st.sampled_from([None, "s1", "s2"])),
        "user_id": draw(st.sampled_from([None, "u1", "u2", "u3"])),
        "error_type": draw(st.sampled_from([None, None, "timeout", "rate_limited"])),
        "prompt_tokens": draw(st.none() | st.integers(0, 1_000)),
        "total_us": draw(st.none() | st.integers(0, 10**8)),
    }
    return draw(st.sampled_from([0, 0, SECOND, 20 * SECOND, MINUTE])), fields


def is_counted(log: Iterable[Request]) -> list[bool]:
    """Which requests count, by the rule: live ones are repeats of earlier ones within the horizon."""
    seen: set[tuple[str, Micros]] = set()
    reached = 0
    verdicts = []
    for row in log:
        if row["imported"]:
            verdicts.append(True)
            continue
        identity = (row["event_id"], row["occurred_at"])
        within = row["occurred_at"] // MINUTE >= reached // MINUTE - 5
        verdicts.append(not (within and identity in seen))
        seen.add(identity)
        reached = max(reached, min(row["occurred_at"], row["_arrived"]))
    return verdicts


def expected(log: list[Request], pane: str, imported: bool) -> dict[Any, Any]:
    counted = [row for row, counts in zip(log, is_counted(log), strict=True) if counts]
    rows = [row for row in counted if row["imported"] == imported]
    found: dict[Any, Any] = {}
    for grouping, of in COUNTED:
        if of.name == pane:
            found |= windows(rows, grouping.name, LENGTHS[pane])
    return found


def figures(blocks: Iterable[Block], pane: str, imported: bool) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for block in blocks:
        if (block.key.pane, block.key.imported) == (pane, imported):
            found |= rows_of(block.rows, block.key.grouping, block.key.pane_start)
    return found


class Audience:
    """Whoever reads `chat.closed`: rows of a pane replace those of the same groups, unless they are older."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}
        self.versions: dict[Any, tuple[int, int]] = {}
        self.watermark = 0
        self.counted_by_then = -1

    def hear_watermark(self, offset: int, watermark: Micros) -> None:
        if watermark > self.watermark:
            self.watermark, self.counted_by_then = watermark, offset

    def hear(self, offset: int, closed: ClosedRows) -> None:
        what = (closed.grouping.name, closed.pane, closed.pane_start)
        version = (offset, closed.revision)
        if what not in self.versions and closed.revision == 0:
            was_said_to_be_told = closed.pane_end <= self.watermark and closed.since <= self.counted_by_then
            assert not was_said_to_be_told
        if version >= self.versions.get(what, version):
            self.versions[what] = version
            told = rows_of(closed.rows, closed.grouping.name, closed.pane_start)
            self.rows |= {(closed.pane, group): row for group, row in told.items()}


class Worker(RuleBasedStateMachine):
    """A worker on one partition; `log` is what Kafka holds, `blocks` what of its blocks is durable."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Request] = []
        self.blocks: dict[BlockKey, Block] = {}
        self.audience = Audience()
        self.now = NOON
        self.committed = 0
        self.position = 0
        self.crashed = False
        self.start()

    def start(self) -> None:
        """From what is durable, as a worker that takes the partition over."""
        self.windows = PartitionWindows(0, PLAN, self.blocks.get)
        self.windows.restore(list(self.blocks.values()), self.now)
        start = self.windows.resume(self.committed)
        assert start <= self.committed
        self.position = sum(row["_offset"] < start for row in self.log)
        self.watermark = self.windows.watermark
        self.announced: set[Any] = set()
        self.recount = max([block.offset for block in self.blocks.values()], default=-1)
        self.recounted = self.committed > self.recount

    def publish(self, step: Step) -> None:
        """Announce it, make it durable."""
        self.announce(step)
        self.write(step.blocks)

    def announce(self, step: Step) -> None:
        for closed in step.closed:
            what = (closed.grouping.name, closed.pane, closed.pane_start)
            assert what not in self.announced, "a pane is announced once in a worker's life"
            assert closed.pane_end <= self.windows.watermark, "and not before its time"
            self.announced.add(what)
        for told in [*step.closed, *step.corrected]:
            self.audience.hear(self.windows.offset, told)
        if self.windows.whole:
            self.audience.hear_watermark(self.windows.offset, self.windows.watermark)

    def write(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            before = self.blocks.get(block.key)
            if before is not None:
                assert block.offset >= before.offset
                assert block.closed >= before.closed, "what is closed stays closed"
                assert block.revision > before.revision or not (
                    before.closed and block.offset > before.offset
                )
            due = not block.key.imported and block.pane_end <= block.watermark
            assert block.closed == due if self.recounted else block.closed <= due
            self.blocks[block.key] = block

    @initialize(first=arrivals())
    def begin(self, first: tuple[int, dict[str, Any]]) -> None:
        self.arrive([first])

    @rule(many=st.lists(arrivals(), min_size=1, max_size=8))
    def arrive(self, many: list[tuple[int, dict[str, Any]]]) -> None:
        for wait, fields in many:
            self.now += wait
            said = dict(fields)
            late, repeats = said.pop("late"), said.pop("repeats")
            offset = 2 * len(self.log)
            if repeats is not None and len(self.log) >= repeats:
                row = {**self.log[-repeats], "_offset": offset, "_arrived": self.now}
            else:
                row = request(offset, self.now - late, _arrived=self.now, **said)
            self.log.append(row)

    def read(self, size: int) -> tuple[list[Request], Step | None]:
        batch = self.log[self.position : self.position + size]
        through = batch[-1]["_offset"]
        self.position += len(batch)
        self.recounted |= through >= self.recount
        if through < self.committed:
            self.windows.remember(frame(batch), through)
            return batch, None
        step = self.windows.count(frame(batch), through, self.now)
        fresh = sum(row["_offset"] >= self.committed for row in batch)
        assert step.counted + step.repeats + step.too_late <= fresh
        assert step.too_late == 0
        assert not step.expired, "nothing is that old"
        return batch, step

    @precondition(lambda self: self.position < len(self.log))
    @rule(size=st.integers(1, 12))
    def count(self, size: int) -> None:
        batch, step = self.read(size)
        if step is not None:
            self.publish(step)
            if self.windows.due(self.now):
                step = self.windows.wait(self.now)
                self.publish(step)
            if step.complete:
                self.committed = max(self.committed, batch[-1]["_offset"] + 1)

    @precondition(lambda self: self.position < len(self.log))
    @rule(size=st.integers(1, 12), data=st.data())
    def crash_while_writing(self, size: int, data: st.DataObject) -> None:
        _, step = self.read(size)
        if step is not None and self.windows.due(self.now) and data.draw(st.booleans()):
            self.publish(step)
            step = self.windows.wait(self.now)
        if step is not None:
            self.publish_some(step, data)
        self.crash()

    def publish_some(self, step: Step, data: st.DataObject) -> None:
        """What closes is announced while open blocks are written, and before any that is closed: see
        `Publication.parted`."""
        anew = any(block.closed and block.key not in self.blocks for block in step.blocks)
        first = [block for block in step.blocks if not (block.closed or anew)]
        then = [block for block in step.blocks if block.closed or anew]
        written = data.draw(st.integers(0, len(first)))
        self.write(first[:written])
        if data.draw(st.booleans()):
            self.announce(step)
            if written == len(first):
                self.write(then[: data.draw(st.integers(0, len(then)))])

    @rule()
    def crash(self) -> None:
        self.crashed = True
        self.start()

    @rule(pause=st.sampled_from([SECOND, 15 * SECOND, 2 * MINUTE]))
    def idle(self, pause: Micros) -> None:
        self.now += pause
        caught_up = self.position == len(self.log)
        step = self.windows.advance(self.now) if caught_up else self.windows.wait(self.now)
        self.publish(step)
        if step.complete and self.position and self.log[self.position - 1]["_offset"] >= self.committed:
            self.committed = self.log[self.position - 1]["_offset"] + 1

    @invariant()
    def the_watermark_never_goes_back(self) -> None:
        assert self.windows.watermark >= self.watermark
        self.watermark = self.windows.watermark

    @invariant()
    def the_watermark_is_behind_the_latest_live_event_that_was_read_or_behind_the_clock(self) -> None:
        read = self.log[: self.position]
        counted = [row["occurred_at"] for row in read if not row["imported"]]
        if self.windows.offset >= (read[-1]["_offset"] if read else 0) and counted:
            assert self.windows.watermark >= max(counted) - LATENESS
        assert self.windows.watermark <= max([self.now, *(row["occurred_at"] for row in self.log)]) - LATENESS

    def teardown(self) -> None:
        """Whatever was: read to the end, everything is counted once."""
        while self.position < len(self.log):
            self.count(5)
        self.now += 20 * MINUTE
        self.publish(self.windows.advance(self.now))
        for pane, imported in (("1m", False), ("1m", True), ("1s", False)):
            assert figures(self.blocks.values(), pane, imported) == expected(self.log, pane, imported)
        for block in self.blocks.values():
            if block.key.pane == "1m" and not block.key.imported:
                assert block.closed
                self.has_been_told(block)

    def has_been_told(self, block: Block) -> None:
        """A correction may be lost in a crash; what closes may not."""
        for group, row in rows_of(block.rows, block.key.grouping, block.key.pane_start).items():
            told = self.audience.rows.get((block.key.pane, group))
            if block.revision == 0 or not self.crashed:
                assert told == row


TestAnyHistory = Worker.TestCase
TestAnyHistory.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyHistory.pytestmark = [pytest.mark.slow]
