"""One child process: its log, its life and its end."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.errors import DiskFullError, StartFailedError
from infra.patience import Patience, Signs, cpu_of

_PDEATHSIG = Path(__file__).with_name("pdeathsig.py")
_LOG_KEPT = 32 * 1024 * 1024
_NO_SPACE = "No space left on device"
_REASON = re.compile(r" CRITICAL \S+: \w+ ends: (.+)$")


class Child:
    """A command that runs as a child of this process and cannot outlive it.

    Its output is appended to `log`. It has a process group of its own, so that Ctrl-C in a terminal
    reaches only the parent, which stops its children in the right order.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """None while it runs, or has never been started."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; call from a thread that lives as long as the child shall (see `infra.pdeathsig`)."""
        if self.running:
            raise StartFailedError(f"{self.name} runs already (pid {self.pid})")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_KEPT:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PDEATHSIG), str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self._env,
                start_new_session=True,
            )

    def tail(self, lines: int = 20) -> str:
        """The last lines that this run wrote to its log."""
        try:
            with self.log.open("rb") as written:
                end = written.seek(0, os.SEEK_END)
                written.seek(max(self._log_start, end - 64 * 1024))
                text = written.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], timeout: float, every: float = 0.1) -> None:
        """Block until `ready()`; `StartFailedError` with the log's tail when it ends, or shows no progress
        for `timeout` seconds."""
        patience = Patience(timeout, time.monotonic())
        while not ready():
            if not self.running:
                raise self.failure(f"{self.name} ended with status {self.returncode} while starting")
            if (late := patience.exhausted(time.monotonic(), self.signs())) is not None:
                raise self.failure(f"{self.name} {late}")
            time.sleep(every)

    def signs(self, steps: int = 0) -> Signs:
        """What there is to see of its progress; `steps` are those that it says it has taken."""
        try:
            written = self.log.stat().st_size
        except OSError:
            written = 0
        return Signs(written, cpu_of(self.pid) if self.pid is not None else 0.0, steps)

    def last_words(self) -> str | None:
        """Why it ended, as it said itself in its last line; None when it did not."""
        found = _REASON.search(self.tail(1))
        return found[1] if found else None

    def failure(self, message: str) -> DiskFullError | StartFailedError:
        """The error to raise, with the log's tail: a full disk is told by its name."""
        tail = self.tail()
        if _NO_SPACE in tail:
            return DiskFullError(f"the disk of {self.log.parent} is full: free some space and start again")
        return StartFailedError(f"{message}; see {self.log}", tail)

    def terminate(self) -> None:
        """Ask it to stop; does not wait."""
        if self._process and self.running:
            self._process.terminate()

    def kill(self) -> None:
        if self._process and self.running:
            self._process.kill()

    def stop(self, grace: float = 15.0) -> None:
        """Ask it to stop, wait, and kill it when it takes longer than `grace` seconds."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
