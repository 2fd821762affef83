"""Room on the disk: before it is full, merging ends and inserting is refused."""

import os
from pathlib import Path

import pytest

from infra.clickhouse.errors import NOT_ENOUGH_SPACE, ClickHouseError
from infra.clickhouse.space import Space


class Disk:
    """What the disk says is free, and what the engine was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1_000
        self.asked: list[str] = []
        self.merging = 2

        def statvfs(_: Path) -> os.statvfs_result:
            return os.statvfs_result((1, 1, 0, 0, self.free, 0, 0, 0, 0, 0, 0))

        monkeypatch.setattr("infra.clickhouse.space.os.statvfs", statvfs)

    async def ask(self, statement: str) -> str:
        self.asked.append(statement)
        if "merges" in statement:
            self.merging -= 1
        return str(self.merging)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_merging_has_ended_when_inserts_are_refused_and_goes_on_when_there_is_room(
    disk: Disk, tmp_path: Path
) -> None:
    space = Space(tmp_path, 500, disk.ask)
    await space.look()
    space.require()
    assert disk.asked == []

    disk.free = 499
    await space.look()
    assert disk.asked == ["SYSTEM STOP MERGES", *["SELECT count() FROM system.merges"] * 2]
    with pytest.raises(ClickHouseError, match="free some space") as refused:
        space.require()
    assert (refused.value.code, refused.value.status) == (NOT_ENOUGH_SPACE, 500)

    disk.free = 501
    await space.look()
    with pytest.raises(ClickHouseError):
        space.require()
    assert len(disk.asked) == 3, "a little more room is not enough: it would be gone at once"

    disk.free = 626
    await space.look()
    space.require()
    assert disk.asked[3:] == ["SYSTEM START MERGES"]


async def test_inserts_are_refused_before_anybody_has_looked(disk: Disk, tmp_path: Path) -> None:
    disk.free = 499
    with pytest.raises(ClickHouseError, match="0 MiB are free"):
        Space(tmp_path, 500, disk.ask).require()
