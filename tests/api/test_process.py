"""The API as a process, on a real Kafka and ClickHouse: what is written is answered, and it stops cleanly."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.times import system_clock
from infra.ports import free_port
from infra.settings import ClickHouseSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import DAY, MINUTE, SECOND
from schemas.topics import CLOSED, USAGE, WINDOWS
from streams.windows.block import BlockKey
from tests.api.blocks import blocks_of, exact_quantile, some_requests
from tests.api.process import PATIENCE, publish, running, start, wait_for


@pytest.fixture
def api(
    fresh_kafka: str,
    create_topics: Callable[..., None],
    tables: ClickHouseSettings,
    tmp_path: Path,
) -> Iterator[Callable[[str], httpx.Response]]:
    """GET of a running API process that has read what there is; SIGTERM must end it well."""
    create_topics(fresh_kafka)
    port, log = free_port(), tmp_path / "api.log"
    with (
        running(fresh_kafka, tables, port, log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        wait_for(lambda: _reads(client.get("/health/ready").json()), process, log)
        yield client.get


def _reads(ready: dict[str, Any]) -> bool:
    return all(check["ok"] for check in ready["checks"] if check["part"] in ("kafka", "clickhouse", "api"))


def test_what_is_published_is_answered(fresh_kafka: str, api: Callable[[str], httpx.Response]) -> None:
    assert api("/health/ready").status_code == 200  # nothing has happened yet, and all of it is read
    now = system_clock()
    second = now - now % SECOND
    live = some_requests(2_000, second - 60 * SECOND, 60 * SECOND)
    long_ago = second - second % DAY - 900 * DAY
    imported = some_requests(1_000, long_ago, 10 * MINUTE, seed=8)
    groupings = ["total", "service", "model", "error"]
    blocks = [
        *blocks_of(live, ["total", "service"], "1s", lambda r: r.at % 4, watermark=second),
        *blocks_of(live, groupings, "1m", lambda r: r.at % 4, watermark=second),
        *blocks_of(imported, groupings, "1m", lambda r: r.at % 4, imported=True, watermark=second),
    ]
    users = blocks_of(live, ["user"], "1m", lambda r: r.at % 4, watermark=second)
    torn = BlockKey(0, False, "1s", second, "total", 0).encode()
    publish(
        fresh_kafka,
        [
            (WINDOWS.name, 0, torn, b"no block at all"),
            *((WINDOWS.name, partition, key, value) for partition, key, value in blocks),
            *((USAGE.name, partition, key, value) for partition, key, value in users),
        ],
    )

    def current(query: str) -> dict[str, Any]:
        answer = api(f"/api/metrics/current?{query}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    deadline = time.monotonic() + PATIENCE
    while current("window=10m")["groups"][0]["requests"] != len(live) or (
        sum(g["requests"] for g in current("window=1h&grouping=user")["groups"]) != len(live)
    ):
        assert time.monotonic() < deadline, current("window=10m")

    by_model = current("window=1h&grouping=model")
    for group in by_model["groups"]:
        of_group = [r for r in live if r.model == group["key"]["model"]]
        assert group["requests"] == len(of_group)
        assert group["tokens"]["prompt"] == sum(r.prompt_tokens for r in of_group)
        assert group["cost_usd"] == pytest.approx(sum(r.cost_nano_usd or 0 for r in of_group) / 1e9)
        for name in ("total", "first_token"):
            values = [r.latencies[f"{name}_us"] for r in of_group if f"{name}_us" in r.latencies]
            figures = group["latency_ms"][name]
            for figure, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                assert figures[figure] == pytest.approx(exact_quantile(values, q) / 1000, rel=0.01)
    moment = f"at={_iso(long_ago + 10 * MINUTE)}&include=imported"
    replayed = current(f"window=10m&{moment}")
    assert replayed["groups"][0]["requests"] == len(imported)
    failures = [r.error_type for r in imported if r.error_type]
    assert replayed["errors_by_type"]["counts"] == {"timeout": len(failures)}

    exposition = {
        (s.name, s.labels.get("outcome")): s.value
        for family in text_string_to_metric_families(api("/metrics").text)
        for s in family.samples
    }
    assert exposition["chatgauge_api_window_records_total", "refused"] == 1

    ready = api("/health/ready")
    deadline = time.monotonic() + PATIENCE
    while ready.status_code == 200 and time.monotonic() < deadline:
        ready = api("/health/ready")
    # There are windows now, and no sink is running to write them.
    assert any("sink is not running" in reason for reason in ready.json()["awaiting"])
    live_state = [check for check in ready.json()["checks"] if check["part"] == "api"]
    assert all(check["ok"] for check in live_state)


def test_heartbeats_carry_the_watermark_of_idle_partitions(
    fresh_kafka: str, api: Callable[[str], httpx.Response]
) -> None:
    codec = Codec(schema(CLOSED.record))
    watermark = system_clock() + 3600 * SECOND  # ahead of whatever the other test has published
    beats = [
        codec.encode(
            {
                "table": WINDOWS.name,
                "partition": partition,
                "partitions": 4,
                "watermark": watermark + partition,
                "offset": -1,
            }
        )
        for partition in range(4)
    ]
    publish(fresh_kafka, [(CLOSED.name, 0, b"", beat) for beat in beats])
    deadline = time.monotonic() + PATIENCE
    while True:
        coverage = api("/api/metrics/current?window=10s").json()["coverage"]
        if coverage["watermark"] and coverage["watermark"].startswith(_iso(watermark)[:19]):
            break
        assert time.monotonic() < deadline, coverage
    assert coverage["partitions"] == {"reporting": 4, "total": 4}
    assert coverage["slowest_partition"] == 0


def test_a_taken_port_is_one_clear_line(fresh_kafka: str, tables: ClickHouseSettings, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        log = tmp_path / "api.log"
        process = start(fresh_kafka, tables, taken.getsockname()[1], log)
        assert process.wait(timeout=60) != 0
    assert "is the port taken? Set CHATGAUGE_API_PORT." in log.read_text()
    assert "Traceback" not in log.read_text()


def _iso(micros: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(micros // SECOND))
