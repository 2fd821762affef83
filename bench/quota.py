"""Limits processes to a share of one core, where the machine lets us: Linux with a writable cgroup tree."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PERIOD_US = 20_000
_V2 = Path("/sys/fs/cgroup")
_V1 = _V2 / "cpu"


class NoQuotaError(RuntimeError):
    """This machine doesn't let us limit processes; the message says why."""


@contextmanager
def limited(cores: float, pids: list[int]) -> Iterator[None]:
    """Each of the processes, threads included, gets so much of a core, as long as the block runs."""
    groups: list[Path] = []
    try:
        for pid in pids:
            groups.append(_group(cores))
            (groups[-1] / "cgroup.procs").write_text(str(pid))
        yield
    except OSError as problem:
        raise NoQuotaError(f"no CPU quota can be set here: {problem}") from problem
    finally:
        for group in groups:
            _give_back(group)


def _group(cores: float) -> Path:
    first = (_V1 / "cpu.cfs_quota_us").parent
    name = f"chatgauge-bench-{uuid.uuid4().hex[:8]}"
    quota = str(int(cores * _PERIOD_US))
    if (_V1 / "cpu.cfs_period_us").exists():
        group = first / name
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(quota)
        return group
    group = _V2 / name
    group.mkdir()
    (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
    return group


def _give_back(group: Path) -> None:
    """The processes go where they came from: a group with members can't be removed."""
    parent = group.parent / "cgroup.procs"
    for pid in (group / "cgroup.procs").read_text().split():
        if Path(f"/proc/{pid}").exists() and int(pid) != os.getpid():
            parent.write_text(pid)
    group.rmdir()
