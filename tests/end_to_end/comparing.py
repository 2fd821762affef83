"""What a running stack has made of its traffic, held against the recomputation."""

from collections.abc import Mapping
from datetime import datetime

from tests.end_to_end.published import figures_of, newest_blocks, records_of
from tests.end_to_end.recomputation import (
    COUNTED,
    KEYS,
    LATENCIES,
    SECOND,
    SUMS,
    Figures,
    Group,
    Latency,
    Place,
    Recomputation,
    assert_same,
    differences,
    micros,
    recompute,
)
from tests.end_to_end.stack import Stack, wait_until

Counts = dict[tuple[str, ...], tuple[int, ...]]
"""By group: how many of each."""


def recomputed(stack: Stack) -> Recomputation:
    """From chat.requests as it lies there; prices as the raw history has them."""
    prices = stack.query(
        "SELECT _partition, _offset, priced_nano_usd FROM events FINAL WHERE phase = 'finished'"
    )
    price_of: dict[Place, int | None] = {(partition, offset): price for partition, offset, price in prices}
    return recompute(stack.log.records("chat.requests"), price_of)


def published(stack: Stack) -> dict[Group, Figures]:
    """From chat.windows and chat.usage: minutes and days."""
    blocks = newest_blocks(stack.log, "chat.windows") + newest_blocks(stack.log, "chat.usage")
    return figures_of(block for block in blocks if block["pane"] != "1s")


def assert_published(stack: Stack, expected: Recomputation) -> None:
    """Every figure of every group, sketches too: nothing missing, nothing more, nothing else."""
    assert {(group.pane, group.grouping) for group in expected.figures} == set(COUNTED)
    assert_same(expected.figures, published(stack))


def assert_in_clickhouse(stack: Stack, expected: Recomputation) -> None:
    """The same, of minutes; but for the sketches, which ClickHouse holds as states of its own."""
    minutes = {group: figures for group, figures in expected.figures.items() if group.pane == "1m"}
    assert_same(without_sketches(minutes), in_clickhouse(stack, "1m", "pane_start"))


def assert_rebuilt(stack: Stack, history: Mapping[Group, Figures]) -> None:
    """Minutes and days hold every event once, however late it came."""
    days = {group: Figures(figures.sums) for group, figures in history.items() if group.pane == "1d"}
    minutes = {group: figures for group, figures in history.items() if group.pane == "1m"}
    assert_same(without_sketches(minutes), in_clickhouse(stack, "1m", "pane_start"))
    found = in_clickhouse(stack, "1d", "toDateTime(day, 'UTC')")
    keyed = {group: Figures(figures.sums) for group, figures in found.items()}
    assert_same(
        days, {group: figures for group, figures in keyed.items() if ("1d", group.grouping) in COUNTED}
    )


def in_clickhouse(stack: Stack, pane: str, start: str) -> dict[Group, Figures]:
    """Minutes, added up by `start`; without the sketches."""
    sums = ", ".join(f"sum({name})" for name in SUMS)
    latencies = ", ".join(
        f"sum({name}_count), sum({name}_sum), min({name}_min), max({name}_max)" for name in LATENCIES
    )
    rows = stack.query(
        f"SELECT toUnixTimestamp({start}) AS start, grouping, key1, key2, {sums}, {latencies} "
        "FROM window_rows WHERE pane = '1m' GROUP BY start, grouping, key1, key2"
    )
    found: dict[Group, Figures] = {}
    for begin, grouping, key1, key2, *figures in rows:
        key = (key1, key2)[: len(KEYS[grouping])]
        found[Group(pane, begin * SECOND, grouping, key)] = Figures(
            figures[: len(SUMS)], _latencies(figures[len(SUMS) :])
        )
    return found


def _latencies(figures: list[int]) -> dict[str, Latency]:
    fours = [figures[at : at + 4] for at in range(0, len(figures), 4)]
    return {
        name: Latency(count, total, least, most)
        for name, (count, total, least, most) in zip(LATENCIES, fours, strict=True)
        if count
    }


