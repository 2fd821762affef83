"""What running parts say of themselves, and which of them are ended for it."""

from typing import Any

import pytest

from cli.supervision.health import Answer, Vigil, answer_of, ask
from infra.liveness import Part, document, serving
from infra.ports import free_port

WELL = Answer(stalled=False)
STALLED = Answer(stalled=True, reason="no progress for 60 s")


def first_verdict(answers: list[Answer | None]) -> tuple[int, str] | None:
    vigil = Vigil(silent_within=120, began=0.0)
    for number, answer in enumerate(answers, start=1):
        if (why := vigil.verdict(5.0 * number, answer)) is not None:
            return 5 * number, why
    return None


def test_a_part_that_answers_is_left_alone_and_one_that_is_silent_for_long_is_not() -> None:
    assert first_verdict([WELL] * 100) is None
    assert first_verdict([*[None] * 24, WELL, *[None] * 24, WELL]) is None
    assert first_verdict([WELL, *[None] * 100]) == (130, "has not answered for 125 s")


def test_a_stalled_part_may_end_itself_before_it_is_ended() -> None:
    assert first_verdict([WELL, STALLED, STALLED, WELL, STALLED, STALLED]) is None
    assert first_verdict([WELL, *[STALLED] * 5]) == (
        25,
        "is stalled and has not ended: no progress for 60 s",
    )


def test_a_part_is_asked_how_it_is() -> None:
    part = Part("sink", exit=lambda _: None)
    with serving(part, "127.0.0.1", 0) as port:
        part.unit("chat.requests").started()
        well = ask(port)
        part.unit("chat.requests").halted(2, "nothing can be read")
        halted = ask(port)
        part.stall("no progress")
        stalled = ask(port)

    assert well == Answer(stalled=False, steps=1)
    assert halted is not None
    assert halted.detail == "halted: chat.requests/2: nothing can be read"
    assert stalled is not None
    assert (stalled.stalled, stalled.reason) == (True, "no progress")


def test_nobody_who_answers_is_no_answer() -> None:
    assert ask(free_port()) is None


@pytest.mark.parametrize(("seconds", "told"), [(1.0, ""), (9.0, "waiting for ClickHouse: no answer")])
def test_a_wait_is_told_when_it_lasts(seconds: float, told: str) -> None:
    said: dict[str, Any] = document(Part("sink").report()) | {
        "waiting": [{"unit": "chat.spans", "for": "ClickHouse: no answer", "seconds": seconds}]
    }

    assert answer_of(200, said).detail == told
