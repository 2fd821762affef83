"""What an answer means for the delivery."""

import pytest

from schemas.time import SECOND
from streams.deliveries.outcome import Next, Outcome, Verdict, follows, of_status
from streams.deliveries.schedule import Schedule

SCHEDULE = Schedule((5 * SECOND, 60 * SECOND), jitter=0)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_alone_is_success(status: int) -> None:
    assert of_status(status) is Verdict.DELIVERED


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 304, 307, 400, 401, 404, 429, 500, 503, 599])
def test_all_else_comes_again(status: int) -> None:
    assert of_status(status) is Verdict.FAILED


def test_410_disables() -> None:
    assert of_status(410) is Verdict.GONE


@pytest.mark.parametrize(
    ("verdict", "attempt", "expected"),
    [
        (Verdict.DELIVERED, 1, Next(Outcome.DELIVERED)),
        (Verdict.FAILED, 1, Next(Outcome.FAILED, 105 * SECOND)),
        (Verdict.FAILED, 2, Next(Outcome.FAILED, 160 * SECOND)),
        (Verdict.FAILED, 3, Next(Outcome.EXHAUSTED)),
        (Verdict.REFUSED, 1, Next(Outcome.REFUSED, 105 * SECOND)),
        (Verdict.REFUSED, 3, Next(Outcome.REFUSED)),
        (Verdict.REJECTED, 1, Next(Outcome.EXHAUSTED)),
        (Verdict.GONE, 1, Next(Outcome.PARKED)),
    ],
)
def test_what_follows(verdict: Verdict, attempt: int, expected: Next) -> None:
    assert follows(verdict, SCHEDULE, b"a", attempt, None, 100 * SECOND) == expected
