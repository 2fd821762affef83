"""The windows of one source partition: counting once, the watermark, closing, late corrections, expiry.

Pure but for `load`, which fetches a block that was written before: the clock is an argument.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.batch import OFFSET
from schemas.time import MINUTE, SECOND, Micros
from streams.catalogue.groupings import Grouping
from streams.windows.aggregate import Events, Share, aggregate
from streams.windows.block import Block, BlockKey
from streams.windows.panes import Pane
from streams.windows.plan import Plan
from streams.windows.repeats import Repeats
from streams.windows.state import BlockState, restore
from streams.windows.step import Step, closed_rows
from streams.windows.waiting import Waiting

_KEPT_UNPACKED: Final = 512
"""How many closed or imported blocks stay unpacked, for the next late or imported event."""
_LARGE: Final = 5_000
"""Events in a batch, or waiting, that pay for counting and writing every block they touch, at any time."""
_CORRECT_EVERY: Final[Micros] = 10 * SECOND
"""How often, by the clock, corrections of closed panes are announced at most."""
_GOLDEN: Final = 0.618
"""Multiples of it, modulo 1, lie far from one another, however few or many there are."""
_BEGINNING: Final[Micros] = 0
"""The watermark before any event: none is taken that occurred before 1970."""


class Written(Protocol):
    """What is read of a block when the state is taken up."""

    @property
    def key(self) -> BlockKey: ...
    @property
    def pane_end(self) -> Micros: ...
    @property
    def offset(self) -> int: ...
    @property
    def watermark(self) -> Micros: ...
    @property
    def closed(self) -> bool: ...
    @property
    def remembers_from(self) -> int: ...


class PartitionWindows:
    """The open and the kept panes of one source partition."""

    def __init__(self, partition: int, plan: Plan, load: Callable[[BlockKey], Block | None]) -> None:
        self.partition = partition
        self.watermark: Micros = _BEGINNING
        self.offset = -1
        """Every event up to and including this offset is counted, in some block at least."""
        self.repeats = Repeats(plan.remember)
        self._begin = 0
        """Every event before this offset is counted by this worker, or was acknowledged."""
        self._counted_before = -1
        """What is written tells of events up to this offset."""
        self._floors: list[tuple[int, int]] = []
        self._plan = plan
        self._load = load
        self._waiting = Waiting({pane.name: pane for _, pane in plan.lasting}.values())
        self._open: dict[BlockKey, BlockState] = {}
        self._kept: OrderedDict[BlockKey, BlockState] = OrderedDict()
        self._expiring: list[tuple[Micros, BlockKey]] = []
        self._imported: OrderedDict[BlockKey, Micros] = OrderedDict()
        self._unwritten: dict[BlockKey, BlockState] = {}
        self._written_at: Micros = _BEGINNING
        self._corrected: dict[BlockKey, BlockState] = {}
        self._corrected_at: Micros = _BEGINNING

    @property
    def whole(self) -> bool:
        """All that was counted before a crash is counted again.

        Some of it may have to come again, for a block that could not be written any more: until it has,
        nothing closes, and neither corrections nor the watermark may be told.
        """
        return self._begin > self._counted_before

    def restore(self, written: Iterable[Written], now: Micros) -> None:
        """Take up the state that was written before: all blocks of this partition."""
        for block in written:
            self.watermark = max(self.watermark, block.watermark)
            self.offset = max(self.offset, block.offset)
            self._floors.append((block.offset, block.remembers_from))
            if (block.key.grouping, block.key.pane) not in self._plan.kinds:
                heappush(self._expiring, (_BEGINNING, block.key))  # another version counted it
            elif block.key.imported:
                self._imported[block.key] = now
            elif block.closed:
                self._await_expiry(block.key, block.pane_end)
            elif (whole := self._load(block.key)) is not None:
                self._open[block.key] = restore(whole, self._plan.groupings[block.key.grouping])
        self._counted_before = self.offset

    def resume(self, committed: int) -> int:
        """Everything before the offset `committed` is counted, and durable; the offset to read from.

        That is an earlier one, as far as ids must be remembered again (`remember`). The newest block
        written by then says how far: ids are forgotten in the order of the log.
        """
        self._begin = max(self._begin, committed)
        if self.repeats.next_offset:
            return min(self.repeats.next_offset, committed)
        known = [(offset, floor) for offset, floor in self._floors if floor >= 0]
        before = [(offset, floor) for offset, floor in known if offset < committed]
        floor = max(before)[1] if before else min((floor for _, floor in known), default=committed)
        return min(floor, committed)

    def remember(self, frame: pl.DataFrame, through: int) -> None:
        """Remember the ids of a batch that is counted already."""
        self._first_time(frame.filter(~frame["imported"]), through)

    def count(self, frame: pl.DataFrame, through: int, now: Micros) -> Step:
        """Count a batch of finished requests, in the order of their offsets (column `_offset`).

        `frame` has the columns that the plan's groupings name, `imported`, and those that tell repeats
        (`Repeats.first_time`); `through` is the offset that the batch reaches, at least that of its last
        row. Imported events are not held against one another.
        """
        step = Step()
        touched: dict[BlockKey, BlockState] = {}
        imported = frame["imported"]
        if imported.any():
            self._count_imported(_since(frame.filter(imported), self._begin), through, now, step, touched)
            frame = frame.filter(~imported)
        frame, step.repeats = self._first_time(frame, through)
        if step.counted + frame.height >= _LARGE:
            self._written_at = _BEGINNING
        watermark = self._count_live(frame, through, now, step, touched)
        self.offset = max(self.offset, through)
        self._begin = max(self._begin, through + 1)
        return self._settle(step, touched, watermark, now)

    def due(self, now: Micros) -> bool:
        """Whether `wait` has something to write. What is for live figures goes out first, the rest then."""
        return self._writes_all(now) and bool(len(self._waiting) or self._unwritten)

    def advance(self, now: Micros) -> Step:
        """Let the clock move the watermark on: the partition is idle, and everything in it is counted."""
        return self._idle(max(self.watermark, now - self._plan.lateness), now)

    def wait(self, now: Micros) -> Step:
        """Write what is due; nothing has come meanwhile."""
        return self._idle(self.watermark, now)

    def _idle(self, watermark: Micros, now: Micros) -> Step:
        touched: dict[BlockKey, BlockState] = {}
        self._count_waiting(self._begin - 1, touched)
        return self._settle(Step(), touched, watermark, now)

    def _first_time(self, live: pl.DataFrame, through: int) -> tuple[pl.DataFrame, int]:
        """Those events that are to be counted, and how many repeats are not."""
        self._floors.clear()
        live = _since(live, self.repeats.next_offset)
        first = self.repeats.first_time(live, through)
        live = _since(live, self._begin)
        if first is None:
            return live, 0
        counted = live.filter(pl.Series(first[-live.height :])) if live.height else live
        return counted, live.height - counted.height

    def _count_imported(
        self, frame: pl.DataFrame, through: int, now: Micros, step: Step, touched: dict[BlockKey, BlockState]
    ) -> None:
        step.counted += frame.height
        self._add(Events(frame), {}, self._plan.lasting, through, touched, imported=True)
        for key in touched:
            self._imported[key] = now
            self._imported.move_to_end(key)

    def _count_live(
        self, frame: pl.DataFrame, through: int, now: Micros, step: Step, touched: dict[BlockKey, BlockState]
    ) -> Micros:
        """Count live events, some of them later; the watermark that they make."""
        watermark = self.watermark
        if frame.height:
            events = Events(frame)
            in_time = self._in_time(events.times, watermark, now)
            lasting = in_time.get(self._plan.shortest or "")
            step.counted += frame.height if lasting is None else len(lasting)
            step.too_late += 0 if lasting is None else frame.height - len(lasting)
            self._waiting.add(events, watermark)
            watermark = max(watermark, int(events.times.max()) - self._plan.lateness)
        if not self._plan.live or len(self._waiting) >= _LARGE or self._waiting.closes <= watermark:
            self._count_waiting(through, touched)
        if frame.height:
            self._add(events, in_time, self._plan.live, through, touched)
        return watermark

    def _count_waiting(self, through: int, touched: dict[BlockKey, BlockState]) -> None:
        if len(self._waiting):
            events, watermark = self._waiting.take()
            # How they were cut into batches does not matter; nor does the clock, to these panes.
            in_time = self._in_time(events.times, watermark, _BEGINNING)
            self._add(events, in_time, self._plan.lasting, through, touched)

    def _add(
        self,
        events: Events,
        in_time: Mapping[str, npt.NDArray[np.intp]],
        counted: Iterable[tuple[Grouping, Pane]],
        through: int,
        touched: dict[BlockKey, BlockState],
        imported: bool = False,
    ) -> None:
        """Add events to the blocks, which then hold all events to offset `through`."""
        for grouping, pane in counted:
            selected = in_time.get(pane.name)
            for share in aggregate(events, grouping, pane, selected):
                key = BlockKey(
                    self.partition, imported, pane.name, share.pane_start, grouping.name, share.bucket
                )
                state = self._state(key, grouping, pane, share)
                fresh = share if share.first_offset > state.offset else _unseen(events, state, pane, selected)
                if fresh is not None:
                    state.add(fresh, through)
                    state.remembers_from = self.repeats.since
                    touched[key] = state

    def _in_time(
        self, times: npt.NDArray[np.int64], watermark: Micros, now: Micros
    ) -> dict[str, npt.NDArray[np.intp]]:
        """Per pane, which events come while it is kept, unless all do. `watermark` was before them.

        The watermark that judges an event is the one that the events before it have made, so that
        it does not matter how events are cut into batches. Panes that are only for live figures are
        judged by the clock as well: who catches up with an hour of events needs no seconds of it.
        """
        watermarks = np.maximum(np.maximum.accumulate(times) - self._plan.lateness, watermark)
        in_time: dict[str, npt.NDArray[np.intp]] = {}
        for name, pane in self._plan.panes.items():
            limits = np.maximum(watermarks, now) if pane.live_only else watermarks
            if times.min() + pane.keep > limits[-1]:
                continue
            kept = pane.ends(pane.starts(times)) + pane.keep > limits
            if not kept.all():
                in_time[name] = np.flatnonzero(kept)
        return in_time

    def _state(self, key: BlockKey, grouping: Grouping, pane: Pane, share: Share) -> BlockState:
        state = self._open.get(key) or self._unwritten.get(key) or self._kept.get(key)
        if state is None and (key.imported or share.pane_start < self.watermark):
            block = self._load(key)
            state = None if block is None else restore(block, grouping)
        if state is None:
            end = pane.end(share.pane_start)
            state = BlockState(key, grouping, end, share.first_offset)
            if not key.imported and end <= self.watermark:
                state.closed = True
                self._await_expiry(key, end)
        if key.imported or state.closed:
            self._kept[key] = state
            self._kept.move_to_end(key)
        else:
            self._open[key] = state
        return state

    def _await_expiry(self, key: BlockKey, end: Micros) -> None:
        heappush(self._expiring, (end + self._plan.panes[key.pane].keep, key))

    def _settle(
        self, step: Step, touched: dict[BlockKey, BlockState], watermark: Micros, now: Micros
    ) -> Step:
        self.watermark = watermark
        for state in touched.values():
            if state.closed:
                state.revision += 1
                self._note_correction(state)
        self._unwritten |= touched
        reached = self.watermark if self.whole else _BEGINNING
        closing = [state for state in self._open.values() if state.pane_end <= reached]
        for state in closing:
            state.closed = True
            self._unwritten[state.key] = state
            self._kept[state.key] = self._open.pop(state.key)
            self._await_expiry(state.key, state.pane_end)
        step.closed = closed_rows(state for state in closing if not self._stale(state, now))
        step.corrected = closed_rows(self._corrections(now))
        step.expired = self._expire(now)
        step.blocks = [state.block(self.watermark) for state in self._take_due(now, step.expired)]
        step.complete = not (self._unwritten or len(self._waiting))
        while len(self._kept) > _KEPT_UNPACKED:
            self._kept.popitem(last=False)
        return step

    def _note_correction(self, state: BlockState) -> None:
        corrected_for = self._plan.panes[state.key.pane].corrected_for
        if state.pane_end + corrected_for > self.watermark:
            self._corrected[state.key] = state

    def _corrections(self, now: Micros) -> Iterable[BlockState]:
        """What was corrected, when it is time to tell."""
        if not self._corrected or not self.whole or now - self._corrected_at < _CORRECT_EVERY:
            return ()
        self._corrected_at = now
        corrected, self._corrected = self._corrected, {}
        return corrected.values()

    def _take_due(self, now: Micros, expired: list[BlockKey]) -> list[BlockState]:
        """Those of the unwritten blocks that are to be written now."""
        everything = self._writes_all(now) and not len(self._waiting)
        if everything:
            self._written_at = now
        last_chance = set(expired)
        due = [
            state
            for key, state in self._unwritten.items()
            if everything or state.closed or key in last_chance or self._plan.panes[key.pane].live_only
        ]
        for state in due:
            del self._unwritten[state.key]
        return due

    def _writes_all(self, now: Micros) -> bool:
        """Once in each span of `write_every`; where it begins, differs from partition to partition."""
        every = self._plan.write_every
        if not every:
            return True
        phase = int(self.partition * _GOLDEN % 1 * every)
        return (now + phase) // every != (self._written_at + phase) // every

    def _stale(self, state: BlockState, now: Micros) -> bool:
        """A live figure that closes long after its time: nobody waits for it."""
        pane = self._plan.panes[state.key.pane]
        return pane.live_only and state.pane_end + self._plan.lateness + MINUTE < now

    def _expire(self, now: Micros) -> list[BlockKey]:
        expired = []
        while self._expiring and self._expiring[0][0] <= self.watermark:
            expired.append(heappop(self._expiring)[1])
        while self._imported and next(iter(self._imported.values())) <= now - self._plan.keep_imported:
            expired.append(self._imported.popitem(last=False)[0])
        for key in expired:
            self._kept.pop(key, None)
        return expired


def _since(frame: pl.DataFrame, offset: int) -> pl.DataFrame:
    """The events from an offset on."""
    if frame.height == 0 or frame[OFFSET][0] >= offset:
        return frame
    return frame.filter(pl.col(OFFSET) >= offset)


def _unseen(
    events: Events, state: BlockState, pane: Pane, selected: npt.NDArray[np.intp] | None
) -> Share | None:
    """Those events of the block that it has not counted yet: after a crash, some come again."""
    fresh = np.flatnonzero(events.offsets > state.offset)
    if selected is not None:
        fresh = np.intersect1d(fresh, selected, assume_unique=True)
    for share in aggregate(events, state.grouping, pane, fresh):
        if (share.pane_start, share.bucket) == (state.key.pane_start, state.key.bucket):
            return share
    return None
