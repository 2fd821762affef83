"""The real parts that tests run against: Kafka, and ClickHouse's engine behind its HTTP interface.

Both servers are started once per session, on free ports, and stopped at its end. A test that can name
its topics and tables takes `topic_prefix` and `database`; one that needs the fixed names `chat.*` on an
untouched broker takes `fresh_kafka`.
"""

import asyncio
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import clickhouse_connect
import hypothesis
import pytest

from infra import topics
from infra.clickhouse import LocalClickHouse
from infra.errors import JarsUnavailableError, JavaUnusableError
from infra.kafka import LocalKafka
from infra.ports import free_port
from infra.settings import ClickHouseSettings

pytest_plugins = ["tests.ending", "tests.fast", "tests.sharing"]

_KAFKA_IMAGE = "confluentinc/cp-kafka:8.1.0"
_LARGEST_BATCH = 16 * 1024 * 1024 + 64 * 1024

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# A failure is told as it was found: to make it small can take a minute (--hypothesis-profile=fast).
hypothesis.settings.register_profile(
    "fast",
    parent=hypothesis.settings.get_profile("any machine"),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate],
    max_examples=10,
)
hypothesis.settings.register_profile(
    "mutants",
    parent=hypothesis.settings.get_profile("fast"),
    max_examples=50,
    database=None,
    derandomize=True,
)
hypothesis.settings.load_profile("any machine")


def _docker_answers() -> bool:
    try:
        probe = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _kafka_in_docker() -> Iterator[str]:
    from testcontainers.kafka import KafkaContainer

    container = (
        KafkaContainer(_KAFKA_IMAGE)
        .with_kraft()
        .with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        .with_env("KAFKA_MESSAGE_MAX_BYTES", str(_LARGEST_BATCH))
        .with_env("KAFKA_REPLICA_FETCH_MAX_BYTES", str(_LARGEST_BATCH))
        .with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        .with_env("KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "1000")
    )
    with container:
        yield container.get_bootstrap_server()


def _run_kafka(data: Path) -> Iterator[str]:
    local = LocalKafka(data, port=free_port())
    try:
        local.start()
    except (JavaUnusableError, JarsUnavailableError) as missing:
        if not _docker_answers():
            pytest.fail(f"no Kafka to test with: {missing}")
        yield from _kafka_in_docker()
        return
    try:
        yield local.bootstrap
    finally:
        local.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a Kafka that all tests of the session share; no topics are created.

    CHATGAUGE_TEST_KAFKA gives the address of one that runs already.
    """
    if given := os.environ.get("CHATGAUGE_TEST_KAFKA"):
        yield given
        return
    yield from _run_kafka(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="module")
def fresh_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a Kafka of this module's own, empty at first."""
    yield from _run_kafka(tmp_path_factory.mktemp("fresh-kafka"))


CreateTopics = Callable[..., None]


@pytest.fixture(scope="session")
def create_topics() -> CreateTopics:
    """`create_topics(bootstrap, partitions=4)` creates all `chat.*` topics that are missing.

    Blocking: call it from a fixture or a test that is not a coroutine (or through a thread).
    """

    def create(bootstrap: str, partitions: int = 4) -> None:
        asyncio.run(topics.create(bootstrap, partitions=partitions))

    return create


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for the names of topics and consumer groups that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """A running embedded ClickHouse that all tests of the session share; it has no database yet."""
    data = tmp_path_factory.mktemp("clickhouse") / "data"
    with LocalClickHouse(data, port=free_port(), password="s3cret") as server:
        yield server.settings


@pytest.fixture
def database(clickhouse: ClickHouseSettings) -> Iterator[ClickHouseSettings]:
    """A fresh, empty database on the session's ClickHouse, dropped after the test."""
    settings = clickhouse.model_copy(update={"database": f"test_{uuid.uuid4().hex[:12]}"})
    client = clickhouse_connect.get_client(
        host=settings.host,
        port=settings.port,
        username=settings.user,
        password=settings.password.get_secret_value(),
    )
    try:
        client.command(f"CREATE DATABASE {settings.database}")
        yield settings
        client.command(f"DROP DATABASE IF EXISTS {settings.database}")
    finally:
        client.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The sample traces; the test is skipped where they are absent."""
    given = os.environ.get("CHATGAUGE_SAMPLE_DATA")
    directory = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"no sample traces in {directory} (set CHATGAUGE_SAMPLE_DATA)")
    return directory
