"""Keeps parts running, and stops them in the opposite order."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cli.supervision.health import Vigil, ask
from cli.supervision.part import FAILURES_TOLD, Part, State, failures_after, pause_after
from infra.errors import LocalServerError, StartFailedError
from infra.patience import Patience
from infra.process import Child

_LOOK_EVERY = 0.1
_SIGNS_EVERY = 1.0
_ASK_EVERY = 5.0
_HURRIED_GRACE = 3.0
_DEAD_WITHIN = 5.0


@dataclass(frozen=True)
class Stage:
    """Parts that start side by side, and what is to be done once they all run (create tables, …).

    Of its parts, the last one is stopped first.
    """

    parts: Sequence[Part]
    then: Callable[[], Awaitable[None]] | None = None


@dataclass
class Supervisor:
    """Starts the stages one after another, and keeps every part running until `stop`.

    All its methods belong to the main thread's event loop: the kernel ties the children to that thread.
    `changed` is called whenever a part enters another state.
    """

    stages: Sequence[Stage]
    changed: Callable[[Part], None]
    silent_within: float = 120.0
    """How many seconds a part may give no answer when it is asked how it is."""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)
    _started: bool = False

    @property
    def parts(self) -> list[Part]:
        return [part for stage in self.stages for part in stage.parts]

    async def start(self) -> None:
        """Returns when all parts run. `LocalServerError` when one cannot; then call `stop`."""
        for stage in self.stages:
            ups = [asyncio.Event() for _ in stage.parts]
            keepers = [
                asyncio.create_task(self._keep(part, up)) for part, up in zip(stage.parts, ups, strict=True)
            ]
            self._keepers += keepers
            await self._all_up(ups)
            if stage.then:
                await stage.then()
        self._started = True

    async def _all_up(self, ups: list[asyncio.Event]) -> None:
        waiting = asyncio.create_task(_each(ups))
        try:
            await asyncio.wait([waiting, *self._keepers], return_when=asyncio.FIRST_COMPLETED)
            for keeper in self._keepers:
                if keeper.done():
                    keeper.result()
        finally:
            waiting.cancel()

    async def _keep(self, part: Part, up: asyncio.Event) -> None:
        while True:
            begun = time.monotonic()
            trouble: LocalServerError
            try:
                child = await self._bring_up(part)
                self._enter(part, State.RUNNING)
                up.set()
                trouble = child.failure(await self._end_of(part, child))
            except StartFailedError as failed:
                trouble = failed
            except LocalServerError as failed:  # a port, a disk, Java: for a person to see to
                if not self._started:
                    raise
                trouble = failed
            part.failures = failures_after(part.failures, time.monotonic() - begun)
            if part.failures >= FAILURES_TOLD and not self._started:
                raise StartFailedError(f"{trouble} (tried {part.failures} times)", _tail(trouble))
            pause = pause_after(part.failures)
            told = part.failures >= FAILURES_TOLD
            detail = f"{trouble}; again in {pause:g} s"
            if told:
                detail += f"\n{_tail(trouble)}"
            self._enter(part, State.FAILING if told else State.RESTARTING, detail)
            await asyncio.sleep(pause)

    async def _bring_up(self, part: Part) -> Child:
        if part.state is State.WAITING:
            self._enter(part, State.STARTING)
        part.child = None
        child = await asyncio.to_thread(part.prepare)
        child.start()
        part.child = child
        patience = Patience(part.start_within, time.monotonic())
        looked = -math.inf
        while not await asyncio.to_thread(part.ready):
            if not child.running:
                raise child.failure(f"{_how_it_ended(child)} while starting")
            if time.monotonic() >= looked + _SIGNS_EVERY:
                looked = time.monotonic()
                if (late := patience.exhausted(looked, child.signs())) is not None:
                    await self._end(part)
                    raise child.failure(f"{part.name} {late}")
            await asyncio.sleep(_LOOK_EVERY)
        return child

    async def _end_of(self, part: Part, child: Child) -> str:
        """Returns when the running part has ended, or had to be ended, and says why."""
        vigil = Vigil(self.silent_within, time.monotonic())
        asked = time.monotonic()
        while part.running:
            await asyncio.sleep(_LOOK_EVERY)
            if part.health is None or time.monotonic() < asked + _ASK_EVERY:
                continue
            answer = await asyncio.to_thread(ask, part.health)
            asked = time.monotonic()
            if (why := vigil.verdict(asked, answer)) is not None and part.running:
                await self._end(part)
                return f"{part.name} {why}"
            if answer is not None and part.running and answer.detail != part.detail:
                part.detail = answer.detail
                self.changed(part)
        return _how_it_ended(child)

    async def stop(self) -> None:
        """Stop everything, last started first; returns when nothing of it runs."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for part in reversed(self.parts):
            await self._end(part)

    async def _end(self, part: Part) -> None:
        if part.child is None or not part.running:
            return
        self._enter(part, State.STOPPING)
        part.child.terminate()
        begun = time.monotonic()
        while part.running:
            waited = time.monotonic() - begun
            if waited >= self._grace(part):
                part.child.kill()
            if waited > self._grace(part) + _DEAD_WITHIN:
                break  # in the kernel's hands; nothing more can be done from here
            await asyncio.sleep(_LOOK_EVERY / 2)
        self._enter(part, State.STOPPED)

    def _grace(self, part: Part) -> float:
        if not self.hurry.is_set():
            return part.grace
        return _HURRIED_GRACE if part.storage else 0.0

    def _enter(self, part: Part, state: State, detail: str = "") -> None:
        part.enter(state, detail)
        self.changed(part)


async def _each(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _how_it_ended(child: Child) -> str:
    said = child.last_words()
    return f"{child.name} ended with status {child.returncode}" + (f": {said}" if said else "")


def _tail(trouble: LocalServerError) -> str:
    return trouble.log_tail if isinstance(trouble, StartFailedError) else ""
