"""Which groups a rule is about."""

import re
from collections.abc import Mapping, Sequence

import polars as pl


def pattern(values: Sequence[str]) -> str:
    """A regular expression for what equals one of the values; `*` in them stands for anything.

    Without anchors it would find parts: it has them. RE2 (ClickHouse), Rust and Python read it alike.
    """
    return f"^(?s:{'|'.join('.*'.join(map(re.escape, value.split('*'))) for value in values)})$"


def selects(filter: Mapping[str, Sequence[str]]) -> pl.Expr:  # noqa: A002 - it is called so in rules
    """Whether a row's keys match: one value of each key that is named. Nothing named: every row."""
    matching = [
        pl.col(key).str.contains(pattern(values))
        if any("*" in v for v in values)
        else pl.col(key).is_in(values)
        for key, values in filter.items()
    ]
    return pl.all_horizontal(matching) if matching else pl.lit(value=True)
