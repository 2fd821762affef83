"""Kafka's jars: fetched once with Maven, which checks them against their published checksums."""

import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from infra.errors import JarsUnavailableError
from infra.settings import LocalSettings

_POM = Path(__file__).with_name("pom.xml")
_CHECKOUT = Path(__file__).parents[2]
_NAMESPACE = "{http://maven.apache.org/POM/4.0.0}"


def version() -> str:
    """The Kafka version that `pom.xml` fixes."""
    found = ElementTree.parse(_POM).findtext(f"{_NAMESPACE}properties/{_NAMESPACE}kafka.version")  # noqa: S314
    if not found:
        raise JarsUnavailableError(f"{_POM} names no kafka.version")
    return found


def directory() -> Path:
    """Where the jars are, or would be: CHATGAUGE_KAFKA_JARS, else `var/lib` of the checkout."""
    return LocalSettings().kafka_jars or _CHECKOUT / "var" / "lib" / f"kafka-{version()}"


def require() -> Path:
    """The directory with the jars; `JarsUnavailableError` when they have not been fetched."""
    jars = directory()
    if not any(jars.glob("kafka_*.jar")):
        raise JarsUnavailableError(f"Kafka's jars are not in {jars}: run «make install»")
    return jars


def fetch() -> Path:
    """Bring the jars here unless they are here already. Returns their directory."""
    jars = directory()
    if any(jars.glob("kafka_*.jar")):
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise JarsUnavailableError(
            "Maven is needed to fetch Kafka, and there is no «mvn» on the PATH: "
            "install it (Debian and Ubuntu: apt-get install maven)"
        )
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Moved into place when complete: an interrupted download never looks like a whole one.
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=".fetching-") as partial:
        outcome = subprocess.run(
            [
                maven,
                "--batch-mode",
                "--strict-checksums",
                "--quiet",
                "--file",
                str(_POM),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={partial}/jars",
                "-DincludeScope=runtime",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if outcome.returncode:
            errors = [line for line in outcome.stdout.splitlines() if "ERROR" in line]
            raise JarsUnavailableError(
                f"Maven could not fetch Kafka {version()}: {errors[0] if errors else outcome.stdout[-500:]}"
            )
        Path(partial, "jars").rename(jars)
    return jars