def without_sketches(figures: Mapping[Group, Figures]) -> dict[Group, Figures]:
    return {
        group: Figures(
            one.sums,
            {name: Latency(had.count, had.sum, had.min, had.max) for name, had in one.latencies.items()},
        )
        for group, one in figures.items()
    }


def assert_raw_history(stack: Stack, expected: Recomputation, *, repeated: bool = False) -> None:
    """Every event that can be read is a row of its own, as it was sent: no other, and none twice.

    An insert may have been `repeated`, by a sink whose predecessor was killed: then ClickHouse merges.
    """
    rows = stack.query(
        "SELECT _partition, _offset, event_id, phase, toUnixTimestamp64Micro(occurred_at), user_id, "
        f"prompt_tokens, total_us FROM events {'FINAL' if repeated else ''}"
    )
    found = {(partition, offset): tuple(values) for partition, offset, *values in rows}
    assert len(found) == len(rows), "a row twice"
    sent = {
        place: (
            event["event_id"],
            event["phase"],
            micros(event["occurred_at"]),
            event["user_id"],
            event["prompt_tokens"],
            event["total_us"],
        )
        for place, event in expected.requests.items()
    }
    assert_same(sent, found)


def dead_letters(stack: Stack) -> list[tuple[Place, str]]:
    """From chat.dead-letters: where each refused record lies, and why it was refused."""
    letters = [
        letter
        for _, letter in records_of(stack.log, "chat.dead-letters", "dead_letter")
        if letter is not None
    ]
    assert {letter["topic"] for letter in letters} <= {"chat.requests"}
    return [((letter["partition"], letter["offset"]), letter["reason"]) for letter in letters]


def assert_refused_in_clickhouse(stack: Stack, expected: Recomputation) -> None:
    """Each refused record is one row, whole."""
    rows = stack.query(
        "SELECT topic, partition, offset, reason, hex(key), hex(value) FROM dead_letters FINAL"
    )
    assert len(rows) == len(expected.refused)
    whole = {(one.partition, one.offset): one for one in stack.log.records("chat.requests")}
    assert_same(
        {
            ("chat.requests", *place): (
                reason,
                (whole[place].key or b"").hex().upper(),
                (whole[place].value or b"").hex().upper(),
            )
            for place, reason in expected.refused.items()
        },
        {
            (topic, partition, offset): (reason, key or "", value or "")
            for topic, partition, offset, reason, key, value in rows
        },
    )


def assert_live(stack: Stack, expected: Recomputation, grouping: str, window: str) -> None:
    """The API's live figures come to be those of the minutes in the window. Nothing is being sent."""

    def counts() -> tuple[Counts, Counts]:
        asked: dict[str, str | int] = {"window": window, "grouping": grouping, "limit": 1_000}
        answer = stack.api.get("/api/metrics/current", params=asked)
        assert answer.status_code == 200, answer.text
        begin = micros(datetime.fromisoformat(answer.json()["window"]["start"]))
        wanted: Counts = {}
        for group, figures in expected.figures.items():
            if (group.pane, group.grouping) == ("1m", grouping) and group.start >= begin:
                had = wanted.get(group.key, (0,) * len(_LIVE))
                of_group = [figures.sums[SUMS.index(name)] for name in _LIVE]
                wanted[group.key] = tuple(a + b for a, b in zip(had, of_group, strict=True))
        found: Counts = {
            tuple(one["key"][name] for name in KEYS[grouping]): (
                one["requests"],
                one["errors"],
                one["cache_hits"],
                one["tokens"]["prompt"],
                one["tokens"]["completion"],
                one["unpriced"],
            )
            for one in answer.json()["groups"]
        }
        return wanted, found

    def agrees() -> bool:
        wanted, found = counts()
        return wanted == found

    wait_until(
        f"the live figures by {grouping} are those recomputed: {differences(*counts())}", agrees, within_s=60
    )


_LIVE = ("requests", "errors", "cache_hits", "prompt_tokens", "completion_tokens", "unpriced")
