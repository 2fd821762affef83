"""Runs a command that the kernel kills when the process which started it is gone.

    python pdeathsig.py PARENT_PID COMMAND [ARGUMENT ...]

Executed as a file by `infra.process`, never imported: it replaces itself by the command, so that the
process id and the signals are the command's own. A shell that starts jobs in the background lets them
ignore SIGINT, and that is inherited; the command starts with the default dispositions.

The kernel watches the *thread* that forked: start long-lived children from the main thread.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked to watch it
        sys.exit(1)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _die_with(int(sys.argv[1]))
    try:
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
    except OSError as problem:
        sys.exit(f"cannot run {sys.argv[2]}: {problem.strerror}")
