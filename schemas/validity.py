"""What a well-formed event may still not say: figures and texts that can't be true, or are too large.

Refused are only impossible ones: negative figures, a part of the tokens larger than the whole, an
instant before 1970, figures so large that sums of them could overflow, and texts that are empty (what
is unknown is null) or too long. Latencies aren't held against each other: context and model may
overlap, and are often taken by different timers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import polars as pl

from schemas import contract
from schemas.batch import Batch
from schemas.errors import Reason
from schemas.resolution import MICROS, FieldType, field_types

MOST_CHARACTERS = 256
"""Of a text."""
MOST_TOKENS = 10**12
MOST_MICROSECONDS = 30 * 86_400 * 10**6
MOST_NANO_USD = 10**15
"""A million USD."""
MOST_ATTRIBUTES = 16
_ATTRIBUTE = r"(?s)^[^=]{1,64}=.{0,256}$"

_EVENTS = ("RequestEvent", "SpanEvent", "Sample")
_PARTS = (("cached_tokens", "prompt_tokens"), ("reasoning_tokens", "completion_tokens"))


@dataclass(frozen=True)
class Rule:
    """What may not be: `what` says it, of the columns `needs`."""

    what: str
    needs: tuple[str, ...]
    broken: pl.Expr
    """True where the rule is broken; null as false."""
    suspicious: pl.Expr
    """One cheap Boolean for the whole frame, true if any row may break the rule."""


def refuse_invalid(batch: Batch, record: str) -> Batch:
    """The batch without rows that break a rule of the event `record`.

    Rules are applied of which the batch has all columns: readers that must agree on which events
    count must read the columns of the same rules.
    """
    if batch.frame.height == 0:
        return batch
    present = set(batch.frame.columns)
    held = [rule for rule in rules(record) if present.issuperset(rule.needs)]
    if not held:
        return batch
    verdict = batch.frame.select(rule.suspicious.alias(rule.what) for rule in held).row(0)
    suspects = [rule for rule, suspicious in zip(held, verdict, strict=True) if suspicious]
    if not suspects:
        return batch
    broken = batch.frame.select(rule.broken.fill_null(False).alias(rule.what) for rule in suspects)
    return batch.refuse_where(broken, Reason.INVALID)


@cache
def rules(record: str) -> tuple[Rule, ...]:
    """The rules of RequestEvent, SpanEvent or Sample; other records have none."""
    if record not in _EVENTS:
        return ()
    types = field_types(contract.schema(record))
    found = [rule for name, kind in types.items() for rule in _rules_of(name, kind)]
    for part, whole in _PARTS:
        if part in types:
            larger = pl.col(part) > pl.col(whole)
            found.append(Rule(f"{part} is larger than {whole}", (part, whole), larger, larger.any()))
    return tuple(found)


def _rules_of(name: str, kind: FieldType) -> Iterator[Rule]:
    column = pl.col(name)
    if kind.kind == "string":
        hint = "; what is unknown must be null" if kind.nullable else ""
        size = column.str.len_bytes()
        yield Rule(f"{name} is empty{hint}", (name,), column == "", size.min() == 0)
        yield Rule(
            f"{name} has more than {MOST_CHARACTERS} characters",
            (name,),
            column.str.len_chars() > MOST_CHARACTERS,
            size.max() > MOST_CHARACTERS,
        )
    elif kind.kind == MICROS:
        before = column.to_physical()
        yield Rule(f"{name} is before 1970", (name,), before < 0, before.min() < 0)
    elif kind.kind == "long":
        most = _most(name)
        yield Rule(f"{name} is negative", (name,), column < 0, column.min() < 0)
        yield Rule(f"{name} is over {most}", (name,), column > most, column.max() > most)
    elif kind.kind == "double":
        endless = ~column.is_finite()
        yield Rule(f"{name} is not a finite number", (name,), endless, endless.any())
    elif kind.kind == "array":
        length = column.list.len()
        yield Rule(
            f"{name} has more than {MOST_ATTRIBUTES} items",
            (name,),
            length > MOST_ATTRIBUTES,
            length.max() > MOST_ATTRIBUTES,
        )
        yield Rule(
            f"{name} has an item that is not key=value with a key of at most 64 and a value of at most "
            f"{MOST_CHARACTERS} characters",
            (name,),
            ~column.list.eval(pl.element().str.contains(_ATTRIBUTE)).list.all(),
            length.max() > 0,
        )


def _most(name: str) -> int:
    if name.endswith("_tokens"):
        return MOST_TOKENS
    if name.endswith("_us"):
        return MOST_MICROSECONDS
    if name.endswith("_nano_usd"):
        return MOST_NANO_USD
    raise ValueError(f"{name}: what is the most that it can be? Say so in schemas/validity.py")
