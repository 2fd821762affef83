"""The supervisor: starts in order, keeps running, gives up with a reason, stops in the opposite order."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli.supervision.health import ask
from cli.supervision.part import (
    FAILURES_TOLD,
    LONGEST_PAUSE,
    STEADY_AFTER,
    Part,
    State,
    failures_after,
    pause_after,
)
from cli.supervision.supervisor import Stage, Supervisor
from infra.errors import PortTakenError, StartFailedError
from infra.ports import free_port
from infra.process import Child

RUNS = "print('up', flush=True); import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {RUNS}"


def part(name: str, code: str, directory: Path, grace: float = 10.0, storage: bool = False) -> Part:
    child = Child(name, [sys.executable, "-c", code], directory / f"{name}.log")
    return Part(
        name, "", lambda: child, lambda: child.tail() == "up", start_within=20, grace=grace, storage=storage
    )


class Seen:
    """Every change of state, in order."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, State]] = []
        self.details: list[str] = []

    def __call__(self, changed: Part) -> None:
        self.changes.append((changed.name, changed.state))
        self.details.append(changed.detail)

    def order(self, state: State) -> list[str]:
        return [name for name, entered in self.changes if entered is state]


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.02)


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [pause_after(failures) for failures in range(1, 12)]

    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_part_that_ran_for_long_has_failed_once() -> None:
    assert failures_after(3, ran=1.0) == 4
    assert failures_after(3, ran=STEADY_AFTER) == 1


async def test_stages_start_in_order_and_stop_in_the_opposite_order(tmp_path: Path) -> None:
    seen, done = Seen(), []

    async def create() -> None:
        done.append([name for name, state in seen.changes if state is State.RUNNING])

    first, second, third = (part(name, RUNS, tmp_path) for name in ("first", "second", "third"))
    supervisor = Supervisor([Stage([first], create), Stage([second, third])], seen)

    await supervisor.start()
    assert [each.running for each in supervisor.parts] == [True, True, True]
    await supervisor.stop()

    assert done == [["first"]]
    assert seen.order(State.STOPPED) == ["third", "second", "first"]
    assert [each.running for each in supervisor.parts] == [False, False, False]


async def test_a_part_that_ends_is_started_again(tmp_path: Path) -> None:
    seen = Seen()
    one = part("one", RUNS, tmp_path)
    supervisor = Supervisor([Stage([one])], seen)
    await supervisor.start()
    assert one.child is not None
    before = one.child.pid

    one.child.kill()
    await until(lambda: seen.order(State.RUNNING) == ["one", "one"])

    assert one.child.pid != before
    restarted = seen.details[seen.changes.index(("one", State.RESTARTING))]
    assert restarted.startswith("one ended with status -9")
    assert restarted.endswith("again in 0.5 s")
    await supervisor.stop()


async def test_a_part_that_never_comes_up_ends_the_start_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervision.supervisor.pause_after", lambda failures: 0.0)
    seen = Seen()
    fine, broken = part("fine", RUNS, tmp_path), part("broken", "raise SystemExit('no fuel')", tmp_path)
    supervisor = Supervisor([Stage([fine, broken])], seen)

    with pytest.raises(StartFailedError, match=f"tried {FAILURES_TOLD} times") as failure:
        await supervisor.start()
    await supervisor.stop()

    assert failure.value.log_tail == "no fuel"
    assert not fine.running


async def test_what_keeps_failing_later_is_told_with_its_last_words_and_goes_on_being_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervision.supervisor.pause_after", lambda failures: 0.0)
    seen = Seen()
    once = tmp_path / "once"
    worn_out = f"import os, sys\nif os.path.exists({str(once)!r}): sys.exit('worn out')\n"
    code = f"{worn_out}open({str(once)!r}, 'w')\n{RUNS}"
    one = part("one", code, tmp_path)
    supervisor = Supervisor([Stage([one])], seen)
    await supervisor.start()
    assert one.child is not None

    one.child.kill()
    await until(lambda: len(seen.order(State.FAILING)) >= 2)

    assert "worn out" in seen.details[seen.changes.index(("one", State.FAILING))]
    await supervisor.stop()


async def test_what_only_a_person_can_mend_ends_the_start_at_once(tmp_path: Path) -> None:
    def taken() -> Child:
        raise PortTakenError("port 1 is taken")

    supervisor = Supervisor([Stage([Part("one", "", taken, lambda: True)])], Seen())

    with pytest.raises(PortTakenError, match="port 1 is taken"):
        await supervisor.start()
    await supervisor.stop()


async def test_a_part_that_does_not_stop_is_killed_after_its_grace(tmp_path: Path) -> None:
    deaf = part("deaf", DEAF, tmp_path, grace=0.3)
    supervisor = Supervisor([Stage([deaf])], Seen())
    await supervisor.start()

    begun = time.monotonic()
    await supervisor.stop()

    assert not deaf.running
    assert 0.3 <= time.monotonic() - begun < 30


