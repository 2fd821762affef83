"""Whether a column goes beyond a bound: a glance at its least and its largest value, without a query."""

from typing import cast

import polars as pl


def any_below(whole: pl.Series, limit: int) -> bool:
    """Whether any of these whole numbers is less; nulls aren't."""
    least = cast("int | None", whole.min())
    return least is not None and least < limit


def any_above(whole: pl.Series, limit: int) -> bool:
    """Whether any of these whole numbers is greater; nulls aren't."""
    most = cast("int | None", whole.max())
    return most is not None and most > limit
