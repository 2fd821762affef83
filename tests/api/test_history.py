"""History: what ClickHouse answers equals what is computed from the requests, one by one."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from api.errors import UnavailableError
from api.history.question import UNITS, Aggregation, Kind
from api.history.store import History
from api.live.state import Include
from infra.ports import free_port
from infra.settings import ClickHouseSettings
from schemas.time import HOUR, MINUTE, SECOND
from streams.windows.periods import Period
from tests.api.blocks import NOON, Request, block, blocks_of, exact_quantile, some_requests
from tests.api.conftest import WriteWindows
from tests.api.test_question import question

NOW = NOON + 2 * HOUR


def _sum(of: Callable[[Request], int]) -> Callable[[Sequence[Request]], float]:
    return lambda requests: sum(of(r) for r in requests)


def _latencies(requests: Sequence[Request]) -> list[int]:
    return [r.latencies["total_us"] for r in requests if "total_us" in r.latencies]


def _priced(requests: Sequence[Request]) -> list[int]:
    return [r.cost_nano_usd for r in requests if r.cost_nano_usd is not None]


COUNTED: dict[Kind, Callable[[Sequence[Request]], float]] = {
    Kind.REQUESTS: len,
    Kind.ERRORS: _sum(lambda r: r.error_type is not None),
    Kind.CACHE: _sum(lambda r: r.cache_hit),
    Kind.TOKENS: _sum(lambda r: r.prompt_tokens + r.completion_tokens),
    Kind.COST: lambda requests: sum(_priced(requests)) / 1e9,
}


def expected(kind: Kind, aggregation: Aggregation, requests: Sequence[Request], seconds: float) -> float:
    if kind is Kind.LATENCY:
        values = _latencies(requests)
        quantiles = {Aggregation.P50: 0.5, Aggregation.P95: 0.95, Aggregation.P99: 0.99}
        if aggregation in quantiles:
            return exact_quantile(values, quantiles[aggregation]) / 1000
        plain = {Aggregation.MIN: min(values), Aggregation.MAX: max(values)}
        return plain.get(aggregation, sum(values) / len(values)) / 1000
    counted = COUNTED[kind](requests)
    if aggregation is Aggregation.RATE:
        return counted / seconds
    if aggregation is Aggregation.SUM:
        return counted
    return counted / len(_priced(requests) if kind is Kind.COST else requests)


async def test_every_figure_equals_that_of_the_requests(
    tables: ClickHouseSettings, write_windows: WriteWindows
) -> None:
    made = some_requests(4_000, NOON, 30 * MINUTE)
    write_windows(blocks_of(made, ["service"], "1m", lambda r: r.at % 4, closed=True))
    by_step: dict[tuple[str, int], list[Request]] = defaultdict(list)
    for request in made:
        by_step[request.service, request.at - request.at % (5 * MINUTE)].append(request)
    async with History(tables) as history:
        for kind, aggregations in UNITS.items():
            for aggregation in aggregations:
                asked = question(
                    kind=kind, aggregation=aggregation, grouping="service", step=Period.FIVE_MINUTES
                )
                answer = await history.ask(asked, NOW)
                assert len(answer.series) == 3
                for line in answer.series:
                    service = line.key["service"]
                    of_service = [r for r in made if r.service == service]
                    assert line.requests == len(of_service)
                    assert line.overall == pytest.approx(
                        expected(kind, aggregation, of_service, 3600), rel=0.01
                    )
                    assert len(line.points) == 12
                    for point in line.points:
                        inside = by_step.get((service, round(point.start.timestamp()) * SECOND))
                        wanted = inside and expected(kind, aggregation, inside, 300)
                        rel = 0.01 if kind is Kind.LATENCY else 1e-9
                        assert point.value == (wanted and pytest.approx(wanted, rel=rel, abs=1e-12))


async def test_gaps_are_null_and_counts_are_whole(
    tables: ClickHouseSettings, write_windows: WriteWindows
) -> None:
    write_windows([(0, *block([Request()] * 3, pane="1m", start=NOON + 2 * MINUTE))])
    async with History(tables) as history:
        answer = await history.ask(question(end=NOON + 4 * MINUTE), NOW)
    assert [point.value for point in answer.series[0].points] == [None, None, 3, None]
    assert '"value":3}' in answer.model_dump_json()


async def test_it_says_what_it_rests_on(tables: ClickHouseSettings, write_windows: WriteWindows) -> None:
    write_windows(
        [
            (0, *block([Request(cost_nano_usd=None)], pane="1m", start=NOON + MINUTE, closed=True)),
            (0, *block([Request()] * 2, pane="1m", start=NOON + 5 * MINUTE)),
        ]
    )
    async with History(tables) as history:
        answer = await history.ask(question(), NOON + HOUR + 10 * MINUTE)
        nothing = await history.ask(question(grouping="user"), NOW)
    coverage = answer.coverage
    assert (coverage.panes, coverage.open_panes, coverage.unpriced) == (2, 1, 1)
    assert coverage.first_pane is not None
    assert coverage.last_pane is not None
    assert (coverage.last_pane - coverage.first_pane).seconds == 240
    assert answer.age_ms == (NOON + HOUR + 10 * MINUTE) // 1000 - 1_777_900_000_000
    assert (nothing.age_ms, nothing.series, nothing.coverage.panes) == (None, [], 0)


async def test_the_newest_state_of_a_block_counts_and_those_born_later_add_to_it(
    tables: ClickHouseSettings, write_windows: WriteWindows
) -> None:
    write_windows([(0, *block([Request()], pane="1m", offset=10))])
    write_windows([(0, *block([Request()] * 4, pane="1m", offset=11))])
    write_windows([(0, *block([Request()] * 2, pane="1m", since=50, offset=60))])
    async with History(tables) as history:
        answer = await history.ask(question(), NOW)
    assert answer.series[0].overall == 6


@pytest.mark.parametrize(("include", "requests"), [("live", 1), ("imported", 2), ("all", 3)])
async def test_live_and_imported_events_are_told_apart(
    tables: ClickHouseSettings, write_windows: WriteWindows, include: str, requests: int
) -> None:
    blocks = [block([Request()], pane="1m"), block([Request()] * 2, pane="1m", imported=True)]
    write_windows([(0, *made) for made in blocks])
    async with History(tables) as history:
        answer = await history.ask(question(include=Include(include)), NOW)
    assert answer.series[0].overall == requests


async def test_keys_select_and_the_largest_groups_come_first(
    tables: ClickHouseSettings, write_windows: WriteWindows
) -> None:
    made = [Request(provider="azure", model=f"m{n}") for n in range(4) for _ in range(n + 1)]
    hostile = Request(provider="o'b", model="\\'); DROP TABLE windows --")
    write_windows([(0, *block([*made, hostile], "model", "1m"))])
    async with History(tables) as history:
        top = await history.ask(question(grouping="model", key=("azure",), limit=2), NOW)
        odd = await history.ask(question(grouping="model", key=(hostile.provider, hostile.model)), NOW)
        await history.ping()
    assert [(s.key["model"], s.requests) for s in top.series] == [("m3", 4), ("m2", 3)]
    assert (top.left_out.groups, top.left_out.requests) == (2, 3)
    assert [s.key for s in odd.series] == [{"provider": hostile.provider, "model": hostile.model}]


async def test_what_could_not_be_priced_is_null(
    tables: ClickHouseSettings, write_windows: WriteWindows
) -> None:
    write_windows([(0, *block([Request(cost_nano_usd=None)], pane="1m"))])
    async with History(tables) as history:
        answer = await history.ask(question(kind=Kind.COST), NOW)
    assert answer.series[0].overall is None


async def test_a_rate_in_the_running_step_is_over_the_time_that_has_passed(
    tables: ClickHouseSettings, write_windows: WriteWindows
) -> None:
    write_windows([(0, *block([Request()] * 30, pane="1m"))])
    async with History(tables) as history:
        asked = question(aggregation=Aggregation.RATE, end=NOON + MINUTE)
        answer = await history.ask(asked, NOON + 10 * SECOND)
    assert answer.series[0].points[0].value == 3


async def test_without_tables_it_says_who_makes_them(database: ClickHouseSettings) -> None:
    async with History(database) as history:
        with pytest.raises(UnavailableError, match="chatgauge sink"):
            await history.ask(question(), NOW)


async def test_a_clickhouse_that_is_away_is_said_to_be(database: ClickHouseSettings) -> None:
    away: dict[str, Any] = {"port": free_port()}
    async with History(database.model_copy(update=away)) as history:
        with pytest.raises(UnavailableError, match="does not answer") as raised:
            await history.ping()
    assert math.isfinite(raised.value.retry_after)
