"""What `chatgauge doctor` looks at: each check gives one verdict and, for a fault, what to do."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import httpx
from aiokafka.errors import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from infra import topics
from infra.errors import LocalServerError
from infra.kafka import jars
from infra.kafka.java import java_version, require_java
from infra.ports import holder, is_free
from infra.settings import (
    ApiSettings,
    ClickHouseSettings,
    KafkaSettings,
    LocalSettings,
    RegistrySettings,
)
from schemas.topics import TOPICS

_LEAST_FREE_GB = 2
_PATIENCE = 5.0
_LAG_SHOWN = 10_000


@dataclass(frozen=True)
class Verdict:
    """`remedy` is what to do; only a fault has one. A check whose precondition fails is `skipped`."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    skipped: bool = False


Check = Callable[[], Awaitable[Verdict]]


async def python() -> Verdict:
    version = ".".join(map(str, sys.version_info[:3]))
    return Verdict("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


async def java() -> Verdict:
    try:
        path = require_java()
    except LocalServerError as problem:
        return _told("Java", problem)
    return Verdict("Java", True, f"{java_version(path)} ({path})")


async def maven() -> Verdict:
    path = shutil.which("mvn")
    if path is None and any(jars.directory().glob("kafka_*.jar")):
        return Verdict("Maven", True, "absent, and not needed: Kafka's jars are here")
    return Verdict("Maven", path is not None, path or "absent", "install it (apt-get install maven)")


async def kafka_jars() -> Verdict:
    try:
        return Verdict("Kafka's jars", True, str(jars.require()))
    except LocalServerError as problem:
        return _told("Kafka's jars", problem)


async def codecs() -> Verdict:
    """That what producers compress can be read: a record batch of each codec is."""
    reinstall = "install Chatgauge again, with its dependencies"
    try:
        from aiokafka.record.default_records import DefaultRecordBatchBuilder

        from schemas.record_batch import CODECS, split
        from schemas.records import records
    except ImportError as problem:
        return Verdict("codecs", False, f"can't be read: {problem}", reinstall)
    failed = []
    for number, codec in enumerate(CODECS):
        value = codec.encode() * 1_000
        try:
            builder = DefaultRecordBatchBuilder(2, number, 0, -1, -1, -1, 2**20)
            builder.append(0, 0, None, value, [])
            [read] = [one.value for batch in split(bytes(builder.build())) for one in records(batch)]
        except Exception as problem:
            failed.append(f"{codec} ({_name(problem)})")
        else:
            failed += [f"{codec} (misread)"] if read != value else []
    if failed:
        return Verdict("codecs", False, f"can't be read: {', '.join(failed)}", reinstall)
    return Verdict("codecs", True, f"all that Kafka has can be read: {', '.join(CODECS)}")


async def disk() -> Verdict:
    place = LocalSettings().data.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    return Verdict(
        "disk",
        free >= _LEAST_FREE_GB,
        f"{free:.1f} GB free in {place}",
        "free some space, or set CHATGAUGE_DATA",
    )


async def kafka() -> Verdict:
    settings = KafkaSettings()
    try:
        async with asyncio.timeout(_PATIENCE):
            await topics.describe(settings.bootstrap, ())
    except (KafkaError, TimeoutError, OSError) as problem:
        return _absent("Kafka", settings.bootstrap, problem, "CHATGAUGE_KAFKA_BOOTSTRAP")
    return Verdict("Kafka", True, f"answers at {settings.bootstrap}")


async def kafka_topics() -> Verdict:
    settings = KafkaSettings()
    try:
        async with asyncio.timeout(_PATIENCE):
            present = await topics.describe(settings.bootstrap)
    except (KafkaError, TimeoutError, OSError):
        return Verdict("topics", False, "not looked at: Kafka does not answer", skipped=True)
    missing = [topic.name for topic in TOPICS if topic.name not in present]
    if missing:
        return Verdict("topics", False, f"missing: {', '.join(missing)}", "run `chatgauge topics`")
    wanted = {topic.name: settings.partitions if topic.follows_source else 1 for topic in TOPICS}
    if wanted != present:
        return Verdict(
            "topics",
            False,
            f"partitions differ: {present}",
            f"set CHATGAUGE_KAFKA_PARTITIONS to {present['chat.requests']}, or delete the topics",
        )
    return Verdict("topics", True, f"{len(present)}, {settings.partitions} partitions")


async def clickhouse() -> Verdict:
    settings = ClickHouseSettings()
    try:
        answer = await _query("SELECT version()")
    except httpx.HTTPError as problem:
        return _absent(
            "ClickHouse", f"{settings.host}:{settings.port}", problem, "CHATGAUGE_CLICKHOUSE_HOST, _PORT"
        )
    if answer.status_code in (401, 403):
        return Verdict(
            "ClickHouse",
            False,
            f"refuses the user {settings.user}",
            "set CHATGAUGE_CLICKHOUSE_USER and CHATGAUGE_CLICKHOUSE_PASSWORD",
        )
    return Verdict("ClickHouse", answer.is_success, answer.text.strip()[:200], "look into its log")


async def tables() -> Verdict:
    database = ClickHouseSettings().database
    try:
        answer = await _query(f"SELECT count(), max(number) FROM `{database}`.migrations")  # noqa: S608
    except httpx.HTTPError:
        return Verdict("tables", False, "not looked at: ClickHouse does not answer", skipped=True)
    if not answer.is_success:
        return Verdict(
            "tables",
            False,
            f"the database {database} has none",
            "start the sink (`chatgauge sink`), which makes them",
        )
    from sinks.tables import migrations

    applied = int(answer.text.split()[0])
    wanted = len(migrations())
    return Verdict(
        "tables",
        applied == wanted,
        f"{applied} of {wanted} migrations applied to {database}",
        "start the sink of this version, which applies the others"
        if applied < wanted
        else "a newer version has been here: run that one",
    )


async def registry() -> Verdict:
    url = RegistrySettings().url
    if not url:
        return Verdict("schema registry", True, "none set, none needed")
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE) as client:
            answer = await client.get(f"{url.rstrip('/')}/subjects")
        answer.raise_for_status()
    except httpx.HTTPError as problem:
        return _absent("schema registry", url, problem, "CHATGAUGE_SCHEMA_REGISTRY_URL")
    return Verdict("schema registry", True, f"answers at {url}, {len(answer.json())} subjects")


