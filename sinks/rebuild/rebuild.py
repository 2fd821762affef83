"""Rebuilds minutes, one batch after the other.

For each batch of minutes:

1. ask what there is of them, and leave out those whose raw history is not whole;
2. read their raw events, each once, span by span, and count them;
3. write the rows, under a generation of their own, which no reader looks at yet;
4. switch the minutes over to that generation, with one insert.

Killed before 4, nothing has changed, and the rows written are swept up an hour later. What comes after
1 is not counted or not noted as counted: the minute waits again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from schemas.time import Micros
from sinks.rebuild.counting import Counts
from sinks.rebuild.history import History
from sinks.rebuild.minutes import Batch, Outcome, Verdict, batches, judge

_LOOKED_AT: Final = 500
"""Minutes of which is asked at once what there is."""

Clock = Callable[[], int]
"""Nanoseconds since 1970: what tells rebuilds of the same minute apart, and orders them."""


def rebuild(
    history: History,
    minutes: Sequence[Micros],
    *,
    clock: Clock = time.time_ns,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Outcome]:
    """Rebuilds the minutes, until that is no longer wanted; tells after each batch what has become of them.

    Any number may be at it, on the same minutes too: each has its generation, and the last one counts.
    """
    outcome = Outcome()
    oldest = history.oldest_day()
    left = iter(sorted(minutes))
    while some := list(islice(left, _LOOKED_AT)):
        if not wanted():
            return
        looked_at = [(one, judge(one, oldest)) for one in history.evidence(some)]
        outcome.refuse((one.minute, verdict) for one, verdict in looked_at if verdict is not Verdict.WHOLE)
        yield outcome
        for batch in batches([one for one, verdict in looked_at if verdict is Verdict.WHOLE]):
            if not wanted():
                return
            _rebuild(history, batch, clock)
            outcome.rebuilt += len(batch.minutes)
            yield outcome


def _rebuild(history: History, batch: Batch, clock: Clock) -> None:
    # Should the clock have been set back, a rebuild still follows the one before.
    now = clock()
    generations = {one.minute: max(now, one.generation + 1) for one in batch.minutes}
    counts = Counts()
    for start, end in batch.spans:
        counts.add(history.read(start, end))
    history.write(counts.rows(generations), now // 1_000)
    history.switch_over(batch.minutes, generations, counts.requests())
