"""A harness, and everything around it in memory.

It is imported where it is asked for: most tests of the runtime have no use for it.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.streams.runtime.harness_world import World


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the harness takes for now, in its only item."""
    from tests.streams.runtime.harness_world import NOW

    now = [NOW]
    monkeypatch.setattr("streams.runtime.harness.clock", lambda: now[0])
    return now


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch, clock: list[int], hurried: None) -> None:
    """A harness that is made has its changelog in memory, and its publisher too."""
    from tests.streams.runtime.harness_world import MemoryLog, Published

    monkeypatch.setattr("streams.runtime.harness.TopicLog", MemoryLog)
    monkeypatch.setattr("streams.runtime.harness.PatientPublisher", Published)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr("clients.retry._FIRST_S", 0.001)
    monkeypatch.setattr("clients.retry._LONGEST_S", 0.002)
    monkeypatch.setattr("clients.retry._JITTER_S", 0.001)
    monkeypatch.setattr("clients.retry._LOOK_EVERY_S", 0.001)


@pytest.fixture
async def world(in_memory: None) -> "World":
    from tests.streams.runtime.harness_world import World

    return World()
