"""`python -m infra.kafka`: fetch Kafka's jars, once."""

import sys

from infra.errors import LocalServerError
from infra.kafka.jars import fetch, version

try:
    sys.stdout.write(f"Kafka {version()} is in {fetch()}\n")
except LocalServerError as problem:
    sys.exit(f"chatgauge: {problem}")
