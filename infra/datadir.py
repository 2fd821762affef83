"""A data directory belongs to one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import DirectoryInUseError, DiskFullError, StartFailedError


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory (created if missing); the kernel lets go when the process ends, however it ends.

    `DirectoryInUseError` when another process holds it.
    """
    path = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as problem:
        raise StartFailedError(
            f"cannot write to {directory}: {problem.strerror}; choose another directory with --data"
        ) from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            lock.seek(0)
            owner = lock.read().strip()
            raise DirectoryInUseError(
                f"{directory} is in use by another Chatgauge{f' (pid {owner})' if owner else ''}: "
                "stop it, or choose another directory with --data"
            ) from taken
        lock.truncate(0)
        try:
            lock.write(str(os.getpid()))
            lock.flush()
        except OSError as problem:
            raise DiskFullError(
                f"cannot write to {directory}: {problem.strerror}; free some space"
            ) from problem
        yield
