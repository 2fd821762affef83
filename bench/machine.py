"""Where the figures were taken: they mean nothing without it."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_OURS = ("faust-streaming", "aiokafka", "polars", "pyarrow", "numpy", "chdb", "clickhouse-connect")
_PEERS = ("quixstreams", "bytewax", "confluent-kafka", "fastavro")


def facts(peers_python: Path | None) -> dict[str, Any]:
    """Cores, memory, versions, date, and the commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _OURS}
        | ({} if peers_python is None else _versions(peers_python)),
    }


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _commit() -> str:
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return told.stdout.strip()


def _versions(interpreter: Path) -> dict[str, str]:
    code = f"from importlib.metadata import version\nfor name in {_PEERS!r}: print(name, version(name))"
    told = subprocess.run([str(interpreter), "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in told.stdout.splitlines())
