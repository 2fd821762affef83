"""What an answer means for the delivery."""

from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from schemas.time import Micros
from streams.deliveries.schedule import Schedule


class Verdict(StrEnum):
    """What became of an attempt."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """It may go well later."""
    REJECTED = "rejected"
    """It never will: the receiver has understood it, and won't take it."""
    REFUSED = "refused"
    """The address is not to be called (now); nothing was sent."""
    GONE = "gone"
    """The receiver wants nothing more, ever: the endpoint is to be disabled."""


class Outcome(StrEnum):
    """What the log says of an attempt, or of the decision not to make one."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """Another attempt follows."""
    EXHAUSTED = "exhausted"
    """None does."""
    REFUSED = "refused"
    """The endpoint or the address is not to be called; another attempt follows if it says when."""
    PARKED = "parked"
    """The endpoint is disabled, or has too much waiting."""


class Next(NamedTuple):
    """What follows from an attempt. The delivery is over when `at` is None."""

    outcome: Outcome
    at: Micros | None = None
    """When the next attempt is due."""


def of_status(status: int) -> Verdict:
    """What an HTTP status means to a webhook: 2xx alone is success, 410 disables, all else comes again."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    return Verdict.GONE if status == HTTPStatus.GONE else Verdict.FAILED


def follows(
    verdict: Verdict, schedule: Schedule, key: bytes, attempt: int, retry_after: float | None, now: Micros
) -> Next:
    """What follows from `attempt` (from 1) of the delivery `key`, which ended at `now`."""
    if verdict is Verdict.DELIVERED:
        return Next(Outcome.DELIVERED)
    if verdict is Verdict.GONE:
        return Next(Outcome.PARKED)
    if verdict is Verdict.REJECTED:
        return Next(Outcome.EXHAUSTED)
    wait = schedule.wait(key, attempt, retry_after)
    at = None if wait is None else now + wait
    if verdict is Verdict.REFUSED:
        return Next(Outcome.REFUSED, at)
    return Next(Outcome.EXHAUSTED if at is None else Outcome.FAILED, at)
