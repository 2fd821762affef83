"""What the benchmark makes of its measurements: pure, and without timings."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bench import figures, page, report
from bench.contenders.race import Result
from bench.entrants import BY_NAME
from bench.feeder import pools, varints
from bench.studies import live, profile, soak
from schemas.codec import Codec
from schemas.contract import schema

MACHINE = {"date": "2026-11-21T12:00:00+00:00", "commit": "abc", "cores": 2, "cpu": "some"}


def test_the_page_has_the_figures_of_the_last_run() -> None:
    text = page.PAGE.read_text()

    assert page.filled(text, figures.read(figures.RESULTS)) == text, "run python -m bench.page"


def test_the_page_is_filled_between_its_markers_only() -> None:
    text = "before\n<!-- figures: soak -->\nold\n<!-- end -->\nafter\n"

    assert (
        page.filled(text, {})
        == "before\n<!-- figures: soak -->\n\nNot measured yet.\n\n<!-- end -->\nafter\n"
    )
    with pytest.raises(KeyError):
        page.filled("<!-- figures: nothing -->\n<!-- end -->", {"nothing": {}})


def test_the_report_beside_the_figures_is_made_from_them(tmp_path: Path) -> None:
    report.write(figures.read(figures.RESULTS), tmp_path / "latest.md")

    assert (tmp_path / "latest.md").read_text() == figures.RESULTS.with_suffix(".md").read_text()


def test_a_race_replaces_the_one_before_and_leaves_the_studies() -> None:
    held: dict[str, Any] = {"rollup": 1, "quix": 2, "load": 3, "soak": {"rate": 5}}

    assert figures.with_race(held, {"rollup": 4, "load": 6}) == {"rollup": 4, "load": 6, "soak": {"rate": 5}}


def test_a_study_tells_when_it_was_taken(tmp_path: Path) -> None:
    found = figures.with_study({"rollup": 1}, "soak", {"rate": 5}, {**MACHINE, "memory_gb": 8})
    figures.write(tmp_path / "latest.json", found)

    assert figures.read(tmp_path / "latest.json") == {"rollup": 1, "soak": {"rate": 5, "taken": MACHINE}}
    with pytest.raises(ValueError, match="lunch"):
        figures.with_study({}, "lunch", {}, MACHINE)


def test_a_row_of_the_race_is_the_median_of_its_runs() -> None:
    runs = [Result(1000, seconds, seconds, 0.1, 50.0) for seconds in (1.0, 2.0, 4.0)]
    row = report.Row(BY_NAME["bytewax"], runs).figures()

    assert (row["events_per_s"], row["min"], row["max"]) == (500, 250, 1000)


def test_fed_events_are_live_and_each_is_itself() -> None:
    now = int(datetime.now(UTC).timestamp()) * 1_000_000
    times = np.array([now, now + 1, now + 2_000_000], np.int64)
    sent: list[bytes] = []

    class Batch:
        def append(self, timestamp: None, key: bytes, value: bytes) -> None:
            sent.append(value)

        def close(self) -> None:
            pass

    pools(partitions=2, users=50, spaces=5)[1].pack(0xABC, times, into=Batch())
    events = [Codec(schema("RequestEvent")).decode(value) for value in sent]

    assert [event["event_id"] for event in events] == [f"{0xABC + i:016x}" for i in range(3)]
    assert [int(event["occurred_at"].timestamp() * 1e6 + 0.5) for event in events] == times.tolist()
    assert all(int(event["user_id"].removeprefix("user-")) % 2 == 1 for event in events)


def test_times_of_this_century_take_eight_bytes() -> None:
    written = varints(np.array([datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1e6 for year in (2000, 2099)]))

    assert [len(time) for time in written] == [8, 8]


def test_latency_is_to_the_first_block_of_the_pane_that_has_the_event() -> None:
    second = 1_700_000_000 * 1_000_000
    events = pl.DataFrame(
        {"partition": [0, 0, 0], "offset": [4, 5, 6], "time": [second, second + 10, second + 1_000_000]}
    )
    blocks = pl.DataFrame(
        {
            "partition": pl.Series([0, 0, 0, 0, 1], dtype=pl.Int32),
            "pane_start": [second, second, second, second + 1_000_000, second],
            "offset": [4, 6, 6, 6, 9],
            "read_at": [second + 70, second + 90, second + 95, second + 1_000_200, second],
        }
    )

    assert live._seen(events, blocks, live.SECOND_US).to_list() == [70, 80, 200]
    with pytest.raises(live.WrongError, match="1 of 3 events"):
        live._seen(events, blocks.filter(pl.col("pane_start") == second), live.SECOND_US)


def test_a_sample_belongs_to_the_first_kind_of_work_that_fits() -> None:
    loop = "worker;execute_from_commandline (mode/worker.py:264)"
    found = profile.shares(
        [
            f"{loop};step (streams/counting/agent.py:1);read (schemas/columnar.py:2) 6",
            f"{loop};step (streams/counting/agent.py:1);cost (streams/counting/pricing.py:3) 2",
            f"{loop};_run_once (asyncio/base_events.py:9) 2",
            f"{loop};_run_once (asyncio/base_events.py:9);EpollSelector.select (selectors.py:468) 50",
            f"{loop};_find_and_load (<frozen importlib._bootstrap>:1) 70",
            "<module> (bench/contenders/rollup.py:1) 90",
        ]
    )

    assert found == {
        "samples": 10,
        "shares": {"decoding Avro, checking": 0.6, "pricing": 0.2, profile.REST: 0.2},
    }


def soaked(minutes: float, growth_mb: float) -> Mapping[str, Any]:
    samples = [
        {"minute": i * minutes / 100, "rss_mb": {"rollup": 400 + i * growth_mb / 100}} for i in range(101)
    ]
    memory = {"rollup": soak._flatness(samples, "rollup")}
    return {
        "minutes": minutes,
        "rate": 60_000,
        "long_enough": minutes >= soak.LEAST_MINUTES,
        "memory": memory,
    }


def test_a_soak_passes_when_memory_is_flat_and_fails_when_it_grows() -> None:
    assert soak.flat(soaked(30, 20))
    assert not soak.flat(soaked(30, 100))
    assert soak.verdict(soaked(30, 0)) == (
        "soak 30 min at 60,000/s: rollup 400 → 400 MB (+0.0%): flat within 10%"
    )
    assert "NOT flat" in soak.verdict(soaked(30, 100))


def test_a_short_soak_has_no_verdict() -> None:
    assert soak.flat(soaked(3, 100))
    assert soak.verdict(soaked(3, 100)).endswith("(too short to judge: 20 min at least)")
