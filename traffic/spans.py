"""The spans of traced requests: the workflow, its context's tool, an agent, a plugin, the model's call."""

import numpy as np
import numpy.typing as npt
import polars as pl

from traffic.product import WORKFLOWS
from traffic.requests import hex_ids

_COPIED = (
    "trace_id",
    "request_id",
    "imported",
    "service",
    "instance",
    "space_id",
    "user_id",
    "workflow",
    "workflow_version",
)


def spans(requests: pl.DataFrame, rng: np.random.Generator, not_before_us: int) -> pl.DataFrame:
    """Start and end of every span of the traced ones among `requests` (as `traffic.requests.draw` has them).

    The columns of SpanEvent, `_due_us` and `_kind`. A span lies within its parent; the workflow's span is
    the request itself. Nothing is due before `not_before_us`, when the block begins.
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
        frame = traced.select(_COPIED).with_columns(
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
    whole = pl.concat(frames)
    starts = whole.with_columns(
        phase=pl.lit("started"),
        _at="_start",
        duration_us=pl.lit(None, pl.Int64),
        error_type=pl.lit(None, pl.String),
    )
    ends = whole.with_columns(phase=pl.lit("finished"), _at=pl.col("_start") + pl.col("duration_us"))
    both = pl.concat([starts, ends])
    return both.with_columns(
        event_id=pl.Series(hex_ids(rng, len(both), 32), dtype=pl.String),
        occurred_at=pl.col("_at").cast(pl.Datetime("us", "UTC")),
        _due_us=pl.max_horizontal("_at", pl.lit(not_before_us)),
        _kind=pl.lit("span"),
    ).drop("_start", "_at")
