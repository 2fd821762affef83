"""What was refused of a fetch, as dead letters: where each record lay, why it was refused, and the record."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, overload

from schemas.batch import Refusal
from schemas.raw import Rows

REFUSED_BY: Final = "sink"
_KIB: Final = 1024


class Refused(NamedTuple):
    """A refusal of the `source`-th source that was read."""

    source: int
    partition: int
    arrived_us: int
    refusal: Refusal


class Letters(Sequence[Mapping[str, Any]]):
    """Dead letters, each made when it is asked for: it takes its record to be unpacked again, and only those
    at hand are in memory. Ask in order, from one thread."""

    def __init__(self, topic: str, rows: Rows, refused: Sequence[Refused], refused_at: int) -> None:
        self._topic = topic
        self._rows = rows
        self._refused = refused
        self._refused_at = refused_at

    def __len__(self) -> int:
        return len(self._refused)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(at, slice):
            return Letters(self._topic, self._rows, self._refused[at], self._refused_at)
        return self._letter(self._refused[at])

    def _letter(self, refused: Refused) -> Mapping[str, Any]:
        refusal = refused.refusal
        record = self._rows.record(refused.source, refusal.offset)
        return {
            "topic": self._topic,
            "partition": refused.partition,
            "offset": refusal.offset,
            "arrived_at": refused.arrived_us,
            "refused_at": self._refused_at,
            "refused_by": REFUSED_BY,
            "reason": refusal.reason.value,
            "detail": refusal.detail,
            "key": record.key,
            "value": record.value,
        }


def fitted(letter: Mapping[str, Any], most: int, kept: int) -> Mapping[str, Any]:
    """The letter, with only the first `kept` bytes of a key or a value of more than `most`; its detail then
    says how long that was, and its hash."""
    cut = dict(letter)
    for name in ("key", "value"):
        whole = letter[name]
        if whole is not None and len(whole) > most:
            digest = hashlib.sha256(whole).hexdigest()
            cut[name] = whole[:kept]
            cut["detail"] += (
                f"; the {name} has {len(whole)} bytes, SHA-256 {digest}, "
                f"of which the first {kept // _KIB} KiB are kept"
            )
    return cut
