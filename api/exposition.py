"""One Prometheus exposition out of several: each family once, every series with its part."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class _Given(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def parse(text: str) -> list[Metric]:
    """The families of a text exposition. Raises ValueError when it is none."""
    return list(text_string_to_metric_families(text))


def merge(parts: Mapping[str, Iterable[Metric]]) -> bytes:
    """All parts' families as one text exposition; each series gets the label `part`.

    A family that parts describe differently keeps the first description. Where the types differ, it
    is untyped: a series is never dropped.
    """
    merged: dict[str, Metric] = {}
    for part, families in parts.items():
        for family in families:
            one = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            if one.type != family.type:
                one.type = "unknown"
            for sample in family.samples:
                one.samples.append(sample._replace(labels={**sample.labels, "part": part}))
    # The parts' own `part` labels would be overwritten: no part of Chatgauge uses that name.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(merged.values()))
    return generate_latest(registry)
