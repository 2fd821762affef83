"""The views of windowed figures, from the catalogue: rows that count, sums, latencies, and one of each per
grouping."""

from collections.abc import Iterator, Sequence
from typing import Final

from sinks.views.view import Column, View, parameterized, view
from streams.catalogue.groupings import GROUPINGS, KEYS, Grouping
from streams.catalogue.measures import COUNTED, LABELS, TIMED, TOKENS, Latency
from streams.catalogue.panes import ONE_MINUTE, PANES

QUANTILES: Final = (0.5, 0.95, 0.99)
_LEVELS: Final = ", ".join(map(str, QUANTILES))
_SKETCH: Final = f"AggregateFunction(quantilesDD(0.01, {_LEVELS}), Float64)"
_MERGE: Final = f"quantilesDDMerge(0.01, {_LEVELS})"


def _either(names: Sequence[str]) -> str:
    """As in "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


_IN_HISTORY: Final = _either([pane.name for pane in PANES.values() if pane.in_history])

_PANE: Final = Column("pane", "LowCardinality(String)", f"Length of the pane: {_IN_HISTORY}.")
_GROUPING: Final = Column("grouping", "LowCardinality(String)", f"{_either(list(GROUPINGS))}.")
_START: Final = Column("pane_start", "DateTime('UTC')", "Start of the pane.")
_MINUTE: Final = Column("minute", "DateTime('UTC')", "Start of the minute.")
_DAY_OF_PANE: Final = Column("day", "Date", "The day that the pane begins on, in the configured time zone.")
_DAY: Final = Column("day", "Date", "The day, in the configured time zone.")
_KEY1: Final = Column("key1", "String", "First key of the grouping; empty for total.")
_KEY2: Final = Column("key2", "String", "Second key of the grouping; else empty.")
_GROUP: Final = (_PANE, _GROUPING, _START, _DAY_OF_PANE, _KEY1, _KEY2)
"""What a group of a pane is known by …"""
_BY_GROUP: Final = ", ".join(column.name for column in _GROUP)
"""… as SQL lists it."""

_KNOWN: Final = tuple(
    Column(each.name, "Int64", each.doc) for each in COUNTED if each.name not in ("cost_nano_usd", "unpriced")
)
_TOTAL_TOKENS: Final = Column("total_tokens", "Int64", "Prompt and completion tokens.")
_COST: Final = (
    Column("cost_usd", "Nullable(Float64)", "Cost in USD of what could be priced; NULL when nothing could."),
    Column("unpriced", "Int64", "Requests that could not be priced, and are not in cost_usd."),
)
_SUMS: Final = (*_KNOWN, *_COST)
_LATENCY: Final = (
    Column("measure", "String", f"{_either(LABELS)}."),
    Column("requests", "Int64", "Requests that report the measure."),
    Column("avg", "Float64", "Mean, in milliseconds."),
    Column("p50", "Float64", "Median, in milliseconds, to 1 %."),
    Column("p95", "Float64", "95 of 100 requests took at most this, in milliseconds, to 1 %."),
    Column("p99", "Float64", "99 of 100 requests took at most this, in milliseconds, to 1 %."),
    Column("min", "Float64", "Least, in milliseconds."),
    Column("max", "Float64", "Greatest, in milliseconds."),
)

# What could not be priced is not free: where nothing could be, the cost is NULL and never 0.
_COST_SQL: Final = "if(sum(w.cost_nano_usd) = 0 AND sum(w.unpriced) > 0, NULL, sum(w.cost_nano_usd) / 1e9)"
_SQL: Final = {
    **{column.name: f"sum(w.{column.name})" for column in _KNOWN},
    "total_tokens": "sum(w.prompt_tokens) + sum(w.completion_tokens)",
    "cost_usd": _COST_SQL,
    "unpriced": "sum(w.unpriced)",
}
_BY_DAY: Final = {
    "tokens_by_space": ("space", ("requests", "errors"), "Tokens and cost per day and space."),
    "tokens_by_user": ("user", ("requests", "errors"), "Tokens and cost per day and user."),
    "cost_by_day": ("model", ("requests",), "Cost per day, provider and model."),
}
"""Per view its grouping, what it has beside tokens and cost, and what it is."""
_NAMES: Final = {"total": "{}_total_per_minute", "service": "{}_per_minute", "error": "{}_by_type"}
"""How the views of a grouping are called, where it isn't {}_by_<grouping>."""


