"""One exposition of several: valid, complete, and every series with its part."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from api.exposition import merge, parse


def part(value: float) -> str:
    registry = CollectorRegistry()
    Counter("events", "Events read.", ["table"], registry=registry).labels('a"b\n').inc(value)
    Histogram("step_seconds", "Steps.", buckets=(0.1, 1), registry=registry).observe(value)
    return generate_latest(registry).decode()


def families(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def merged(parts: dict[str, str]) -> bytes:
    return merge({name: parse(text) for name, text in parts.items()})


def described(text: bytes, kind: bytes) -> list[bytes]:
    return [line.split()[2] for line in text.splitlines() if line.startswith(b"# " + kind)]


def test_each_family_is_described_once() -> None:
    text = merged({"rollup": part(1), "usage": part(2)})
    for kind in (b"HELP", b"TYPE"):
        names = described(text, kind)
        assert len(names) == len(set(names))
        assert b"events_total" in names


def test_every_series_says_which_part_it_comes_from_and_keeps_its_value() -> None:
    found = families(merged({"rollup": part(1), "usage": part(2)}))
    samples = found["events"].samples
    totals = {s.labels["part"]: (s.labels["table"], s.value) for s in samples if s.name == "events_total"}
    assert totals == {"rollup": ('a"b\n', 1), "usage": ('a"b\n', 2)}
    assert found["step_seconds"].type == "histogram"
    for family in found.values():
        assert all("part" in sample.labels for sample in family.samples)


def test_no_series_is_lost_where_parts_disagree_about_a_type() -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    Gauge("depth", "A.", registry=registries[0]).set(1)
    Histogram("depth", "B.", buckets=(1,), registry=registries[1]).observe(2)
    texts = [generate_latest(registry).decode() for registry in registries]
    text = merged({"a": texts[0], "b": texts[1]})
    values = {(s.name, s.labels["part"]): s.value for s in _samples(text) if "le" not in s.labels}
    assert values["depth", "a"] == 1
    assert values["depth_sum", "b"] == 2


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        parse("<html>not here</html>")


def _samples(text: bytes) -> Iterable[object]:
    return [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
