"""A Faust application as it is set up, attended to, and given up. Nothing here reaches for Kafka."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, cast

import faust
import pytest
from yarl import URL

from clients.kafka.sizes import LARGEST_FETCH
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.topics import ALERTS, NOTIFIER_STATE
from streams.runtime import application
from streams.runtime.application import attend, broker_urls, give_up, new_app, run
from streams.runtime.table import ChangelogTable, add_table
from streams.runtime.transport import Records

KAFKA: Final = KafkaSettings(bootstrap="127.0.0.1:9,127.0.0.1:10")


class Ends:
    """How a part was ended."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.part = Part("test", exit=self.statuses.append)


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def app() -> faust.App:
    return new_app("in-memory", KAFKA, partitions=4, max_fetch=123)


# Set up.


def test_kafka_may_have_several_addresses() -> None:
    assert broker_urls(KafkaSettings(bootstrap="kafka-1:9092")) == [URL("kafka://kafka-1:9092")]
    several = KafkaSettings(bootstrap="kafka-1:9092, [::1]:9093")
    assert broker_urls(several) == [URL("kafka://kafka-1:9092"), URL("kafka://[::1]:9093")]


def test_an_application_is_a_consumer_group_of_its_own(app: faust.App) -> None:
    assert app.conf.id == "chatgauge-in-memory"
    assert [str(url) for url in app.conf.broker] == ["kafka://127.0.0.1:9", "kafka://127.0.0.1:10"]


def test_topics_are_made_in_advance_and_read_from_the_beginning(app: faust.App) -> None:
    conf = app.conf
    assert (conf.topic_partitions, conf.topic_allow_declare, conf.topic_disable_leader) == (4, False, True)
    assert conf.consumer_auto_offset_reset == "earliest"


def test_what_is_fetched_and_sent_may_be_as_large_as_a_window_block(app: faust.App) -> None:
    assert app.conf.producer_max_request_size == LARGEST_FETCH
    assert app.conf.consumer_max_fetch_size == LARGEST_FETCH / 2, "of one partition"
    assert app.conf.broker_max_poll_records == 123


def test_a_dead_worker_loses_its_partitions_after_ten_seconds(app: faust.App) -> None:
    assert (app.conf.broker_session_timeout, app.conf.broker_heartbeat_interval) == (10.0, 3.0)
    assert app.conf.broker_commit_interval == 1.0


def test_state_is_kept_in_memory_and_by_the_owner_alone(app: faust.App) -> None:
    assert str(app.conf.store) == "memory:"
    assert app.conf.datadir.is_dir()
    assert app.conf.table_standby_replicas == 0


def test_one_fetch_waits_and_nothing_is_waited_for_when_partitions_go(app: faust.App) -> None:
    assert (app.conf.stream_buffer_maxsize, app.conf.stream_wait_empty) == (1, False)
    assert app.conf.web_enabled is False


# Attending.


class Agent:
    """What is told to a stateful agent; it fails where it is to."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.fails: BaseException | None = None

    async def restore(self) -> None:
        self._tell("restore")

    def forget(self) -> None:
        self._tell("forget")

    async def step(self, event: Any, acknowledge: Any) -> None:
        self._tell(event)
        await acknowledge(event)

    async def ticking(self) -> None:
        self._tell("ticking")

    async def end(self) -> None:
        self._tell("end")

    def _tell(self, what: object) -> None:
        self.told.append(what)
        if self.fails is not None:
            raise self.fails


class Stream:
    """Two events, and which of them were acknowledged; by itself it acknowledges what it passes over."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.acknowledges_by_itself = True

    def noack(self) -> "Stream":
        self.acknowledges_by_itself = False
        return self

    async def events(self) -> AsyncIterator[str]:
        for event in ("one", "two"):
            yield event
            if self.acknowledges_by_itself:
                self.acknowledged.append(f"{event}, by itself")

    async def ack(self, event: str) -> bool:
        self.acknowledged.append(event)
        return True


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def table(app: faust.App, ends: Ends, agent: Agent) -> ChangelogTable:
    table = add_table(app, NOTIFIER_STATE, 4)
    attend(app, ends.part, "counting", ALERTS, table, agent)
    return table


async def take(app: faust.App, stream: Stream) -> None:
    await app.agents["counting"].fun(cast("Any", stream))


async def test_an_agent_is_told_what_happens_to_its_application(
    app: faust.App, table: ChangelogTable, agent: Agent, ends: Ends
) -> None:
    await table.call_recover_callbacks()
    await app.on_partitions_revoked.send(set())
    await app.on_before_shutdown.send()
    for task in app._app_tasks:
        await task()
    assert agent.told == ["restore", "forget", "end", "ticking"]
    assert [loop.name for loop in ends.part.loops()] == ["main"], "the loop in which it ticks is watched over"
    assert ends.statuses == []