def views() -> Iterator[View]:
    """All of them, in an order in which each can be made."""
    yield _rows()
    yield _sums()
    yield _latencies()
    for grouping in GROUPINGS.values():
        yield _errors(grouping) if grouping.name == "error" else _requests(grouping)
    for name in _BY_DAY:
        yield _by_day(name)
    for grouping in GROUPINGS.values():
        if grouping.latencies and grouping.name != "error":
            yield _latency(grouping)
    yield _requests_per_period()
    yield _latency_per_period()


def _rows() -> View:
    columns = [
        _PANE,
        _GROUPING,
        _START,
        _KEY1._replace(doc=f"First key of the grouping: {_keys(0)}; empty for total."),
        _KEY2._replace(doc=f"Second key of the grouping: {_keys(1)}; else empty."),
        Column(
            "partition",
            "Int32",
            "Source partition, of chat.requests; -1: rebuilt from the raw events of all.",
        ),
        Column("imported", "Bool", "Counts imported events; live ones have rows of their own."),
        Column("bucket", "Int32", "Which part of the keys of the grouping, by hash."),
        Column(
            "since",
            "Int64",
            "Offset of the first event counted. A block born after its predecessor was expired has a later "
            "one, and adds to it. Of a rebuilt minute: the generation.",
        ),
        Column(
            "offset",
            "Int64",
            "Every event of the source partition up to and including this offset is counted.",
        ),
        Column("revision", "Int32", "How often the block was corrected after its pane had closed."),
        Column(
            "version",
            "UInt64",
            "Orders the states of a block: offset, then revision, then open before closed.",
        ),
        Column("closed", "Bool", "The watermark of the source partition has passed the end of the pane."),
        Column(
            "watermark",
            "DateTime64(6, 'UTC')",
            "The watermark of the source partition when the block was written.",
        ),
        _DAY_OF_PANE,
        Column("written_at", "DateTime('UTC')", "When the sink wrote the row."),
        *(Column(each.name, "Int64", each.doc) for each in COUNTED),
        *(column for each in TIMED for column in _stored(each)),
    ]
    minute = ONE_MINUTE.name
    names = ", ".join(f"`{column.name}`" for column in columns)
    query = f"""SELECT {names}
FROM windows FINAL
WHERE if(
    partition < 0,
    (pane_start, since) IN (SELECT minute, generation FROM rebuilt_minutes FINAL),
    pane != '{minute}' OR pane_start NOT IN (SELECT minute FROM rebuilt_minutes)
)
SETTINGS do_not_merge_across_partitions_select_final = 1"""  # noqa: S608 - of the catalogue
    doc = (
        "The rows of windows that count: the rebuilt ones of minutes that were rebuilt, the streamed ones of "
        "the others."
    )
    return view("window_rows", doc, columns, query)


def _keys(place: int) -> str:
    names = dict.fromkeys(each.keys[place] for each in GROUPINGS.values() if len(each.keys) > place)
    return _either(list(names))


def _stored(latency: Latency) -> list[Column]:
    name, doc = latency.name, latency.doc
    return [
        Column(f"{name}_count", "Int64", f"{doc}: requests that report it."),
        Column(f"{name}_sum", "Int64", f"{doc}: sum, in microseconds."),
        Column(f"{name}_min", "Nullable(Int64)", f"{doc}: least, in microseconds."),
        Column(f"{name}_max", "Nullable(Int64)", f"{doc}: greatest, in microseconds."),
        Column(
            f"{name}_sketch",
            _SKETCH,
            f"{doc}: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).",
        ),
    ]


def _sums() -> View:
    query = f"SELECT\n    {_BY_GROUP},\n    {_selected(_SUMS)}\nFROM window_rows AS w\nGROUP BY {_BY_GROUP}"
    doc = "Counts, tokens and cost of every pane and group, all partitions added up."
    return view("window_sums", doc, (*_GROUP, *_SUMS), query)


def _selected(columns: tuple[Column, ...]) -> str:
    return ",\n    ".join(f"{_SQL[column.name]} AS {column.name}" for column in columns)


def _latencies() -> View:
    doc = "Latencies of every pane and group, all partitions merged."
    return view("window_latency", doc, (*_GROUP, *_LATENCY), _latency_query(_BY_GROUP, _BY_GROUP, ""))


