"""A changelog through any history of pauses, kills, late bytes and compaction: its owner's state holds.

What holds is said by a plain model: the entries an owner begins with, and what it has written since. A write
that it was told of is there. One that it was not told of may be there or not, until a successor begins; from
then on nothing changes but by the successor's hand.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.runtime.errors import MovedError
from tests.streams.runtime.partition_model import PARTITION, Call, Partition, Values, Worker

KEYS = (b"a", b"b", b"c")
WORKERS = 3


@dataclass(eq=False)
class Asked:
    """A value that an owner was asked to write, or a deletion, of one key."""

    value: bytes | None
    is_acknowledged: bool = False


@dataclass(eq=False)
class Session:
    """One time of owning the partition, from when it is taken over."""

    worker: Worker
    epoch: int
    begun_with: Values
    asked: dict[bytes, list[Asked]] = field(default_factory=dict)

    def possible(self, key: bytes, has_landed: "set[bytes | None]") -> set[bytes | None]:
        """What may be there of a key, if these values have landed."""
        last: bytes | None = self.begun_with.get(key)
        open_: list[bytes | None] = []
        for asked in self.asked.get(key, ()):
            if asked.is_acknowledged:
                last, open_ = asked.value, []
            else:
                open_.append(asked.value)
        return {last, *(value for value in open_ if value is None or value in has_landed)}


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.partition = Partition()
        self.workers = [Worker(self.partition, self.loop) for _ in range(WORKERS)]
        self.session: Session | None = None
        self.number = 0
        self.taking: dict[asyncio.Task[None], tuple[Worker, int]] = {}
        self.writing: dict[asyncio.Task[None], tuple[Session, int, list[tuple[bytes, Asked]]]] = {}
        self.watching: dict[asyncio.Task[None], tuple[Worker, int]] = {}
        self.sessions: dict[Worker, Session] = {}

    # What happens.

    @rule(worker=st.integers(0, WORKERS - 1))
    def rebalance(self, worker: int) -> None:
        """The group gives the partition to a worker. Nobody has been told yet."""
        self.partition.generation += 1
        self.partition.assigned = self.workers[worker]

    @rule(
        worker=st.integers(0, WORKERS - 1),
        share=st.sampled_from([0.0, 0.5, 1.0]),
        calls=st.none() | st.integers(1, 6),
    )
    def hand_over(self, worker: int, share: float, calls: int | None) -> None:
        """The group gives the partition to a worker, which takes it over at once, or comes so far."""
        self.rebalance(worker)
        self.join(share)
        self.finish(self.workers[worker], calls)

    def may_join(self) -> bool:
        return self.partition.assigned is not None and not self.partition.assigned.is_rightful

    @precondition(may_join)
    @rule(share=st.sampled_from([0.0, 0.5, 1.0]))
    def join(self, share: float) -> None:
        """The worker that has the partition is told."""
        worker = self.partition.assigned
        assert worker is not None
        self.sessions.pop(worker, None)
        self.taking[worker.join(share)] = worker, self.partition.generation
        self.run()

    @precondition(lambda self: any(not one.is_rightful for one in self.sessions))
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        """A worker that has lost the partition is told so."""
        told = [worker for worker in self.sessions if not worker.is_rightful]
        worker = told[which % len(told)]
        del self.sessions[worker]
        worker.changelog.release()

    @precondition(lambda self: self.sessions)
    @rule(
        which=st.integers(0, 9),
        writes=st.lists(
            st.dictionaries(st.sampled_from(KEYS), st.booleans(), min_size=1), min_size=1, max_size=3
        ),
        becomes=st.sampled_from(["written", "written", "open", "held back"]),
    )
    def write(self, which: int, writes: list[dict[bytes, bool]], becomes: str) -> None:
        """An agent writes and deletes, as its worker owned the partition when it last knew."""
        session = list(self.sessions.values())[which % len(self.sessions)]
        for each in writes:
            self.ask(session, each)
        self.run()
        if becomes == "held back":
            for call in [one for one in session.worker.calls if one.name == "append"]:
                self.hold_back(call)
        elif becomes == "written":
            self.finish(session.worker)

    def ask(self, session: Session, writes: dict[bytes, bool]) -> None:
        self.number += 1
        items = {key: b"%d" % self.number if is_value else None for key, is_value in writes.items()}
        asked = [(key, Asked(value)) for key, value in items.items()]
        for key, one in asked:
            session.asked.setdefault(key, []).append(one)
        writer = session.worker
        task = writer.begin(writer.changelog.write(PARTITION, items))
        self.writing[task] = session, writer.generation, asked

    @precondition(lambda self: self.sessions)
    @rule(which=st.integers(0, 9), is_finished=st.booleans())
    def watch(self, which: int, is_finished: bool) -> None:
        """A worker looks for what others have written."""
        worker = list(self.sessions)[which % len(self.sessions)]
        self.look(worker)
        if is_finished:
            self.finish(worker)

    def look(self, worker: Worker) -> None:
        self.watching[worker.begin(worker.changelog.watch())] = worker, worker.generation
        self.run()

    def calls(self) -> list[Call]:
        return [call for worker in self.workers for call in worker.calls if not call.answer.done()]

    @precondition(lambda self: self.calls())
    @rule(which=st.integers(0, 99), among=st.none() | st.integers(1, 2))
    def go_on(self, which: int, among: int | None) -> None:
        """A call takes effect and is answered. Of what is appended, perhaps a part."""
        call = self.chosen(which)
        if not call.has_taken_effect:
            call.worker.take_effect(call, among)
        call.worker.answer(call)
        self.run()

    @precondition(lambda self: self.calls())
    @rule(which=st.integers(0, 99))
    def go_on_for_long(self, which: int) -> None:
        """A worker is not interrupted until it has nothing left to do."""
        self.finish(self.chosen(which).worker)

    @precondition(lambda self: self.calls())
    @rule(which=st.integers(0, 99))
    def take_effect(self, which: int) -> None:
        """A call takes effect, and its answer is on its way."""
        call = self.chosen(which)
        if not call.has_taken_effect:
            call.worker.take_effect(call)

    @precondition(lambda self: self.calls())
    @rule(which=st.integers(0, 99), is_held=st.booleans())
    def fail(self, which: int, is_held: bool) -> None:
        """A call stays without an answer; what was to be appended may be on its way for long."""
        call = self.chosen(which)
        if is_held and call.name == "append":
            self.hold_back(call)
        else:
            call.worker.fail(call)
            self.run()

    def hold_back(self, call: Call) -> None:
        if not call.answer.done():
            call.worker.hold_back(call)
            self.run()

    @precondition(lambda self: self.partition.held)
    @rule(which=st.integers(0, 99))
    def land(self, which: int) -> None:
        """What the network held back lands."""
        held = self.partition.held
        self.partition.land(held.pop(which % len(held)))

    @precondition(lambda self: self.calls())
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        """A step of a worker is cancelled."""
        tasks = [task for worker in self.workers for task in worker.tasks if not task.done()]
        tasks[which % len(tasks)].cancel()
        self.run()

    @precondition(lambda self: self.calls())
    @rule(which=st.integers(0, 99), is_held=st.booleans())
    def kill(self, which: int, is_held: bool) -> None:
        """A worker is killed in the midst of something, and started again."""
        killed = self.chosen(which).worker
        if is_held:
            for call in killed.calls:
                if call.name == "append" and not call.has_taken_effect:
                    self.partition.held += call.arguments[0]
        self.end(killed)
        self.workers[self.workers.index(killed)] = Worker(self.partition, self.loop)
        if self.partition.assigned is killed:
            self.partition.assigned = None
        self.sessions.pop(killed, None)

    @precondition(lambda self: self.partition.compactable_to() > 0)
    @rule(share=st.sampled_from([0.3, 0.6, 1.0, 1.0]), deletions=st.booleans())
    def compact(self, share: float, deletions: bool) -> None:
        """A prefix of the log is compacted."""
        self.partition.compact(int(self.partition.compactable_to() * share), deletions=deletions)

    # What has to be.

    @invariant()
    def a_worker_that_starts_now_finds_what_the_owner_wrote(self) -> None:
        self.require_possible(self.partition.recovered().values)

    def require_possible(self, found: Mapping[bytes, bytes]) -> None:
        landed = {entry.value for entry in self.partition.landed}
        for key in KEYS:
            value = found.get(key)
            possible = {None} if self.session is None else self.session.possible(key, landed)
            assert value in possible, f"{key!r} is {value!r}, and can only be {possible}"

    def run(self) -> None:
        """Let the workers go on as far as they can, and see what they have finished."""
        for _ in range(8):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        for worker in self.workers:
            done = [task for task in worker.tasks if task.done()]
            worker.tasks = [task for task in worker.tasks if not task.done()]
            for task in done:
                self.finished(worker, task)

    def finished(self, worker: Worker, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        assert error is None or isinstance(error, MovedError), repr(error)
        if error is not None:
            return
        if task in self.taking:
            self.taken_over(worker, self.taking[task][1])
        elif task in self.writing:
            session, generation, asked = self.writing[task]
            if worker.is_rightful and worker.generation == generation:
                for key, one in asked:
                    self.acknowledged(session, key, one)
                self.looked(worker, task)
        elif worker.is_rightful and worker.generation == self.watching[task][1]:
            self.looked(worker, task)

    def acknowledged(self, session: Session, key: bytes, one: Asked) -> None:
        one.is_acknowledged = True
        if session.asked[key][-1] is one:
            assert session.worker.changelog.entries(PARTITION).get(key) == one.value

    def looked(self, worker: Worker, task: "asyncio.Task[None]") -> None:
        if worker.changelog.owns(PARTITION) and task not in worker.doubtful:
            self.partition.looked_to = max(self.partition.looked_to, worker.seen.get(task, 0))

    def taken_over(self, worker: Worker, generation: int) -> None:
        claim = self.partition.claim
        if not worker.is_rightful or worker.generation != generation:
            return
        found = dict(worker.changelog.entries(PARTITION))
        kept = self.session is not None and self.session.worker is worker
        if kept:
            assert self.session is not None
            asked = {one.value for each in self.session.asked.values() for one in each}
            for key in KEYS:
                assert found.get(key) in self.session.possible(key, asked)
        else:
            self.require_possible(found)
        assert found == dict(self.partition.recovered().values), "it is durable, before anything builds on it"
        assert claim.after is None
        assert self.session is None or claim.epoch > self.session.epoch
        self.session = self.sessions[worker] = Session(worker, claim.epoch, found)
        self.partition.looked_to = max(self.partition.looked_to, claim.since)

    # The end of a history.

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            for worker in self.workers:
                self.end(worker)
            self.loop.close()

    def come_to_rest(self) -> None:
        """Whoever is paused goes on, everything lands, the owner looks: then only its state is there."""
        if self.partition.assigned is None:
            self.rebalance(0)
        if self.may_join():
            self.join(1.0)
        self.finish_all()
        owner = self.partition.assigned
        assert owner is not None
        if not owner.changelog.owns(PARTITION):  # its taking over was cancelled
            self.partition.generation += 1
            self.join(1.0)
            self.finish_all()
        while self.partition.held:
            self.land(0)
        self.look(owner)
        self.finish_all()
        state = dict(owner.changelog.entries(PARTITION))
        self.require_possible(state)
        assert dict(self.partition.recovered().values) == state
        self.partition.compact(self.partition.end, deletions=True)
        assert dict(self.partition.recovered().values) == state
        assert {entry.key: entry.value for entry in self.partition.records} == state

        self.partition.generation += 1
        successor = self.partition.assigned = Worker(self.partition, self.loop)
        self.workers.append(successor)
        self.join(0.5)
        self.finish_all()
        assert dict(successor.changelog.entries(PARTITION)) == state

    def finish_all(self) -> None:
        while self.calls():
            for worker in self.workers:
                self.finish(worker)

    def finish(self, worker: Worker, most: int | None = None) -> None:
        """Let a worker's calls succeed, until it has none or these are so many."""
        done = 0
        while done != most and (calls := [call for call in worker.calls if not call.answer.done()]):
            if not calls[0].has_taken_effect:
                worker.take_effect(calls[0])
            worker.answer(calls[0])
            self.run()
            done += 1

    def end(self, worker: Worker) -> None:
        """Its tasks come to nothing, and reach Kafka no more."""
        tasks, worker.tasks = worker.tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))

    def chosen(self, which: int) -> Call:
        calls = self.calls()
        return calls[which % len(calls)]


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=100, stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
