"""A harness, and everything around it in memory."""

from dataclasses import replace
from datetime import timedelta

import pytest

from clients import retry
from streams.runtime import harness as harness_module
from tests.streams.runtime.harness_world import NOW, WIRING, MemoryLog, Published, World


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the harness takes for now, in its only item."""
    now = [NOW]
    monkeypatch.setattr(harness_module, "clock", lambda: now[0])
    return now


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch, clock: list[int]) -> None:
    monkeypatch.setattr(harness_module, "TopicLog", MemoryLog)
    monkeypatch.setattr(harness_module, "PatientPublisher", Published)
    monkeypatch.setattr(retry, "_FIRST_S", 0.001)
    monkeypatch.setattr(retry, "_LONGEST_S", 0.002)
    monkeypatch.setattr(retry, "_JITTER_S", 0.001)
    monkeypatch.setattr(retry, "_LOOK_EVERY_S", 0.001)


@pytest.fixture
async def world(in_memory: None) -> World:
    return World(replace(WIRING, tick_every=timedelta(milliseconds=1)))
