"""When a unit is stalled: properties of the judgement over any course of looks."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from infra.liveness.judging import Sighting, Standing, Wait, looked, stalled

AFTER = 60.0
STILL = Sighting(1, occupied=True, doing="a step is under way")


@dataclass(frozen=True)
class Look:
    seen: Sighting
    elapsed: float


def verdicts(looks: list[Look]) -> list[str | None]:
    standing, found = Standing(), []
    for look in looks:
        standing = looked(standing, look.seen, look.elapsed)
        found.append(stalled(standing, look.seen, AFTER))
    return found


def after(seconds: int, seen: Sighting) -> str | None:
    return verdicts([Look(seen, 1.0)] * (seconds + 1))[-1]


elapsed = st.floats(0.0, 2.0)
bounds = st.floats(0.1, 200.0)
sightings = st.builds(
    Sighting,
    moves=st.integers(0, 3),
    occupied=st.booleans(),
    waits=st.lists(
        st.builds(Wait, st.integers(0, 2), st.just("Kafka"), st.just(0.0), st.one_of(st.none(), bounds)),
        max_size=2,
        unique_by=lambda wait: wait.number,
    ).map(tuple),
    computing=st.booleans(),
)
courses = st.lists(st.builds(Look, sightings, elapsed), max_size=200)


def unbounded(seen: Sighting) -> Sighting:
    return replace(seen, waits=tuple(wait for wait in seen.waits if wait.bound is None))


def test_an_undeclared_standstill_is_a_stall_after_its_time() -> None:
    assert after(59, STILL) is None
    assert after(60, STILL) == "no progress for 60 s: a step is under way"


def test_a_wait_that_overruns_its_bound_is_named() -> None:
    seen = replace(STILL, waits=(Wait(1, "acknowledgement of chat.windows", 0.0, 30.0),))

    assert after(88, seen) is None
    reason = after(90, seen)
    assert reason is not None
    assert "acknowledgement of chat.windows" in reason


def test_a_bounded_attempt_that_hangs_is_a_stall_though_an_outage_is_declared() -> None:
    waits = (Wait(1, "ClickHouse", 0.0), Wait(2, "connecting to ClickHouse", 0.0, 10.0))

    assert after(68, replace(STILL, waits=waits)) is None
    assert after(70, replace(STILL, waits=waits)) is not None


def test_attempts_that_fail_one_after_another_undeclared_are_a_stall() -> None:
    looks = [
        Look(replace(STILL, waits=(Wait(second // 30, "an answer", 0.0, 30.0),)), 1.0)
        for second in range(120)
    ]

    found = verdicts(looks)

    assert found[80] is None
    assert found[-1] is not None


@given(courses)
def test_what_is_not_occupied_is_never_stalled_by_standing_still(course: list[Look]) -> None:
    idle = [replace(look, seen=replace(unbounded(look.seen), occupied=False)) for look in course]

    assert not any(verdicts(idle))


@given(courses)
def test_what_computes_is_never_stalled(course: list[Look]) -> None:
    assert not any(verdicts([replace(look, seen=replace(look.seen, computing=True)) for look in course]))


@given(courses)
def test_a_declared_wait_is_never_a_stall(course: list[Look]) -> None:
    outage = Wait(9, "Kafka", 0.0)
    declared = [
        replace(look, seen=replace(look.seen, waits=(*unbounded(look.seen).waits, outage))) for look in course
    ]

    assert not any(verdicts(declared))


@given(courses)
def test_what_moves_at_every_look_is_not_stalled_by_standing_still(course: list[Look]) -> None:
    moving = [
        replace(look, seen=replace(unbounded(look.seen), moves=number)) for number, look in enumerate(course)
    ]

    assert not any(verdicts(moving))


@given(courses, st.booleans())
def test_whatever_went_before_a_standstill_is_found_within_its_time(
    course: list[Look], declared: bool
) -> None:
    waits = (Wait(77, "an answer", 0.0, 20.0),) if declared else ()
    standstill = [Look(Sighting(99, occupied=True, waits=waits), 1.0)] * 82

    assert any(verdicts([*course, *standstill])[len(course) :])


@given(courses)
def test_nothing_is_stalled_sooner_than_its_time(course: list[Look]) -> None:
    lived = 0.0
    for look, verdict in zip(course, verdicts(course), strict=True):
        lived += look.elapsed
        assert verdict is None or lived >= AFTER - 1e-6
