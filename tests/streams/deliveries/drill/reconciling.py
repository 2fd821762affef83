"""Holds what receivers counted against the log of attempts. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.streams.deliveries.drill.receiver import Request

MOST_DOUBLED = 0.005
"""Of all."""
OF_SO_FEW = 20
"""Doubled ones say nothing yet about a share. One kill leaves what receivers had taken in the milliseconds
before it, and what they were still thinking about: three on average, ten when it falls into a burst."""
RECORDED_WITHIN_S = 0.5
"""An answer that came longer before a kill is durable."""


@dataclass(frozen=True)
class Report:
    """What came of a drill."""

    wanted: int
    kills: int
    delivered: int
    lost: list[str]
    doubled: dict[str, int]
    """Those that a receiver took more than once, and how often."""
    requests: int
    attempts: int
    cut_off: int
    """Requests without a record: the worker was killed meanwhile."""
    unseen: int
    """Attempts that failed before the receiver read a request."""
    faults: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether all is as promised."""
        return not self.lost and not self.faults and len(self.doubled) <= self.may_double

    @property
    def may_double(self) -> float:
        """How many may be delivered more than once."""
        return max(MOST_DOUBLED * self.wanted, OF_SO_FEW if self.kills else 0)

    def lines(self) -> list[str]:
        """For a person; the last one is the result."""
        told = [
            f"requests received {self.requests}, attempts logged {self.attempts}, cut off by a kill "
            f"{self.cut_off}, failed before they were read {self.unseen}"
        ]
        told += [f"FAULT: {fault}" for fault in self.faults[:20]]
        if len(self.faults) > 20:
            told.append(f"FAULT: and {len(self.faults) - 20} more")
        told += [f"LOST: {id_}" for id_ in self.lost[:20]]
        if len(self.doubled) > self.may_double:
            told.append(
                f"FAULT: more than {self.may_double:.0f} doubled: {dict(list(self.doubled.items())[:20])}"
            )
        told.append(f"delivered {self.delivered}, lost {len(self.lost)}, doubled {len(self.doubled)}")
        return told


def reconcile(
    wanted: Mapping[str, tuple[str, bytes]],
    requests: Iterable[Request],
    log: Sequence[Mapping[str, Any]],
    kills: Sequence[float],
    *,
    reach_s: float,
    most_under_way: int,
) -> Report:
    """`wanted` has the endpoint and the body of each notification; `kills` are seconds since 1970.

    A request has no record only if a kill followed within `reach_s` seconds (one that was taken: within
    `RECORDED_WITHIN_S`), and of each kill there are at most `most_under_way`.
    """
    faults: list[str] = []
    received: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        received[request.webhook_id].append(request)
        expected = wanted.get(request.webhook_id)
        if expected is None or (request.endpoint_id, request.body) != expected:
            faults.append(f"{request.endpoint_id} got {request.webhook_id}, which is not what was sent there")
        elif not request.signed:
            faults.append(f"{request.webhook_id} was not signed rightly")
    logged = _by_notification(log, faults)
    cut_off: Counter[int] = Counter()
    unseen = 0
    for id_ in wanted:
        asked, of = received.get(id_, []), logged.get(id_, {})
        unseen += max(0, len(of) - len(asked))
        for request in _unrecorded(asked, of):
            reach = RECORDED_WITHIN_S if request.taken else reach_s
            kill = next((i for i, at in enumerate(kills) if -0.5 <= at - request.at <= reach), None)
            if kill is None:
                faults.append(f"{id_} has a request at {request.at:.3f} that no attempt and no kill explains")
            else:
                cut_off[kill] += 1
        faults += _contradictions(id_, asked, of)
    faults += [
        f"kill {kill} cut off {count} requests, of {most_under_way} at most"
        for kill, count in cut_off.items()
        if count > most_under_way
    ]
    taken = {id_: sum(request.taken for request in received.get(id_, [])) for id_ in wanted}
    return Report(
        wanted=len(wanted),
        kills=len(kills),
        delivered=sum(count > 0 for count in taken.values()),
        lost=[id_ for id_, count in taken.items() if not count],
        doubled={id_: count for id_, count in taken.items() if count > 1},
        requests=sum(map(len, received.values())),
        attempts=sum(map(len, logged.values())),
        cut_off=sum(cut_off.values()),
        unseen=unseen,
        faults=faults,
    )


def _by_notification(
    log: Sequence[Mapping[str, Any]], faults: list[str]
) -> dict[str, dict[int, Mapping[str, Any]]]:
    logged: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for record in log:
        known = logged[record["notification_id"]].setdefault(record["attempt"], record)
        if known != record:
            faults.append(f"{record['attempt_id']} was told twice, differently: {known} and {record}")
    return logged


def _unrecorded(asked: Sequence[Request], of: Mapping[int, Mapping[str, Any]]) -> list[Request]:
    """The requests that no attempt's time holds."""
    spans = [(a["started_at"].timestamp(), a["took_us"] / 1e6) for a in of.values()]
    left = []
    for request in asked:
        held = next(
            (span for span in spans if span[0] - 0.05 <= request.at <= span[0] + span[1] + 0.05), None
        )
        if held is None:
            left.append(request)
        else:
            spans.remove(held)
    return left


def _contradictions(id_: str, asked: Sequence[Request], of: Mapping[int, Mapping[str, Any]]) -> Iterable[str]:
    outcomes = [record["outcome"] for _, record in sorted(of.items())]
    if sorted(of) != list(range(1, len(of) + 1)):
        yield f"{id_} has attempts {sorted(of)}"
    if outcomes != ["failed"] * (len(outcomes) - 1) + ["delivered"]:
        yield f"{id_} ended with {outcomes}"
    if not any(request.taken for request in asked) and "delivered" in outcomes:
        yield f"{id_} is said to be delivered, and no receiver has taken it"
