"""What a fetch brings of several partitions, to be read at once.

Reading a few records costs by the call, not by the record: four partitions with 25 records each take four
times as long as one with 100.
"""

from collections.abc import Sequence
from typing import Any, Final

Fetch = Sequence[Sequence[Any]]
"""The records of each partition."""

_FEW: Final = 5_000
"""Records of a fetch up to which it is worth while."""


class Part(list[Any]):
    """The records of one partition, the `place`-th of `fetch`."""

    def __init__(self, fetch: Fetch, place: int) -> None:
        super().__init__(fetch[place])
        self.fetch = fetch
        self.place = place


def parts(fetch: Fetch) -> Fetch:
    """The records of each partition, as parts of their fetch if they are few."""
    if len(fetch) < 2 or sum(map(len, fetch)) > _FEW:
        return fetch
    return [Part(fetch, place) for place in range(len(fetch))]
