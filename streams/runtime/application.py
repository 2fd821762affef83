"""A Faust application as every worker here has it: topics made in advance, fetches handed over whole."""

import logging
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Protocol, cast

import faust
from faust.types import EventT, StreamT
from yarl import URL

from clients.kafka.sizes import LARGEST_FETCH
from infra.liveness import Part, described
from infra.settings import KafkaSettings
from schemas.topics import Topic
from streams.runtime.transport import Records

log = logging.getLogger(__name__)

Acknowledge = Callable[[EventT[Any]], Awaitable[bool]]

_TALKATIVE: Final = ("faust", "mode", "aiokafka", "streams.runtime", "streams.counting.publication")
"""They tell of every service that starts and stops."""
_STOPS_WITHIN_S: Final = 60.0
"""After so long a worker that was told to stop is ended."""


def broker_urls(kafka: KafkaSettings) -> list[URL]:
    """Kafka's addresses, as Faust takes them."""
    return [URL(f"kafka://{address.strip()}") for address in kafka.bootstrap.split(",")]


def new_app(name: str, kafka: KafkaSettings, *, partitions: int, max_fetch: int) -> faust.App:
    """An application, of the consumer group `chatgauge-<name>`, whose sources have `partitions` each.

    `max_fetch` is how many records a fetch has at most.
    """
    return faust.App(
        f"chatgauge-{name}",
        broker=broker_urls(kafka),
        store="memory://",
        datadir=tempfile.gettempdir(),  # Faust makes sure that it exists, and puts nothing in it
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=LARGEST_FETCH // 2,
        broker_max_poll_records=max_fetch,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=1.0,
        producer_max_request_size=LARGEST_FETCH,
        # One fetch waits: what queues up here was fetched small, and stays small; in Kafka it adds up.
        stream_buffer_maxsize=1,
        stream_wait_empty=False,
        web_enabled=False,
    )


class Stateful(Protocol):
    """What reads a source by the fetch, and keeps its state in a table."""

    async def restore(self) -> None:
        """The table has recovered: take up what is in it, for the partitions that are assigned now."""
        ...

    def forget(self) -> None:
        """The partitions are going away."""
        ...

    async def step(self, event: EventT[Any], acknowledge: Acknowledge) -> None:
        """Take one fetch."""
        ...

    async def ticking(self) -> None:
        """Follow the clock, until the application stops."""
        ...

    async def end(self) -> None:
        """Once, when the application stops."""
        ...


def attend(
    app: faust.App, part: Part, name: str, source: Topic, table: faust.Table[Any, Any], to: Stateful
) -> None:
    """Let `to` have the fetches of `source`. What fails ends the process."""

    async def restore() -> None:
        try:
            await to.restore()
        except Exception as error:
            give_up(app, part, f"{name} could not take up its state", error)

    async def forget(*_: object, **__: object) -> None:
        to.forget()

    async def ticking() -> None:
        part.attend()
        try:
            await to.ticking()
        except Exception as error:
            give_up(app, part, f"{name} could not follow the clock", error)
            raise

    async def end(*_: object, **__: object) -> None:
        await to.end()

    async def take(fetches: StreamT[Any]) -> None:
        stream = cast("faust.Stream[Any]", fetches).noack()
        async for event in stream.events():
            try:
                await to.step(event, stream.ack)
            except BaseException as error:
                give_up(app, part, f"a step of {name} failed", error)
                raise

    table.on_recover(restore)
    app.on_partitions_revoked.connect(forget)
    app.agent(app.topic(source.name, schema=Records()), name=name)(take)
    app.on_before_shutdown.connect(end)
    app.task(ticking)


class _Worker(faust.Worker):
    """Faust's, which lets the part know that it has been told to stop."""

    part: Part

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        self.part.stopping(_STOPS_WITHIN_S)
        super()._schedule_shutdown(signal)


def run(part: Part, *apps: faust.App) -> None:
    """Run applications in this process until SIGTERM or SIGINT; ends with SystemExit."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    first, *others = apps
    worker = _Worker(first, *others, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.part = part
    worker.spinner = None  # nobody watches it
    with ExitStack() as stack:
        for app in apps:
            stack.enter_context(part.guarding(app.conf.id, partial(_crashed, app)))
        worker.execute_from_commandline()


def _crashed(app: faust.App) -> str | None:
    """A service of Faust's has ended with an error: the process may stay, and do nothing."""
    return None if (reason := app._crash_reason) is None else f"crashed: {described(reason)}"


def give_up(app: faust.App, part: Part, what: str, error: BaseException) -> None:
    """End the process, hard: Faust would acknowledge what has failed and go on past it.

    Nothing is lost: what isn't acknowledged comes again, to the next worker. Nor is anything wrong with a
    step that fails because the worker is stopping: the producer may go first.
    """
    if app.should_stop:
        log.info("stopped in the middle of a step; the next worker repeats it", exc_info=error)
        return
    part.end(f"{what}: {described(error)}; the next worker repeats it", error)
