"""A process as a part: watched over, and served."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prometheus_client import REGISTRY, CollectorRegistry

from infra.liveness.part import Part
from infra.liveness.server import serving
from infra.liveness.watchdog import Watchdog
from infra.settings import LivenessSettings, MetricsSettings


@contextmanager
def attended(name: str, port: int | None, registry: CollectorRegistry = REGISTRY) -> Iterator[Part]:
    """This process as the part `name`, whose health and metrics are served on `port` meanwhile.

    0 is a free port, None serves nothing. Raises SystemExit when the port can't be had.
    """
    part = Part(name)
    Watchdog(part, LivenessSettings().stall_after.total_seconds()).start()
    with ExitStack() as stack:
        if port is not None:
            host = MetricsSettings().host
            try:
                stack.enter_context(serving(part, host, port, registry))
            except OSError as error:
                raise SystemExit(
                    f"The metrics of {name} can't be served on {host}:{port} ({error.strerror or error}): "
                    "is the port taken?"
                ) from None
        yield part
