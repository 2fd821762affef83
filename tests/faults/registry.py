"""The kinds of faults that there are, each registered by the function that is its course."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.scene import Course, Scene
from tests.faults.schedule import Kind


@dataclass(frozen=True)
class Entry:
    """A kind of fault, what it does, and the longest that recovering may take, in seconds."""

    kind: Kind
    course: Callable[[Scene], Course]
    within_s: float

    @property
    def about(self) -> str:
        """In a line."""
        return (self.course.__doc__ or "").strip().splitlines()[0]


CATALOGUE: dict[str, Entry] = {}
"""By name."""


def fault(
    name: str,
    lanes: tuple[str, ...],
    *,
    within_s: float = 60.0,
    either: bool = False,
    lasting: bool = False,
) -> Callable[[Callable[[Scene], Course]], Callable[[Scene], Course]]:
    def register(course: Callable[[Scene], Course]) -> Callable[[Scene], Course]:
        CATALOGUE[name] = Entry(Kind(name, lanes, either, lasting), course, within_s)
        return course

    return register
