import pytest

from schemas.time import DAY, SECOND
from streams.notifications import state
from streams.notifications.state import Commits, Memory, Outbox
from tests.streams.notifications.examples import START


def restored(entries: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], int, Outbox]:
    _, parts, offset, outbox = Commits.restore(entries)
    return parts, offset, outbox


def test_a_commit_is_there_as_a_whole_or_not_at_all() -> None:
    commits = Commits()
    first = commits.commit({b"alerts|01": b"[1]", b"alerts|02": b"[2]"}, 7, Outbox())
    second = commits.commit({b"alerts|02": b"[3]", b"groups|01": b"[4]"}, 9, Outbox())
    before = {**first.parts, **first.head}

    nothing = restored(before)
    half = restored({**before, **dict(list(second.parts.items())[:1])})
    all_but_the_head = restored({**before, **second.parts})
    whole = restored({**before, **second.parts, **second.head})

    assert nothing[:2] == half[:2] == ({b"alerts|01": b"[1]", b"alerts|02": b"[2]"}, 7)
    assert all_but_the_head[0] == {b"alerts|01": b"[1]", b"alerts|02": b"[2]", b"groups|01": b"[]"}
    assert whole[:2] == ({b"alerts|01": b"[1]", b"alerts|02": b"[3]", b"groups|01": b"[4]"}, 9)


def test_what_a_broken_commit_left_behind_is_replaced_by_the_next() -> None:
    commits = Commits()
    first = commits.commit({b"alerts|01": b"[1]"}, 7, Outbox())
    broken = commits.commit({b"alerts|01": b"[2]"}, 8, Outbox())
    entries = {**first.parts, **first.head, **broken.parts}

    again, parts, _, _ = Commits.restore(entries)
    third = again.commit({b"alerts|05": b"[5]"}, 9, Outbox())

    assert parts == {b"alerts|01": b"[1]"}
    assert restored({**entries, **third.parts, **third.head})[0] == {
        b"alerts|01": b"[1]",
        b"alerts|05": b"[5]",
    }


def test_the_outbox_comes_back_as_it_was_and_shares_its_bodies() -> None:
    body = "x" * 10_000
    notifications = tuple({"notification_id": f"nt_{n}", "body": body} for n in range(50))
    outbox = Outbox(notifications, ({"decision_id": "de_1"},))

    commit = Commits().commit({}, 3, outbox)

    assert restored(commit.head)[2] == outbox
    assert len(outbox.pack()["bodies"]) == 1


def test_alerts_that_are_over_are_remembered_for_a_week() -> None:
    memory = Memory()
    memory.remember_over("al_1", 2, START)
    memory.remember_over("al_1", 3, START + SECOND)
    for number in range(1_000):
        memory.remember_over(f"al_late_{number}", 1, START + 8 * DAY)

    assert memory.over("al_1") == 0
    assert memory.over("al_late_999") == 1
    assert memory.forgotten_early == 0


def test_too_many_alerts_that_are_over_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MOST_REMEMBERED", 10)
    memory = Memory()

    for number in range(2_000):
        memory.remember_over(f"al_{number}", 1, START)

    remembered = sum(memory.over(f"al_{number}") for number in range(2_000))
    assert remembered <= 64 * 10
    assert memory.forgotten_early == 2_000 - remembered
