"""Messages that nobody can read, as broken producers send them."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from schemas.wire import SINGLE_OBJECT, SINGLE_OBJECT_SIZE

Ints = npt.NDArray[np.int64]

_EVERY = 1_000


def _truncated(value: bytes, rng: np.random.Generator) -> bytes:
    # Every field is written, so a value that ends early always ends inside one.
    return value[: int(rng.integers(SINGLE_OBJECT_SIZE + 1, len(value) - 1))]


def _garbage(value: bytes, rng: np.random.Generator) -> bytes:
    return b"\xde\xad" + rng.bytes(len(value))


def _unknown_schema(value: bytes, rng: np.random.Generator) -> bytes:
    return SINGLE_OBJECT + rng.bytes(8) + value[SINGLE_OBJECT_SIZE:]


def _left_over(value: bytes, rng: np.random.Generator) -> bytes:
    return value + rng.bytes(int(rng.integers(1, 40)))


def _null(value: bytes, rng: np.random.Generator) -> None:
    return None


KINDS: dict[str, Callable[[bytes, np.random.Generator], bytes | None]] = {
    "truncated": _truncated,
    "garbage": _garbage,
    "unknown schema": _unknown_schema,
    "left-over bytes": _left_over,
    "null": _null,
}


def places(seed: int, corrupt: int, count: int | None) -> Ints:
    """Where in the stream the corrupt messages stand, ascending: after which request each follows.

    Anywhere in a stream of `count` requests; in an endless one, every 1,000 requests until used up.
    """
    if count is None:
        return np.arange(corrupt, dtype=np.int64) * _EVERY + _EVERY // 2
    return np.sort(np.random.default_rng((seed, 4)).integers(0, count, corrupt))


def corrupted(
    seed: int, first: int, stand_at: Ints, values: list[bytes]
) -> Iterator[tuple[int, str, bytes | None]]:
    """The corrupt messages of a block that begins at place `first` with the requests `values`.

    Of each: which row it follows, its kind, and its value, made from that row's. The kinds take turns
    through the stream.
    """
    kinds = list(KINDS.items())
    for turn in range(*np.searchsorted(stand_at, [first, first + len(values)])):
        row = int(stand_at[turn]) - first
        kind, corrupt = kinds[turn % len(kinds)]
        yield row, kind, corrupt(values[row], np.random.default_rng((seed, 5, turn)))
