"""What an answer means for the delivery."""

from enum import StrEnum
from http import HTTPStatus


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


def of_status(status: int) -> Verdict:
    """What an HTTP status means to a webhook: 2xx alone is success, 410 disables, all else comes again."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    return Verdict.GONE if status == HTTPStatus.GONE else Verdict.FAILED
