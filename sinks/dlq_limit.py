"""When refusing records has to stop: a limit on the share of a partition that may be dead-lettered.

A few bad records are dead letters. When most are bad, the fault is not theirs: a producer writes another
schema, this version is too old, a topic holds something else. Dead-lettering all of it would only move the
topic elsewhere. The judgement follows from the records alone, in their order: neither time nor the cut of
the fetches plays a part in it. A record batch that can't be read counts as the records that it holds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.batch import Refusal

_LEAST_PART: Final = 10
"""Fewer records than a tenth of the window prove nothing."""
_LONGEST_DETAIL: Final = 300

WHAT_TO_DO: Final = (
    "Nothing is lost: the records wait in Kafka. Mend what produces them, or install the version that knows "
    "their schema, and start the sink again; to dead-letter them all the same, set "
    "CHATGAUGE_SINK_DEAD_LETTER_SHARE=1 until they are through."
)


@dataclass(frozen=True)
class DlqLimit:
    """At most `share` (0 to 1) of the last `window` records of a partition may be refused; 1 allows all."""

    share: float = 0.5
    window: int = 10_000

    @property
    def least(self) -> int:
        """How many records must have been seen before they are judged."""
        return max(1, self.window // _LEAST_PART)


@dataclass(frozen=True)
class Halt:
    """Why a partition is not read on."""

    partition: int
    refused: int
    """Of the last `seen` records up to the one that went beyond the limit."""
    seen: int
    first: Refusal
    """The first refusal among the records that were not taken."""
    reasons: tuple[tuple[str, int], ...]
    """How often each reason occurs among them, the most frequent first."""

    @property
    def found(self) -> str:
        """What was found, in a sentence."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons)
        return (
            f"{self.refused:,} of the last {self.seen:,} records of partition {self.partition} "
            f"can't be taken ({reasons}; offset {self.first.offset}: {self.first.detail[:_LONGEST_DETAIL]})"
        )


class Tally:
    """The refusals among a partition's latest records."""

    def __init__(self, limit: DlqLimit) -> None:
        self._limit = limit
        self._recent: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    def judge(
        self, partition: int, count: int, refused: Sequence[Refusal], lost: Mapping[int, int] | None = None
    ) -> Halt | None:
        """A Halt when the next `count` records go beyond the limit: they then count as not seen.

        `refused` are the refusals among them, in order; their `index` counts from the first of them. `lost`
        says, by that index, for how many records a refusal stands that is of more than one.
        """
        bad = np.zeros(count, np.bool_)
        bad[np.fromiter((r.index for r in refused), np.int64, len(refused))] = True
        # What fills the window alone leaves nothing else to be seen, however many more there are.
        many = {at: min(of, self._limit.window) for at, of in (lost or {}).items()}
        if many:
            times = np.ones(count, np.int64)
            times[list(many)] = list(many.values())
            bad = np.repeat(bad, times)
        marks = np.concatenate([self._recent, bad])
        if refused:
            total = np.concatenate([[0], np.cumsum(marks)])
            ends = np.arange(len(self._recent) + 1, len(marks) + 1)
            begins = np.maximum(ends - self._limit.window, 0)
            seen, found = ends - begins, total[ends] - total[begins]
            beyond = (seen >= self._limit.least) & (found > self._limit.share * seen)
            if beyond.any():
                at = int(beyond.argmax())
                reasons: Counter[str] = Counter()
                for refusal in refused:
                    reasons[refusal.reason.value] += many.get(refusal.index, 1)
                first = refused[0]
                return Halt(partition, int(found[at]), int(seen[at]), first, tuple(reasons.most_common()))
        self._recent = marks[-self._limit.window :]
        return None
