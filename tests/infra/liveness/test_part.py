"""What a part declares, who ends it, and how it is told over HTTP."""

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from infra.liveness import Part, State, Watchdog, serving

AFTER = 60.0


class Now:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def exits() -> list[int]:
    return []


@pytest.fixture
def part(now: Now, exits: list[int]) -> Part:
    return Part("sink", clock=now, exit=exits.append)


@pytest.fixture
def watch(part: Part) -> Callable[[int], None]:
    dog = Watchdog(part, AFTER)

    def watch(seconds: int) -> None:
        for _ in range(seconds):
            dog.look(1.0)

    return watch


def test_a_part_starts_waits_runs_and_halts(part: Part, now: Now) -> None:
    assert part.report().state is State.STARTING
    unit = part.unit("chat.requests")
    with unit.waiting("Kafka"):
        now.seconds += 7
        waiting = part.report()
    unit.started()
    running = part.report()
    unit.halted(3, "nothing can be read")
    halted = part.report()
    unit.resumed()

    assert (waiting.state, waiting.waiting[0].what, waiting.waiting[0].seconds) == (State.WAITING, "Kafka", 7)
    assert (running.state, running.is_ready) == (State.RUNNING, True)
    assert (halted.state, halted.is_ready) == (State.HALTED, False)
    assert (halted.halted[0].partition, halted.halted[0].why) == (3, "nothing can be read")
    assert part.report().state is State.RUNNING


def test_a_bounded_wait_is_no_state_of_its_own(part: Part) -> None:
    async def acknowledged() -> State:
        async with part.unit("letters").bounded("acknowledgement of chat.dead-letters", 5):
            return part.report().state

    part.unit("letters").started()

    assert asyncio.run(acknowledged()) is State.RUNNING


async def test_a_bounded_wait_says_what_took_too_long(part: Part) -> None:
    unit = part.unit("letters")
    with pytest.raises(TimeoutError, match=r"acknowledgement of chat\.alerts took longer than 0\.01 s"):
        async with unit.bounded("acknowledgement of chat.alerts", 0.01):
            await asyncio.Event().wait()

    assert unit.moves() == 0
    assert unit.waits() == ()


async def test_a_timeout_of_what_is_waited_for_is_passed_on(part: Part) -> None:
    with pytest.raises(TimeoutError, match="of its own"):
        async with part.unit("letters").bounded("an answer", 5):
            raise TimeoutError("of its own")


async def test_looking_how_far_it_has_come_gets_a_unit_nowhere(part: Part) -> None:
    unit = part.unit("letters")
    before = unit.moves()
    async with unit.bounded("the end offsets", 5, progress=False):
        pass
    assert unit.moves() == before
    async with unit.bounded("an answer", 5):
        pass
    assert unit.moves() == before + 1


def test_work_that_waits_and_no_step_ends_the_part_with_its_reason(
    part: Part, watch: Callable[[int], None], exits: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    unit = part.unit("chat.requests")
    unit.started()
    watch(200)
    unit.work(True)
    watch(60)
    assert exits == []
    watch(1)

    assert exits == [70]
    assert part.report().state is State.STALLED
    assert caplog.messages[-1] == "sink ends: stalled: chat.requests: no progress for 60 s: work waits"


def test_who_takes_steps_or_has_none_to_take_goes_on(
    part: Part, watch: Callable[[int], None], exits: list[int]
) -> None:
    unit = part.unit("chat.requests")
    unit.started()
    unit.work(True)
    for _ in range(10):
        watch(50)
        with unit.step():
            watch(50)
    unit.work(False)
    watch(500)
    with unit.step(), unit.waiting("ClickHouse"):
        watch(500)

    assert exits == []


def test_following_the_clock_is_no_sign_that_work_gets_on(
    part: Part, watch: Callable[[int], None], exits: list[int]
) -> None:
    """As a worker's whose fetching hangs: its clock goes on."""
    unit = part.unit("chat.requests")
    unit.started()
    unit.work(True)
    for _ in range(62):
        with unit.step("following the clock", progress=False):
            pass
        watch(1)

    assert exits == [70]


def test_a_unit_that_never_comes_up_is_a_stall(
    part: Part, watch: Callable[[int], None], exits: list[int]
) -> None:
    part.unit("chat.requests")
    watch(62)

    assert exits == [70]


def test_a_thread_that_computes_is_progress_and_one_that_sleeps_is_not(
    part: Part, watch: Callable[[int], None], exits: list[int]
) -> None:
    unit = part.unit("chat.requests")
    unit.started()
    computed, slept, begun = threading.Event(), threading.Event(), threading.Event()

    def work(until: threading.Event, *, busy: bool) -> None:
        with unit.step(), unit.computing():
            begun.set()
            while not until.is_set():
                sum(range(1000)) if busy else until.wait()

    computing = threading.Thread(target=work, args=(computed,), kwargs={"busy": True})
    computing.start()
    begun.wait()
    for _ in range(100):
        used = time.process_time()
        while time.process_time() - used < 0.005:  # of which the thread has some
            time.sleep(0.001)
        watch(1)
    assert exits == []
    computed.set()
    computing.join()
    begun.clear()
    sleeping = threading.Thread(target=work, args=(slept,), kwargs={"busy": False})
    sleeping.start()
    begun.wait()
    watch(63)
    slept.set()
    sleeping.join()

    assert exits == [70]


@pytest.mark.parametrize(("cpu_per_look", "ends"), [(0.5, False), (0.0, True)])
async def test_an_event_loop_that_is_blocked_has_to_compute(
    part: Part, exits: list[int], cpu_per_look: float, ends: bool
) -> None:
    used = 0.0

    def cpu(_: int) -> float:
        nonlocal used
        used += cpu_per_look
        return used

    part.attend()
    part.unit("chat.requests").started()
    part.unit("chat.requests").work(True)
    dog = Watchdog(part, AFTER, cpu)
    for _ in range(100):  # nothing is awaited: the loop does not turn
        dog.look(1.0)

    assert bool(exits) is ends


async def test_a_loop_that_turns_excuses_nobody(part: Part, exits: list[int]) -> None:
    part.attend()
    part.unit("chat.requests").started()
    part.unit("chat.requests").work(True)
    (loop,) = part.loops()
    dog = Watchdog(part, AFTER, lambda _: time.perf_counter())
    for _ in range(70):
        loop.beats += 1
        dog.look(1.0)

    assert exits == [70]


async def _nothing() -> None:
    return


async def _fails() -> None:
    raise ValueError("no such\ncolumn")


async def _for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("of", "cancelled", "reason"),
    [
        (_nothing, False, "the task reading ended"),
        (_fails, False, "the task reading failed: ValueError: no such column"),
        (_for_ever, True, "the task reading was cancelled"),
    ],
)
async def test_a_needed_task_that_ends_ends_the_part(
    part: Part,
    exits: list[int],
    caplog: pytest.LogCaptureFixture,
    of: Callable[[], object],
    cancelled: bool,
    reason: str,
) -> None:
    task = asyncio.create_task(of())  # type: ignore[arg-type]
    part.need(task, "reading")
    await asyncio.sleep(0)
    if cancelled:
        task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)

    assert exits == [70]
    assert caplog.messages[-1] == f"sink ends: {reason}"


