"""A Faust application as every worker here has it: topics made in advance, fetches handed over whole."""

import logging
import os
import tempfile
from typing import Any, Final

import faust
from yarl import URL

from infra.settings import KafkaSettings

log = logging.getLogger(__name__)

LARGEST_FETCH: Final = 16 * 1024 * 1024
RAW: Final[dict[str, Any]] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
"""For topics whose keys and values are handed over as they are."""
_TALKATIVE: Final = ("faust", "mode", "aiokafka", "streams.transport", "streams.harness", "streams.table")
"""They tell of every service that starts and stops."""
_FAILED: Final = 70
"""Exit status of a worker that could not go on (EX_SOFTWARE)."""


def broker_url(kafka: KafkaSettings) -> URL:
    """Kafka's address, as Faust takes it."""
    return URL(f"kafka://{kafka.bootstrap.replace(',', ';')}")


def new_app(name: str, kafka: KafkaSettings, *, partitions: int, max_fetch: int) -> faust.App:
    """An application, of the consumer group `chatgauge-<name>`, whose sources have `partitions` each.

    `max_fetch` is how many records a fetch has at most.
    """
    return faust.App(
        f"chatgauge-{name}",
        broker=str(broker_url(kafka)),
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


def run(*apps: faust.App) -> None:
    """Run applications in this process until SIGTERM or SIGINT; ends with SystemExit."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    first, *others = apps
    worker = faust.Worker(first, *others, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # nobody watches it
    worker.execute_from_commandline()


def give_up(app: faust.App) -> None:
    """End the process, hard: Faust would acknowledge what has failed and go on past it.

    Nothing is lost: what isn't acknowledged comes again, to the next worker. Nor is anything wrong with a
    step that fails because the worker is stopping: the producer may go first.
    """
    if app.should_stop:
        log.info("stopped in the middle of a step; the next worker repeats it", exc_info=True)
        return
    log.critical("the step failed; this worker ends, and the next one repeats it", exc_info=True)
    logging.shutdown()
    os._exit(_FAILED)