def parts() -> Iterator[Check]:
    """One check for each part that serves metrics."""
    for name, url in ApiSettings().parts.items():
        yield _part(name, url)


def _part(name: str, url: str) -> Check:
    async def check() -> Verdict:
        command = f"chatgauge {'worker ' if name in ('rollup', 'usage') else ''}{name}"
        try:
            async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
                answer = await client.get(url)
            answer.raise_for_status()
            series = sum(len(family.samples) for family in text_string_to_metric_families(answer.text))
        except (httpx.HTTPError, ValueError) as problem:
            return Verdict(name, False, f"no metrics at {url} ({_name(problem)})", f"start it: `{command}`")
        return Verdict(name, True, f"{series} series at {url}")

    return check


async def api() -> Verdict:
    settings = ApiSettings()
    address = f"http://{settings.host}:{settings.port}"
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            health = (await client.get(f"{address}/health/ready")).json()
    except (httpx.HTTPError, ValueError) as problem:
        return Verdict(
            "api", False, f"no answer at {address} ({_name(problem)})", "start it: `chatgauge api`"
        )
    if health.get("status") == "ready":
        return Verdict("api", True, f"ready at {address}")
    awaiting = "; ".join(health.get("awaiting", ["no reason given"]))
    return Verdict("api", False, awaiting, f"see {address}/health/ready")


async def lag() -> Verdict:
    settings = ApiSettings()
    address = f"http://{settings.host}:{settings.port}"
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            health = (await client.get(f"{address}/health/ready")).json()
    except (httpx.HTTPError, ValueError):
        return Verdict("consumer lag", False, "not looked at: the API does not answer", skipped=True)
    behind = {check["name"]: check.get("lag") or 0 for check in health.get("checks", ())}
    worst = {name: count for name, count in behind.items() if count > _LAG_SHOWN}
    if not worst:
        return Verdict("consumer lag", True, f"{sum(behind.values()):,} records")
    shown = ", ".join(f"{name}: {count:,}" for name, count in worst.items())
    return Verdict("consumer lag", False, shown, "wait, or give it more workers and partitions if it grows")


async def ports() -> Verdict:
    """Only a fault when a port is held by something that is not ours: the checks after this one tell."""
    wanted = {
        "Kafka": int(KafkaSettings().bootstrap.split(",")[0].rpartition(":")[2]),
        "ClickHouse": ClickHouseSettings().port,
        "API": ApiSettings().port,
    }
    taken = [
        f"{port} ({name}) by {holder(port) or 'a process'}"
        for name, port in wanted.items()
        if not is_free(port)
    ]
    return Verdict("ports", True, f"in use: {'; '.join(taken)}" if taken else "all free: nothing runs here")


ALL: tuple[Check, ...] = (
    python,
    java,
    maven,
    kafka_jars,
    codecs,
    disk,
    ports,
    kafka,
    kafka_topics,
    clickhouse,
    tables,
    registry,
)
"""Those that come before the parts'; `parts()`, `api` and `lag` follow."""


async def _query(sql: str) -> httpx.Response:
    settings = ClickHouseSettings()
    scheme = "https" if settings.secure else "http"
    async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
        return await client.post(
            f"{scheme}://{settings.host}:{settings.port}/",
            content=sql,
            headers={
                "X-ClickHouse-User": settings.user,
                "X-ClickHouse-Key": settings.password.get_secret_value(),
            },
        )


def _told(name: str, problem: LocalServerError) -> Verdict:
    found, _, remedy = str(problem).rpartition(": ")
    return Verdict(name, False, found or str(problem), remedy)


def _absent(name: str, where: str, problem: Exception, setting: str) -> Verdict:
    return Verdict(
        name,
        False,
        f"no answer at {where} ({_name(problem)})",
        f"start it (`chatgauge up`), or set {setting}",
    )


def _name(problem: Exception) -> str:
    return type(problem).__name__
