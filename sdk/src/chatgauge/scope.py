"""What has a start and a finish: used with `with`, with `async with`, or by hand."""

from enum import Enum
from types import TracebackType
from typing import Self

from chatgauge.arguments import INVALID
from chatgauge.recorder import Recorder


class State(Enum):
    """Where a scope is in its life."""

    NEW = 0
    OPEN = 1
    FINISHED = 2
    INERT = 3
    """Measures nothing: the gauge is disabled, or there is no request."""


class MeasuredScope:
    """Started once, finished once. Calls at the wrong time are counted and do nothing."""

    __slots__ = ("_recorder", "_state")

    _recorder: Recorder
    _state: State

    @property
    def recording(self) -> bool:
        """Whether calls have an effect: started and not finished."""
        return self._state is State.OPEN

    def start(self) -> Self:
        """Take the time, and publish the start. `with` does it for you."""
        if self._state is not State.NEW:
            self._untimely("start")
            return self
        self._state = State.OPEN
        try:
            self._begin()
        except Exception as error:  # the chat must go on
            self._recorder.fault(error)
        return self

    def finish(self, error: BaseException | str | None = None) -> None:
        """Take the time, and publish the finish; with an error, as failed. `with` does it for you."""
        if self._state is not State.OPEN:
            self._untimely("finish")
            return
        self._state = State.FINISHED
        try:
            self._end(error)
        except Exception as fault:
            self._recorder.fault(fault)

    def __enter__(self) -> Self:
        if self._state is not State.INERT:
            self.start()
            self._become_current()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._state is not State.INERT:
            self._leave()
            self.finish(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _untimely(self, call: str) -> None:
        if self._state is not State.INERT:
            where = f"{type(self).__name__.lower()}.{call}()"
            self._recorder.notices.count(INVALID, f"{where} came when it was {self._state.name.lower()}")

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self, error: BaseException | str | None) -> None:
        raise NotImplementedError

    def _become_current(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        raise NotImplementedError
