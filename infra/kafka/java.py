"""The Java that Kafka runs on."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from infra.errors import JavaUnusableError

OLDEST = 17
_REMEDY = f"install Java {OLDEST} or newer (Debian and Ubuntu: apt-get install openjdk-17-jre-headless)"


def require_java() -> str:
    """The `java` to run: of JAVA_HOME, else of the PATH. `JavaUnusableError` when absent or too old."""
    java = _of_java_home() or shutil.which("java")
    if java is None:
        raise JavaUnusableError(f"Kafka needs Java, and there is no «java» on the PATH: {_REMEDY}")
    found = java_version(java)
    if found is None:
        raise JavaUnusableError(f"{java} does not run: {_REMEDY}")
    if found < OLDEST:
        raise JavaUnusableError(f"Kafka needs Java {OLDEST}, and {java} is version {found}: {_REMEDY}")
    return java


def _of_java_home() -> str | None:
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else None
    return str(java) if java and java.is_file() else None


def java_version(java: str) -> int | None:
    """The major version (8, 17, …) of a `java` executable; None when it does not say."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None
