"""What a well-formed event may still not say: figures and texts that can't be true, or are too large.

Refused are only impossible ones: negative figures, a part of the tokens larger than the whole, an
instant before 1970, figures so large that sums of them could overflow, and texts that are empty (what
is unknown is null) or too long. Latencies aren't held against each other: context and model may
overlap, and are often taken by different timers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import polars as pl

from schemas import contract
from schemas.batch import Batch
from schemas.errors import Reason
from schemas.extremes import any_above, any_below
from schemas.resolution import MICROS, FieldType, field_types

MOST_CHARACTERS = 256
"""Of a text."""
MOST_TOKENS = 10**12
MOST_MICROSECONDS = 30 * 86_400 * 10**6
MOST_NANO_USD = 10**15
"""A million USD."""
MOST_COUNTED = 10**9
"""Chunks of an answer, and retries."""
MOST_ATTRIBUTES = 16
MOST_REFERENCES = 64
"""Of a span to others."""
_ATTRIBUTE = r"(?s)^[^=]{1,64}=.{0,256}$"
_REFERENCE = r"(?s)^.{1,256}$"

_EVENTS = ("RequestEvent", "SpanEvent", "Sample")
_PARTS = (
    ("cached_tokens", "prompt_tokens"),
    ("cache_write_tokens", "prompt_tokens"),
    ("cache_write_1h_tokens", "cache_write_tokens"),
    ("prompt_audio_tokens", "prompt_tokens"),
    ("reasoning_tokens", "completion_tokens"),
    ("completion_audio_tokens", "completion_tokens"),
)


@dataclass(frozen=True)
class Rule:
    """What may not be: `what` says it, of the columns `needs`."""

    what: str
    needs: tuple[str, ...]
    broken: pl.Expr
    """True where the rule is broken; null as false."""
    suspicious: Callable[[pl.DataFrame, pl.DataFrame], bool]
    """Cheap: whether any row of a frame may break the rule. The second frame has the sizes of the first
    one's texts (in bytes) and arrays."""


def refuse_invalid(batch: Batch, record: str) -> Batch:
    """The batch without rows that break a rule of the event `record`.

    Rules are applied of which the batch has all columns: readers that must agree on which events
    count must read the columns of the same rules.
    """
    if batch.frame.height == 0:
        return batch
    held, sizes = _held(record, tuple(batch.frame.columns))
    measured = batch.frame.select_seq(sizes)
    suspects = [rule for rule in held if rule.suspicious(batch.frame, measured)]
    if not suspects:
        return batch
    broken = batch.frame.select(rule.broken.fill_null(False).alias(rule.what) for rule in suspects)
    return batch.refuse_where(broken, Reason.INVALID)


@lru_cache(maxsize=64)
def _held(record: str, columns: tuple[str, ...]) -> tuple[list[Rule], list[pl.Expr]]:
    """The rules that these columns are held to, and the sizes that are looked at for it."""
    held = [rule for rule in rules(record) if set(columns).issuperset(rule.needs)]
    kinds = field_types(contract.schema(record)) if held else {}
    texts = [name for name, kind in kinds.items() if kind.kind == "string" and name in columns]
    arrays = [name for name, kind in kinds.items() if kind.kind == "array" and name in columns]
    return held, [pl.col(texts).str.len_bytes(), pl.col(arrays).list.len()]


@cache
def rules(record: str) -> tuple[Rule, ...]:
    """The rules of RequestEvent, SpanEvent or Sample; other records have none."""
    if record not in _EVENTS:
        return ()
    types = field_types(contract.schema(record))
    found = [rule for name, kind in types.items() for rule in _rules_of(name, kind)]
    for part, whole in _PARTS:
        if part in types:
            found.append(_part_rule(part, whole))
    return tuple(found)


def _part_rule(part: str, whole: str) -> Rule:
    return Rule(
        f"{part} is larger than {whole}",
        (part, whole),
        pl.col(part) > pl.col(whole),
        lambda frame, _: (frame[part] > frame[whole]).any(),
    )


def _rules_of(name: str, kind: FieldType) -> Iterator[Rule]:
    column = pl.col(name)
    if kind.kind == "string":
        hint = "; what is unknown must be null" if kind.nullable else ""
        yield Rule(
            f"{name} is empty{hint}", (name,), column == "", lambda _, sizes: any_below(sizes[name], 1)
        )
        yield Rule(
            f"{name} has more than {MOST_CHARACTERS} characters",
            (name,),
            column.str.len_chars() > MOST_CHARACTERS,
            lambda _, sizes: any_above(sizes[name], MOST_CHARACTERS),
        )
    elif kind.kind == MICROS:
        yield Rule(
            f"{name} is before 1970",
            (name,),
            column.to_physical() < 0,
            lambda frame, _: any_below(frame[name].cast(pl.Int64), 0),
        )
    elif kind.kind == "long":
        most = _most(name)
        yield Rule(f"{name} is negative", (name,), column < 0, lambda frame, _: any_below(frame[name], 0))
        yield Rule(
            f"{name} is over {most}", (name,), column > most, lambda frame, _: any_above(frame[name], most)
        )
    elif kind.kind == "double":
        yield Rule(
            f"{name} is not a finite number",
            (name,),
            ~column.is_finite(),
            lambda frame, _: not frame[name].is_finite().all(),
        )
    elif kind.kind == "array":
        most, item, what = _items(name)
        yield Rule(
            f"{name} has more than {most} items",
            (name,),
            column.list.len() > most,
            lambda _, sizes: any_above(sizes[name], most),
        )
        yield Rule(
            f"{name} has an item that is not {what}",
            (name,),
            ~column.list.eval(pl.element().str.contains(item)).list.all(),
            lambda _, sizes: any_above(sizes[name], 0),
        )


def _items(name: str) -> tuple[int, str, str]:
    """Of an array: how many items it may have, what each must match, and that in words."""
    if name == "attributes":
        return (
            MOST_ATTRIBUTES,
            _ATTRIBUTE,
            f"key=value with a key of at most 64 and a value of at most {MOST_CHARACTERS} characters",
        )
    return MOST_REFERENCES, _REFERENCE, f"a text of 1 to {MOST_CHARACTERS} characters"


def _most(name: str) -> int:
    if name.endswith("_tokens"):
        return MOST_TOKENS
    if name.endswith("_us"):
        return MOST_MICROSECONDS
    if name.endswith("_nano_usd"):
        return MOST_NANO_USD
    if name in ("output_chunks", "retries"):
        return MOST_COUNTED
    raise ValueError(f"{name}: what is the most that it can be? Say so in schemas/validity.py")
