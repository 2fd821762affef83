"""The queries of raw events, pure: what a caller wrote is always a parameter."""

from typing import Any, Final

from api.alerting.cursor import Cursor
from api.clickhouse import Query
from api.events.selection import TABLES, Place, Selection
from api.live.state import Include
from schemas.time import MINUTE, Micros
from schemas.topics import REQUESTS, SAMPLES, SPANS

_COORDINATES: Final = "_partition AS partition, _offset AS `offset`"
_COLUMNS: Final = {
    REQUESTS.name: (
        "occurred_at, event_id, request_id, trace_id, conversation_id, phase, imported, service, instance, "
        "region, provider, model, operation, space_id, user_id, workflow, workflow_version, experiment, "
        "variant, error_type, retries, finish_reason, cache_hit, streamed, prompt_tokens, cached_tokens, "
        "cache_write_tokens, cache_write_1h_tokens, prompt_audio_tokens, completion_tokens, "
        "reasoning_tokens, completion_audio_tokens, priced_nano_usd / 1e9 AS cost_usd, "
        "total_us / 1000 AS total_ms, context_us / 1000 AS context_ms, model_us / 1000 AS model_ms, "
        "first_token_us / 1000 AS first_token_ms, last_token_us / 1000 AS last_token_ms, output_chunks, "
        f"attributes, {_COORDINATES}"
    ),
    SPANS.name: (
        "occurred_at, event_id, trace_id, span_id, parent_id, depends_on, links, request_id, "
        "conversation_id, phase, kind, name, imported, service, instance, region, space_id, user_id, "
        "workflow, workflow_version, provider, model, operation, duration_us / 1000 AS duration_ms, "
        "error_type, prompt_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens, "
        "prompt_audio_tokens, completion_tokens, reasoning_tokens, completion_audio_tokens, "
        f"cost_nano_usd / 1e9 AS cost_usd, attributes, {_COORDINATES}"
    ),
    SAMPLES.name: (
        f"occurred_at, event_id, imported, service, instance, name, value, state, attributes, {_COORDINATES}"
    ),
}
# The copies of an event may lie in parts of different days.
_FINAL: Final = "SETTINGS do_not_merge_across_partitions_select_final = 0"


def page(wanted: Selection, cursor: Cursor | None, limit: int) -> Query:
    """The events, newest first; behind the cursor, if there is one."""
    where, parameters = _where(wanted)
    if cursor is not None:
        at = "fromUnixTimestamp64Micro({cursor_at:Int64}, 'UTC')"
        # The first of the two is for the index.
        where += f" AND occurred_at <= {at} AND (occurred_at, event_id) < ({at}, {{cursor_id:String}})"
        parameters |= {"cursor_at": cursor.at, "cursor_id": cursor.id}
    text = f"""
        SELECT {_COLUMNS[wanted.topic.name]} FROM {TABLES[wanted.topic.name]} FINAL
        WHERE {where}
        ORDER BY occurred_at DESC, event_id DESC
        LIMIT {{limit:UInt32}} {_FINAL}"""  # noqa: S608 - see above
    return Query(text, parameters | {"limit": limit})


def count(wanted: Selection) -> Query:
    """How many events there are: one row, one figure."""
    where, parameters = _where(wanted)
    text = f"SELECT count() FROM {TABLES[wanted.topic.name]} FINAL WHERE {where} {_FINAL}"  # noqa: S608
    return Query(text, parameters)


def at(place: Place) -> Query:
    """The event of this place: no row, or one. Of one that was sent again, this copy, while it is kept."""
    text = f"""
        SELECT {_COLUMNS[place.topic]} FROM {TABLES[place.topic]}
        WHERE _partition = {{partition:Int32}} AND _offset = {{offset:Int64}}
        LIMIT 1"""  # noqa: S608 - see above
    return Query(text, {"partition": place.partition, "offset": place.offset})


def reached(topic: str) -> Query:
    """Per source partition the highest offset that is stored."""
    # Of each part ClickHouse reads one row, of the projection `reached`.
    text = f"SELECT _partition, max(_offset) FROM {TABLES[topic]} GROUP BY _partition"  # noqa: S608
    return Query(text, {})


def counted(start: Micros, end: Micros) -> Query:
    """Per source partition: up to which offset the windows of [start, end) have counted it, and how many of
    their minutes are open."""
    text = """
        SELECT partition, max(`offset`), countIf(NOT closed AND NOT imported) FROM windows FINAL
        WHERE pane = '1m' AND grouping = 'total' AND partition >= 0
            AND pane_start >= toDateTime({first:Int64}, 'UTC') AND pane_start < toDateTime({end:Int64}, 'UTC')
        GROUP BY partition"""
    return Query(text, {"first": start // MINUTE * 60, "end": -(-end // 1_000_000)})


def newest_pane() -> Query:
    """The end of the newest minute that the windows have, in seconds since 1970: one row; 0 for none."""
    return Query(
        "SELECT if(count() = 0, 0, toUnixTimestamp(max(pane_start)) + 60) FROM windows "
        "WHERE pane = '1m' AND grouping = 'total' AND partition >= 0",
        {},
    )


def _where(wanted: Selection) -> tuple[str, dict[str, Any]]:
    conditions = [
        "occurred_at >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')",
        "occurred_at < fromUnixTimestamp64Micro({end:Int64}, 'UTC')",
    ]
    parameters: dict[str, Any] = {"start": wanted.start, "end": wanted.end}
    if wanted.topic is not SAMPLES:
        conditions.append("phase = 'finished'")
    if wanted.include is not Include.ALL:
        conditions.append("imported" if wanted.include is Include.IMPORTED else "NOT imported")
    for column, value in wanted.equal.items():
        conditions.append(f"{column} = {{of_{column}:String}}")
        parameters[f"of_{column}"] = value
    return " AND ".join(conditions), parameters
