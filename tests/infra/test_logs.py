"""A log that says each thing once, and how often it was not said."""

import logging

import pytest

from infra.logs import NoRepetition


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def log(now: list[float]) -> logging.Logger:
    logger = logging.Logger("client")
    logger.addFilter(NoRepetition(every_s=10, clock=lambda: now[0]))
    return logger


def test_the_same_is_said_once_and_then_with_how_often_it_was_not(
    log: logging.Logger, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    log.addHandler(caplog.handler)
    for node in range(5):
        log.error("no answer from %d", node)
    log.warning("something else")
    now[0] += 10
    log.error("no answer from %d", 7)
    now[0] += 10
    log.error("no answer from %d", 8)

    assert caplog.messages == [
        "no answer from 0",
        "something else",
        "no answer from 7 (and 4 like it before)",
        "no answer from 8",
    ]
