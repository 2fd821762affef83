"""A small disk of ClickHouse's own, which can be filled."""

import contextlib
import ctypes
import os
import subprocess
from pathlib import Path

_NEW_MOUNTS = 0x00020000
_SIZE = 1024**3
_CHUNK = 4 * 1024**2
_SHORT = 32 * 1024**2


def keep_mounts_to_oneself() -> bool:
    """What this process mounts from now on is gone when it ends, however it ends; whether that could be done.

    To be called before any thread is started.
    """
    if os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(_NEW_MOUNTS) == 0 and _mount("--make-rprivate", "/")


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Disk:
    """A directory; where this user may mount, on a disk in memory of 1 GiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mounted = False

    def mount(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.mounted = _mount("-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(self.path))

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.path)], capture_output=True, check=False)
            self.mounted = False

    def shorten(self) -> None:
        """Leave less than ClickHouse keeps free. Only where it is mounted."""
        self._leave(_SHORT)

    def fill(self) -> None:
        """Leave nothing. Only where it is mounted."""
        self._leave(0)

    def _leave(self, left: int) -> None:
        assert self.mounted, "this would fill the disk of the machine"
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while (room := self._room() - left) > 0:
                ballast.write(bytes(min(room, _CHUNK)))

    def _room(self) -> int:
        free = os.statvfs(self.path)
        return free.f_bavail * free.f_frsize

    def free(self) -> None:
        """Room again."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"