async def test_it_is_handed_the_fetches_of_its_source_and_acknowledges_them_itself(
    app: faust.App, table: ChangelogTable, agent: Agent
) -> None:
    await take(app, stream := Stream())
    assert agent.told == ["one", "two"]
    assert stream.acknowledged == ["one", "two"]
    source = app.agents["counting"].channel
    assert source.get_topic_name() == "chat.alerts"
    assert isinstance(source.schema, Records), "a fetch is handed through as it came"


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()])
async def test_a_step_that_fails_ends_the_process_before_anything_behind_it_is_taken(
    app: faust.App,
    table: ChangelogTable,
    agent: Agent,
    ends: Ends,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent.fails = error
    with pytest.raises(type(error)):
        await take(app, stream := Stream())
    assert (agent.told, stream.acknowledged) == (["one"], [])
    assert ends.statuses == [70]
    text = "ValueError: no" if isinstance(error, ValueError) else "CancelledError"
    assert caplog.messages[-1] == (
        f"test ends: a step of counting failed: {text}; the next worker repeats it"
    )


async def test_so_does_a_state_that_cannot_be_taken_up(
    table: ChangelogTable, agent: Agent, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    agent.fails = ValueError("no")
    await table.call_recover_callbacks()
    assert ends.statuses == [70]
    assert "counting could not take up its state: ValueError: no" in caplog.messages[-1]


async def test_so_does_a_clock_that_cannot_be_followed(
    app: faust.App, table: ChangelogTable, agent: Agent, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    agent.fails = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await app._app_tasks[0]()
    assert ends.statuses == [70]
    assert "counting could not follow the clock: ValueError: no" in caplog.messages[-1]


async def test_a_step_that_fails_while_the_worker_stops_ends_nothing(
    app: faust.App, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app._stopped.set()
    give_up(app, ends.part, "a step of counting failed", error := ValueError("no"))
    assert ends.statuses == []
    assert caplog.messages == ["stopped in the middle of a step; the next worker repeats it"]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error


# Running.


class Executed(SystemExit):
    """In place of Faust's end, with what there was to see of the worker."""

    worker: faust.Worker
    guards: dict[str, str | None]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, ends: Ends) -> Iterator[None]:
    def execute(worker: faust.Worker) -> None:
        ending = Executed(0)
        ending.worker = worker
        ending.guards = {name: check() for name, check in ends.part.guards().values()}
        raise ending

    levels = {name: logging.getLogger(name).level for name in application._TALKATIVE}
    monkeypatch.setattr(faust.Worker, "execute_from_commandline", execute)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("executed")
async def test_a_worker_runs_all_applications_quietly_and_watched_over(app: faust.App, ends: Ends) -> None:
    other = new_app("other", KAFKA, partitions=1, max_fetch=1)
    with pytest.raises(Executed) as ran:
        run(ends.part, app, other)
    worker = ran.value.worker
    assert (worker.app, list(worker.services)) == (app, [other])
    assert worker.spinner is None
    assert (worker.quiet, worker.override_logging, worker.redirect_stdouts) == (True, False, False)
    assert ran.value.guards == {"chatgauge-in-memory": None, "chatgauge-other": None}
    assert ends.part.guards() == {}, "nobody is watched over any more"


@pytest.mark.usefixtures("executed")
async def test_an_application_that_has_crashed_is_told_as_such(app: faust.App, ends: Ends) -> None:
    app._crash(ValueError("no broker"))
    with pytest.raises(Executed) as ran:
        run(ends.part, app)
    assert ran.value.guards == {"chatgauge-in-memory": "crashed: ValueError: no broker"}


@pytest.mark.usefixtures("executed")
async def test_services_that_start_and_stop_are_not_told_of(app: faust.App, ends: Ends) -> None:
    talkative = ("faust", "mode", "aiokafka", "streams.runtime", "streams.counting.publication")
    for name in talkative:
        logging.getLogger(name).setLevel(logging.INFO)
    with pytest.raises(Executed):
        run(ends.part, app)
    assert {logging.getLogger(name).level for name in talkative} == {logging.WARNING}


@pytest.mark.usefixtures("executed")
async def test_the_part_knows_when_the_worker_is_told_to_stop(
    app: faust.App, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[signal.Signals] = []

    async def stop(_: faust.Worker, told: signal.Signals) -> None:
        stopped.append(told)

    monkeypatch.setattr(faust.Worker, "_stop_on_signal", stop)
    with pytest.raises(Executed) as ran:
        run(ends.part, app)
    assert not ends.part.is_stopping

    ran.value.worker._schedule_shutdown(signal.SIGTERM)

    assert ends.part.is_stopping
    assert not ends.part.is_overdue(), "it has a minute"
    await ran.value.worker._signal_stop_future
    assert stopped == [signal.SIGTERM]