@pytest.mark.parametrize(("storage", "least"), [(False, 0.0), (True, 3.0)])
async def test_in_a_hurry_nobody_is_waited_for_but_storage_gets_a_moment(
    tmp_path: Path, storage: bool, least: float
) -> None:
    deaf = part("deaf", DEAF, tmp_path, grace=60, storage=storage)
    supervisor = Supervisor([Stage([deaf])], Seen())
    await supervisor.start()
    stopping = asyncio.create_task(supervisor.stop())
    await until(lambda: deaf.state is State.STOPPING)

    begun = time.monotonic()
    supervisor.hurry.set()
    await stopping

    assert not deaf.running
    assert least - 0.5 <= time.monotonic() - begun < least + 30


@pytest.mark.slow
async def test_stopping_while_parts_still_start_leaves_none(tmp_path: Path) -> None:
    slow = part("slow", "import time; time.sleep(600)", tmp_path)
    supervisor = Supervisor([Stage([slow])], Seen())
    starting: asyncio.Task[None] = asyncio.create_task(_ignoring_cancel(supervisor.start()))
    await until(lambda: slow.running)

    starting.cancel()
    await starting
    await supervisor.stop()

    assert not slow.running


async def _ignoring_cancel(starting: Awaitable[None]) -> None:
    try:
        await starting
    except asyncio.CancelledError:
        return


SERVES = """
import http.server, json, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        stalled = pathlib.Path(sys.argv[2]).exists()
        body = json.dumps({"reason": "no progress" if stalled else None, "waiting": [], "progress": 1,
                           "halted": [{"unit": "chat.spans", "partition": 1, "why": "unreadable"}]}).encode()
        self.send_response(503 if stalled else 200)
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("up", flush=True)
server.serve_forever()
"""


async def test_a_part_that_says_it_is_stalled_and_goes_on_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervision.supervisor._ASK_EVERY", 0.1)
    monkeypatch.setattr("cli.supervision.health._SPARED_S", 0.5)
    seen, stalls, port = Seen(), tmp_path / "stalls", free_port()
    child = Child("one", [sys.executable, "-c", SERVES, str(port), str(stalls)], tmp_path / "one.log")
    one = Part("one", "", lambda: child, lambda: ask(port) is not None, start_within=20, health=port)
    supervisor = Supervisor([Stage([one])], seen)
    await supervisor.start()
    await until(lambda: "halted: chat.spans/1: unreadable" in seen.details)

    stalls.touch()
    await until(lambda: bool(seen.order(State.RESTARTING)))
    stalls.unlink()
    await until(lambda: seen.changes[-1] == ("one", State.RUNNING))

    restarted = seen.details[seen.changes.index(("one", State.RESTARTING))]
    assert restarted.startswith("one is stalled and has not ended: no progress")
    assert restarted.endswith("again in 0.5 s")
    await supervisor.stop()


async def test_a_part_that_is_silent_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervision.supervisor._ASK_EVERY", 0.1)
    seen = Seen()
    one = replace(part("one", RUNS, tmp_path), health=free_port())
    supervisor = Supervisor([Stage([one])], seen, silent_within=0.5)
    await supervisor.start()

    await until(lambda: bool(seen.order(State.RESTARTING)))

    restarted = seen.details[seen.changes.index(("one", State.RESTARTING))]
    assert restarted.startswith("one has not answered for ")
    await supervisor.stop()


async def test_a_part_that_starts_slowly_is_waited_for_while_it_gets_on(tmp_path: Path) -> None:
    slow = "import time\nfor n in range(8):\n    print(n, flush=True); time.sleep(0.5)\n" + RUNS
    one = part("one", slow, tmp_path)
    one.start_within = 3

    def ready() -> bool:
        return one.child is not None and one.child.tail(1) == "up"

    one.ready = ready
    supervisor = Supervisor([Stage([one])], Seen())

    await supervisor.start()

    assert one.running
    await supervisor.stop()


async def test_why_a_part_has_ended_itself_is_told(tmp_path: Path) -> None:
    says = "import sys; from infra import logs; from infra.liveness import Part; logs.begin()\n"
    code = f"{RUNS.split(';')[0]}\n{says}sys.stdin.read(); Part('usage').end('the task fetching ended')"
    seen = Seen()
    once = replace(part("usage", code, tmp_path), ready=lambda: True)
    supervisor = Supervisor([Stage([once])], seen)
    await supervisor.start()

    await until(lambda: bool(seen.order(State.RESTARTING)))

    restarted = seen.details[seen.changes.index(("usage", State.RESTARTING))]
    assert restarted.startswith("usage ended with status 70: the task fetching ended; see ")
    await supervisor.stop()
