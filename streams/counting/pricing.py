"""What requests cost: a whole batch at once, in exact integers.

The rules, in the order in which they are tried:

1. What the event itself says (`cost_nano_usd`) wins.
2. A request that failed and reports no tokens costs nothing.
3. Without prompt or completion tokens, or with counts that contradict each other (cached tokens beyond
   the prompt's, reasoning tokens beyond the completion's), the event is unpriced.
4. An unknown provider or model, or one that isn't priced per token, is unpriced: null, never 0.
5. Otherwise cached tokens are a part of the prompt's and have their price, the rest of the prompt has
   the prompt's, and reasoning tokens are a part of the completion's.

An answer from the service's own cache needs no rule: it reports what it spent, which may be 0 tokens.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Provider

from streams.counting.rates import UNPRICED, Rates, rates_of
from streams.windows.columns import coded, compress, integers, present

COLUMNS = (
    "provider",
    "model",
    "error_type",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "occurred_at",
)
"""The columns that a frame must have to be priced."""

_MOST_TOKENS = 10**9  # with the highest rates, still within 64 bits
_MOST_PAIRS = 20_000
_PICO_PER_NANO = 1_000
_DAY_US = 86_400_000_000

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_Pair = tuple[str | None, str | None]
"""A provider and a model."""


@dataclass(frozen=True)
class _Table:
    """The rates of all pairs met so far, stacked; `pairs` says which code a pair has.

    Code 0 is the unpriced one. Of code c, the rates begin at row `first[c]`.
    """

    pairs: dict[_Pair, int]
    rates: tuple[Rates, ...]
    first: Ints
    rows: Ints
    """Pico-USD by component (prompt, cached, completion, reasoning, request) and row."""


class PriceList:
    """Prices requests by the list of genai-prices that is installed; it never asks the network.

    What the list says of a provider and model is looked up once. Not for several threads at a time.
    """

    def __init__(self, providers: list[Provider] | None = None) -> None:
        self._providers = get_snapshot().providers if providers is None else providers
        self._table = _stack({}, ())

    def cost(self, frame: pl.DataFrame) -> pl.Series:
        """The cost of each row in nano-USD (Int64, `cost_nano_usd`), null where it can't be priced.

        `frame` has `COLUMNS`; `occurred_at` is a datetime, or microseconds since 1970 (UTC). Rounded to
        whole nano-USD once per row, half to even.
        """
        codes = self._codes(frame)
        prompt, no_prompt = _counts(frame, "prompt_tokens")
        completion, no_completion = _counts(frame, "completion_tokens")
        cached, _ = _counts(frame, "cached_tokens")
        reasoning, _ = _counts(frame, "reasoning_tokens")
        reported = (prompt, completion)
        sound = ~(no_prompt | no_completion)
        for part, whole in ((cached, prompt), (reasoning, completion)):
            sound &= (part >= 0) & (part <= whole) & (whole <= _MOST_TOKENS)
        if not sound.all():  # keeps the arithmetic below within 64 bits
            prompt, cached, completion, reasoning = (
                np.where(sound, count, 0) for count in (prompt, cached, completion, reasoning)
            )

        rows = self._rows(codes, prompt, frame["occurred_at"])
        pico = self._table.rows[4][rows]
        priced = sound & (pico != UNPRICED)
        for component, tokens in enumerate((prompt - cached, cached, completion - reasoning, reasoning)):
            rates = self._table.rows[component][rows]
            priced &= (rates != UNPRICED) | (tokens == 0)
            pico += rates * tokens
        nano = _half_even(pico, _PICO_PER_NANO)

        free = _there(frame["error_type"]) & (reported[0] == 0) & (reported[1] == 0)
        nano[free] = 0
        given, is_given = integers(_whole(frame["cost_nano_usd"]))
        is_given = np.ones(len(given), np.bool_) if is_given is None else is_given
        known = priced | free | is_given
        return pl.Series("cost_nano_usd", pa.array(np.where(is_given, given, nano), mask=~known))

    def _codes(self, frame: pl.DataFrame) -> Ints:
        """The code of each row's provider and model; new ones are looked up and added."""
        if frame.height == 0:
            return np.empty(0, np.int64)
        providers, models = coded(frame["provider"]), coded(frame["model"])
        # Moved up by one, so that null is 0.
        names = [None, *providers.values], [None, *models.values]
        width = len(names[1])
        both = (providers.codes + 1) * width + models.codes + 1
        occurring, places = compress(both, len(names[0]) * width)
        pairs = [(names[0][code // width], names[1][code % width]) for code in occurring.tolist()]
        new = [pair for pair in pairs if pair not in self._table.pairs]
        if new:
            if len(self._table.pairs) + len(new) > _MOST_PAIRS:  # somebody sends invented names: start anew
                self._table = _stack({}, ())
                new = pairs
            self._add(new)
        return np.array([self._table.pairs[pair] for pair in pairs], np.int64)[places]

    def _add(self, pairs: list[_Pair]) -> None:
        rates = list(self._table.rates)
        added = {}
        for provider, model in pairs:
            found = rates_of(self._providers, provider, model) if provider and model else None
            added[provider, model] = len(rates) + 1 if found else 0
            rates += [found] if found else []
        self._table = _stack(self._table.pairs | added, tuple(rates))

    def _rows(self, codes: Ints, prompt: Ints, occurred_at: pl.Series) -> Ints:
        """Which row of rates holds for each event: that of its model, day, hour and tier."""
        table = self._table
        rows: Ints = table.first[codes]
        used = np.flatnonzero(np.bincount(codes, minlength=len(table.first)))
        times: Ints | None = None
        for code in used[used > 0]:
            rates = table.rates[code - 1]
            if not (rates.days_us or rates.hours_us or rates.tiers):
                continue
            if times is None:
                times = _microseconds(occurred_at)
            of_model = np.flatnonzero(codes == code)
            at = times[of_model]
            day = np.searchsorted(np.asarray(rates.days_us, np.int64), at, side="right")
            hour = np.searchsorted(np.asarray(rates.hours_us, np.int64), at % _DAY_US, side="right")
            tier = np.searchsorted(np.asarray(rates.tiers, np.int64), prompt[of_model], side="left")
            rows[of_model] += (day * (len(rates.hours_us) + 1) + hour) * (len(rates.tiers) + 1) + tier
        return rows


_NOTHING = (UNPRICED,) * 5


def _stack(pairs: dict[_Pair, int], rates: tuple[Rates, ...]) -> _Table:
    rows = [_NOTHING, *(row for one in rates for row in one.rows)]
    sizes = [1, *(len(one.rows) for one in rates)]
    first = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
    return _Table(pairs, rates, first, np.ascontiguousarray(np.array(rows, np.int64).T))


def _counts(frame: pl.DataFrame, column: str) -> tuple[Ints, Flags]:
    """A column of token counts with 0 for null, and where it was null."""
    counts, there = integers(_whole(frame[column]))
    if there is None:
        return counts, np.zeros(len(counts), np.bool_)
    return np.where(there, counts, 0), ~there


def _whole(series: pl.Series) -> pl.Series:
    return series if series.dtype == pl.Int64 else series.cast(pl.Int64)


def _there(series: pl.Series) -> Flags:
    there = present(series.to_arrow())
    return np.ones(len(series), np.bool_) if there is None else there


def _microseconds(times: pl.Series) -> Ints:
    epoch = times.dt.timestamp("us") if isinstance(times.dtype, pl.Datetime) else times.cast(pl.Int64)
    return epoch.to_numpy()


def _half_even(values: Ints, unit: int) -> Ints:
    """`values / unit`, rounded to whole numbers, half to even; values are not negative."""
    whole, rest = np.divmod(values, unit)
    twice = rest * 2
    whole += (twice > unit) | ((twice == unit) & (whole % 2 == 1))
    return whole