async def test_a_task_may_end_when_the_part_stops_or_when_it_may_return(part: Part, exits: list[int]) -> None:
    returning = asyncio.create_task(_nothing())
    part.need(returning, "recalling", may_return=True)
    await asyncio.wait([returning])
    running = asyncio.create_task(_for_ever())
    part.need(running, "reading")
    part.stopping(10)
    running.cancel()
    await asyncio.wait([running])
    await asyncio.sleep(0)

    assert exits == []


def test_a_part_that_does_not_stop_is_ended(
    part: Part, watch: Callable[[int], None], exits: list[int], now: Now
) -> None:
    part.unit("chat.requests").work(True)
    part.stopping(10)
    watch(100)
    assert exits == []
    now.seconds += 11
    watch(1)

    assert exits == [70]


def test_the_reason_is_the_last_line_of_a_process_that_ends() -> None:
    code = (
        "import asyncio, logging\n"
        "from infra import logs\n"
        "from infra.liveness import Part\n"
        "logs.begin()\n"
        "async def fail(): raise KeyError('a')\n"
        "async def main():\n"
        "    part = Part('usage')\n"
        "    part.need(asyncio.create_task(fail()), 'fetching')\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 70
    assert ended.stderr.splitlines()[-1].endswith("usage ends: the task fetching failed: KeyError: 'a'")
    assert "Traceback" in ended.stderr


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_health_is_served_beside_the_metrics(part: Part) -> None:
    unit = part.unit("chat.requests")
    with serving(part, "127.0.0.1", 0, CollectorRegistry()) as port:
        here = f"http://127.0.0.1:{port}"
        starting = ask(f"{here}/health/ready")
        unit.started()
        running = ask(f"{here}/health/ready")
        unit.halted(1, "nothing can be read")
        halted = ask(f"{here}/health/ready")
        alive = ask(f"{here}/health/live")
        part.stall("no progress")
        stalled = ask(f"{here}/health/live")
        metrics, unknown = ask(f"{here}/metrics"), ask(f"{here}/nothing")

    assert [status for status, _ in (starting, running, halted, alive, stalled)] == [503, 200, 503, 200, 503]
    assert json.loads(halted[1])["halted"] == [
        {"unit": "chat.requests", "partition": 1, "why": "nothing can be read"}
    ]
    assert json.loads(stalled[1])["reason"] == "no progress"
    assert metrics[0] == 200
    assert unknown[0] == 404


def test_what_a_guard_finds_wrong_for_long_ends_the_part(
    part: Part, watch: Callable[[int], None], exits: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    found: list[str | None] = [None]
    with part.guarding("the consumer of chat.requests", lambda: found[0]):
        watch(10)
        found[0] = "the fetching task was cancelled"
        watch(4)
        found[0] = None  # it was being stopped, and started anew
        watch(1)
        found[0] = "the fetching task was cancelled"
        watch(5)
        assert exits == []
        watch(1)

    assert exits == [70]
    assert caplog.messages[-1] == "sink ends: the consumer of chat.requests: the fetching task was cancelled"