def _latency_query(by: str, group: str, where: str) -> str:
    """One row per measure that has values, by the expressions `by`, whose names are `group`."""
    figures = ",\n        ".join(
        f"tuple(sum({each.name}_count), sum({each.name}_sum), min({each.name}_min), max({each.name}_max), "
        f"{_MERGE}({each.name}_sketch)) AS {each.label}"
        for each in TIMED
    )
    carried = ", ".join(f"'{each.name}'" for each in GROUPINGS.values() if each.latencies)
    labels = ", ".join(f"'{label}'" for label in LABELS)
    # A bucket's value may lie just outside what was measured: the bounds are known exactly.
    quantiles = ",\n    ".join(
        f"least(greatest(figures.5[{place}], min * 1000), max * 1000) / 1000 AS p{round(100 * level)}"
        for place, level in enumerate(QUANTILES, 1)
    )
    return f"""SELECT
    {group},
    measure,
    figures.1 AS requests,
    figures.2 / figures.1 / 1000 AS avg,
    {quantiles},
    assumeNotNull(figures.3) / 1000 AS min,
    assumeNotNull(figures.4) / 1000 AS max
FROM
(
    SELECT
        {by},
        {figures}
    FROM window_rows
    WHERE grouping IN ({carried}){where}
    GROUP BY {group}
)
ARRAY JOIN [{labels}] AS measure, [{", ".join(LABELS)}] AS figures
WHERE figures.1 > 0"""  # noqa: S608 - of the catalogue


def _key_columns(grouping: Grouping) -> tuple[Column, ...]:
    return tuple(Column(key, "String", KEYS[key]) for key in grouping.keys)


def _named(grouping: Grouping) -> str:
    return "".join(f", key{place} AS {key}" for place, key in enumerate(grouping.keys, 1))


def _by(grouping: Grouping) -> str:
    """What a row of the grouping is for, in words."""
    return f"per minute, by {grouping.doc}" if grouping.keys else f"per minute, {grouping.doc}"


def _minutes_of(grouping: str) -> str:
    return f"pane = '{ONE_MINUTE.name}' AND grouping = '{grouping}'"


def _per_minute(grouping: Grouping, of: str, source: str, columns: tuple[Column, ...], doc: str) -> View:
    """The grouping's minutes in one of the views of all panes."""
    names = ", ".join(column.name for column in columns)
    query = f"""SELECT
    pane_start AS minute{_named(grouping)}, {names}
FROM {source}
WHERE {_minutes_of(grouping.name)}"""  # noqa: S608 - of the catalogue
    name = _NAMES.get(grouping.name, f"{{}}_by_{grouping.name}").format(of)
    return view(name, doc, (_MINUTE, *_key_columns(grouping), *columns), query)


def _requests(grouping: Grouping) -> View:
    doc = f"Requests, tokens and cost {_by(grouping)}."
    return _per_minute(grouping, "requests", "window_sums", _SUMS, doc)


def _errors(grouping: Grouping) -> View:
    errors = (Column("errors", "Int64", "Requests that failed in this way."),)
    doc = "Failed requests per minute and kind of failure."
    return _per_minute(grouping, "errors", "window_sums", errors, doc)


def _latency(grouping: Grouping) -> View:
    return _per_minute(grouping, "latency", "window_latency", _LATENCY, f"Latencies {_by(grouping)}.")


def _by_day(name: str) -> View:
    of, beside, doc = _BY_DAY[name]
    grouping = GROUPINGS[of]
    tokens = () if name == "cost_by_day" else tuple(f"{kind}_tokens" for kind in TOKENS)
    counted = tuple(column for column in _KNOWN if column.name in (*beside, *tokens))
    figures = (*counted, _TOTAL_TOKENS, *_COST)
    query = f"""SELECT
    day{_named(grouping)},
    {_selected(figures)}
FROM window_rows AS w
WHERE {_minutes_of(of)}
GROUP BY day, {", ".join(grouping.keys)}"""  # noqa: S608 - of the catalogue
    return view(name, doc, (_DAY, *_key_columns(grouping), *figures), query)


_STEPS: Final = "step (hour, day, week from Monday, month) of a time zone"
_PERIOD: Final = "toDateTime(dateTrunc({step:String}, pane_start, {zone:String}), {zone:String}) AS period"
_OF_GROUPING: Final = f"pane = '{ONE_MINUTE.name}' AND grouping = {{grouping:String}}"


def _requests_per_period() -> View:
    return parameterized(
        "requests_per_period",
        f"Requests, tokens and cost per {_STEPS}, by a grouping.",
        f"SELECT {_PERIOD}, key1, key2,\n    {_selected((*_KNOWN, _TOTAL_TOKENS, *_COST))}\n"
        f"FROM window_rows AS w\nWHERE {_OF_GROUPING}\nGROUP BY period, key1, key2",
    )


def _latency_per_period() -> View:
    by = f"{_PERIOD}, key1, key2"
    return parameterized(
        "latency_per_period",
        f"Latencies per {_STEPS}, by a grouping.",
        _latency_query(by, "period, key1, key2", f" AND {_OF_GROUPING}"),
    )
