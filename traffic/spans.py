"""The spans of traced requests: the workflow, its context's tool, an agent, a plugin, the model's call."""

import numpy as np
import numpy.typing as npt
import polars as pl

from traffic.product import WORKFLOWS
from traffic.requests import hex_ids

_COPIED = (
    "trace_id",
    "request_id",
    "conversation_id",
    "imported",
    "service",
    "instance",
    "region",
    "space_id",
    "user_id",
    "workflow",
    "workflow_version",
)
_OF_A_CALL = ("provider", "model", "operation")
_USED = (
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "prompt_audio_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "completion_audio_tokens",
    "cost_nano_usd",
)


def spans(requests: pl.DataFrame, rng: np.random.Generator, not_before_us: int) -> pl.DataFrame:
    """Start and end of every span of the traced ones among `requests` (as `traffic.requests.draw` has them).

    The columns of SpanEvent, `_due_us` and `_kind`. A span lies within its parent; the workflow's span is
    the request itself, and the model's has its tokens and cost. The model's call needs what the context's
    tool has found, and a workflow is linked to that of the conversation's turn before it. Nothing is due
    before `not_before_us`, when the block begins.
    """
    traced = requests.filter("_traced")
    size = len(traced)
    began = traced["_due_us"].to_numpy() - traced["total_us"].to_numpy()
    context = traced["context_us"].to_numpy()
    in_model = traced["model_us"].fill_null(0).to_numpy()
    called = traced["model_us"].is_not_null()
    agentic = traced["workflow"] == "agent"
    root, agent, tool, plugin, model = (pl.Series(hex_ids(rng, size, 16)) for _ in range(5))
    inside = agent.zip_with(agentic, root)
    named_root = pl.concat_str("trace_id", pl.lit("/"), "_root").shift(1).over("conversation_id")
    before = (
        traced.with_columns(_root=root)
        .select(pl.when(pl.col("conversation_id").is_not_null()).then(named_root))
        .to_series()
    )
    tools = {flow.name: flow.tool for flow in WORKFLOWS}
    failed = traced["error_type"]

    def of(
        ids: pl.Series,
        parent: pl.Series | None,
        kind: str,
        name: pl.Series,
        start: npt.NDArray[np.int64],
        duration: npt.NDArray[np.int64],
        error: pl.Series | None = None,
        only: pl.Series | None = None,
    ) -> pl.DataFrame:
        frame = traced.select(*_COPIED, *_OF_A_CALL, *_USED).with_columns(
            _tool=tool,
            _before=before,
            span_id=ids,
            parent_id=pl.lit(None, pl.String) if parent is None else parent,
            kind=pl.lit(kind),
            name=name,
            _start=pl.Series(start),
            duration_us=pl.Series(duration),
            error_type=pl.lit(None, pl.String) if error is None else error,
        )
        return frame if only is None else frame.filter(only)

    def named(name: str) -> pl.Series:
        return pl.Series([name]).new_from_index(0, size)

    frames = [
        of(root, None, "workflow", traced["workflow"], began, traced["total_us"].to_numpy(), failed),
        of(agent, root, "agent", named("planner"), began, context + in_model, failed, agentic),
        of(tool, inside, "tool", traced["workflow"].replace_strict(tools), began, context),
        of(plugin, tool, "plugin", named("browser"), began + context // 10, context // 2, None, agentic),
        of(model, inside, "model", traced["model"], began + context, in_model, failed, called),
    ]
    called_here, begun_here = pl.col("kind") == "model", pl.col("kind") == "workflow"
    none = pl.lit([], pl.List(pl.String))
    whole = pl.concat(frames).with_columns(
        *(pl.when(called_here).then(pl.col(name)).alias(name) for name in (*_OF_A_CALL, *_USED)),
        depends_on=pl.when(called_here).then(pl.concat_list("_tool")).otherwise(none),
        links=pl.when(begun_here & pl.col("_before").is_not_null())
        .then(pl.concat_list("_before"))
        .otherwise(none),
    )
    starts = whole.with_columns(
        phase=pl.lit("started"),
        _at="_start",
        duration_us=pl.lit(None, pl.Int64),
        error_type=pl.lit(None, pl.String),
        **{name: pl.lit(None, pl.Int64) for name in _USED},
    )
    ends = whole.with_columns(phase=pl.lit("finished"), _at=pl.col("_start") + pl.col("duration_us"))
    both = pl.concat([starts, ends])
    return both.with_columns(
        event_id=pl.Series(hex_ids(rng, len(both), 32), dtype=pl.String),
        occurred_at=pl.col("_at").cast(pl.Datetime("us", "UTC")),
        _due_us=pl.max_horizontal("_at", pl.lit(not_before_us)),
        _kind=pl.lit("span"),
    ).drop("_start", "_at", "_tool", "_before")
