"""What is going on, on the screen."""

import time

_BEGAN = time.monotonic()


def say(line: str) -> None:
    """A line, with the time since the start."""
    passed = int(time.monotonic() - _BEGAN)
    print(f"{passed // 60:3d}:{passed % 60:02d}  {line}", flush=True)
