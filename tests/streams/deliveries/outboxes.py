"""Makes endpoints, notifications, and an outbox beside a state that survives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.time import SECOND, Micros
from streams.deliveries.channel import Response
from streams.deliveries.delivery import Delivery
from streams.deliveries.endpoint_queue import Target
from streams.deliveries.journal import LOGGED
from streams.deliveries.notification import Notification
from streams.deliveries.outbox import Conclusion, Outbox, Policy, folded_keys
from streams.deliveries.outcome import Verdict
from streams.endpoints.endpoint import parse_endpoint

OK = Response(Verdict.DELIVERED, 200)
BROKEN = Response(Verdict.FAILED, 500, "500 Internal Server Error")
T0: Micros = 1_800_000_000 * SECOND


def target(endpoint_id: str = "hook", revision: int = 1, **settings: Any) -> Target:
    given = {"id": endpoint_id, "channel": "webhook", "url": "https://example.org/hook"}
    return Target(parse_endpoint(given | settings), revision)


def notification(
    number: int, endpoint_id: str = "hook", redriven: int = 0, type_: str = "alert.firing", at: Micros = T0
) -> Notification:
    return Notification(f"n{number}", endpoint_id, type_, at, "{}", redriven=redriven)


@dataclass
class Bench:
    """An outbox of one partition, the entries and the log that are durable, and offsets that go up."""

    policy: Policy = field(default_factory=Policy)
    targets: Mapping[str, Target] = field(default_factory=lambda: {"hook": target()})
    entries: dict[bytes, bytes] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.restart(T0)

    def restart(self, now: Micros) -> None:
        """What is in memory is lost, what is durable is taken up."""
        self.outbox = Outbox(self.policy)
        self.outbox.aim(self.targets, now)
        unlogged = self.outbox.restore(0, self.entries, now)
        self.log += [entry.record for entry in unlogged if entry.record]
        self.outbox.resent(unlogged)

    def write(self, entries: Mapping[bytes, bytes | None]) -> None:
        for key, entry in entries.items():
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry

    def accept(self, *notifications: Notification, now: Micros = T0) -> list[Delivery]:
        arrived = [(self.offset + i, each) for i, each in enumerate(notifications)]
        self.offset += len(arrived)
        accepted = self.outbox.accept(0, arrived, now)
        self.write(accepted.entries())
        self.outbox.opened(accepted.opened)
        for each in accepted.concluded:
            self.settle(each, now)
        return accepted.opened

    def conclude(self, delivery: Delivery, response: Response, now: Micros) -> Conclusion:
        conclusion = self.outbox.conclude(delivery, "webhook", response, now, now)
        self.write({delivery.key: conclusion.entry})
        self.settle(conclusion, now)
        return conclusion

    def settle(self, conclusion: Conclusion, now: Micros) -> None:
        self.outbox.settled(conclusion, now)
        self.log.append(conclusion.record)
        self.outbox.logged(conclusion)

    def keep_house(self, now: Micros) -> None:
        """What a tick does about the state."""
        journal = self.outbox.journals[0]
        if (fold := journal.fold(now)) is not None:
            self.write(fold.blocks)
            self.write(folded_keys(fold))
        if (until := journal.logged_until()) is not None:
            self.write({LOGGED: until})

    def outcomes(self) -> list[tuple[str, int, str]]:
        return [(each["notification_id"], each["attempt"], each["outcome"]) for each in self.log]
