"""Long windows, put together from merged spans of time: of a few large ones rather than of many panes."""

from collections.abc import Iterator, Sequence

from schemas.time import Micros


def cover(lengths: Sequence[Micros], start: Micros, end: Micros) -> Iterator[tuple[Micros, Micros]]:
    """(start, length) of the fewest spans that make up [start, end).

    `lengths` ascend, each divides the next, and both bounds are multiples of the first.
    """
    while start < end:
        length = next(each for each in reversed(lengths) if start % each == 0 and start + each <= end)
        yield start, length
        start += length
