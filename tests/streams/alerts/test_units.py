"""Figures are read as people write them, exactly; what is in doubt is refused with what would be right."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.alerts.durations import parse_duration, write_duration
from streams.alerts.errors import UnitError
from streams.alerts.units import (
    COUNTS,
    DEVIATIONS,
    LATENCY,
    MONEY,
    NUMBER,
    RATES,
    SHARE,
    UNITS,
    Unit,
    rounded,
    show,
)


@pytest.mark.parametrize(
    ("written", "span"),
    [
        ("5m", 5 * MINUTE),
        ("5 min", 5 * MINUTE),
        (" 1 minute ", MINUTE),
        ("90s", 90 * SECOND),
        ("90 seconds", 90 * SECOND),
        ("1h30m", 90 * MINUTE),
        ("1 h 30 min", 90 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("0.3s", 300_000),
        ("250ms", 250_000),
        ("10us", 10),
        ("10 µs", 10),
        ("2 days", 2 * DAY),
        ("1w", 7 * DAY),
        ("24h", DAY),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(written: str, span: int) -> None:
    assert parse_duration(written) == span


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("5", "'5' has no unit; write a duration with its unit, such as 90s, 5m, 1h30m or 7d"),
        (5, "5 has no unit"),
        (0, "0 has no unit"),
        (True, "this is no duration"),
        (None, "this is no duration"),
        (["5m"], "this is no duration"),
        ("", "this is no duration"),
        ("5 %", "'5 %' is no duration"),
        ("-5m", "'-5m' is no duration"),
        ("5 tokens", "there is no unit 'tokens'"),
        ("1M", "'1M': there is no unit 'M'; m is a minute; a month has no fixed length, write 30d"),
        ("soon", "'soon' is no duration"),
        ("1h30", "'1h30' is no duration"),
        ("0.1us", "no whole number of microseconds"),
        ("9" * 100 + "s", "this is no duration"),
    ],
)
def test_what_is_no_duration_is_refused(written: object, told: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_duration(written)
    assert told in str(refused.value)
    assert refused.value.right


@settings(deadline=None)
@given(st.integers(0, 400 * DAY))
def test_a_duration_that_is_written_reads_the_same(span: int) -> None:
    assert parse_duration(write_duration(span)) == span


@pytest.mark.parametrize(
    ("span", "written"),
    [
        (5 * MINUTE, "5m"),
        (90 * MINUTE, "1h30m"),
        (7 * DAY, "7d"),
        (HOUR, "1h"),
        (1_500_000, "1s500ms"),
        (0, "0s"),
    ],
)
def test_a_duration_is_written_in_its_largest_units(span: int, written: str) -> None:
    assert write_duration(span) == written


@pytest.mark.parametrize(
    ("unit", "written", "value"),
    [
        (SHARE, "10 %", 0.1),
        (SHARE, "10%", 0.1),
        (SHARE, "0.1 percent", 0.001),
        (SHARE, "5 ‰", 0.005),
        (SHARE, "150 %", 1.5),
        (SHARE, "-70 %", -0.7),
        (SHARE, "−70 %", -0.7),
        (SHARE, 0, 0.0),
        (SHARE, "0", 0.0),
        (LATENCY, "5 s", 5000.0),
        (LATENCY, "5s", 5000.0),
        (LATENCY, "200 ms", 200.0),
        (LATENCY, "0.5 min", 30_000.0),
        (LATENCY, "750 µs", 0.75),
        (MONEY, "3 USD", 3.0),
        (MONEY, "$3", 3.0),
        (MONEY, "3 $", 3.0),
        (MONEY, "0.02 dollars", 0.02),
        (MONEY, "2k USD", 2000.0),
        (COUNTS["tokens"], "2M tokens", 2e6),
        (COUNTS["tokens"], "2 M tokens", 2e6),
        (COUNTS["tokens"], "2Mtokens", 2e6),
        (COUNTS["tokens"], "500k", 5e5),
        (COUNTS["tokens"], "2 000 000 tokens", 2e6),
        (COUNTS["tokens"], "2_000_000", 2e6),
        (COUNTS["tokens"], 2_000_000, 2e6),
        (COUNTS["tokens"], "1 token", 1.0),
        (COUNTS["tokens"], "2e6 tokens", 2e6),
        (COUNTS["requests"], "50", 50.0),
        (COUNTS["requests"], "50 errors", 50.0),
        (COUNTS["requests"], "1 request", 1.0),
        (RATES["requests"], "100/s", 100.0),
        (RATES["requests"], "100 / s", 100.0),
        (RATES["requests"], "100 requests/s", 100.0),
        (RATES["requests"], "100 per second", 100.0),
        (RATES["requests"], "100 requests per second", 100.0),
        (RATES["requests"], "2k/s", 2000.0),
        (RATES["requests"], "3000/min", 50.0),
        (RATES["requests"], "100 rps", 100.0),
        (RATES["requests"], "120 rpm", 2.0),
        (RATES["requests"], "1/min", 1 / 60),
        (RATES["tokens"], "60k tokens/min", 1000.0),
        (RATES["USD"], "3.6 USD/h", 0.001),
        (RATES["USD"], "$3.6/h", 0.001),
        (NUMBER, 2, 2.0),
        (NUMBER, "-2.5", -2.5),
        (NUMBER, "1.5k", 1500.0),
        (NUMBER, "512 MiB", 512 * 2**20),
        (NUMBER, "2GB", 2e9),
        (DEVIATIONS, 3, 3.0),
        (DEVIATIONS, "-3 sd", -3.0),
        (DEVIATIONS, "2.5 \N{GREEK SMALL LETTER SIGMA}", 2.5),
    ],
)
def test_a_figure_is_read_in_its_unit(unit: Unit, written: object, value: float) -> None:
    assert unit.parse(written) == value


@pytest.mark.parametrize(
    ("unit", "written", "told"),
    [
        (SHARE, 0.1, "0.1 has no unit; write it as in 10 %"),
        (SHARE, "10", "'10' has no unit; write it as in 10 %"),
        (SHARE, "10 s", "'10 s': 's' is no unit of this figure; write it as in 10 %"),
        (LATENCY, 5, "5 has no unit; write it as in 200 ms or 5 s"),
        (LATENCY, "5 %", "'%' is no unit of this figure; write it as in 200 ms or 5 s"),
        (MONEY, 3, "3 has no unit; costs are in US dollars: write it as in 3 USD"),
        (MONEY, "3 EUR", "'EUR' is no unit of this figure; costs are in US dollars"),
        (COUNTS["tokens"], "2m tokens", "'m tokens' is no unit of this figure; write it as in 500k tokens"),
        (COUNTS["tokens"], "3 USD", "'USD' is no unit of this figure; write it as in 500k tokens"),
        (COUNTS["tokens"], "5/s", "'/s' is no unit of this figure"),
        (COUNTS["tokens"], "5 K tokens tokens", "is no unit of this figure"),
        (RATES["requests"], 100, "100 has no unit; write it as in 100/s or 3000/min"),
        (RATES["requests"], "100", "'100' has no unit; write it as in 100/s or 3000/min"),
        (RATES["requests"], "100/x", "'/x' is no unit of this figure"),
        (RATES["requests"], "100 tokens/s", "'tokens/s' is no unit of this figure"),
        (RATES["USD"], "3/h", "'/h' is no unit of this figure; write it as in 3 USD/h"),
        (NUMBER, "5 s", "'s' is no unit of this figure; write it as in 2, 1.5k or 512MiB"),
        (LATENCY, "1,5 s", "'1,5 s' has a comma; write 1500 or 1 500 for thousands, 1.5 for a part of one"),
        (COUNTS["tokens"], "1,000", "has a comma"),
        (COUNTS["tokens"], "many", "'many' is no figure"),
        (COUNTS["tokens"], "12 34", "'34' is no unit of this figure"),
        (COUNTS["tokens"], "", "'' is no figure"),
        (COUNTS["tokens"], "nan", "'nan' is no figure"),
        (COUNTS["tokens"], math.inf, "inf is no figure"),
        (COUNTS["tokens"], math.nan, "nan is no figure"),
        (COUNTS["tokens"], "1e999", "'1e999' is too large"),
        (COUNTS["tokens"], "9" * 100, "is no figure"),
        (COUNTS["tokens"], True, "this is no figure"),
        (COUNTS["tokens"], None, "this is no figure"),
        (COUNTS["tokens"], [5], "this is no figure"),
    ],
)
def test_a_figure_in_doubt_or_of_another_unit_is_refused(unit: Unit, written: object, told: str) -> None:
    with pytest.raises(UnitError) as refused:
        unit.parse(written)
    assert told in str(refused.value)
    assert refused.value.right


@settings(deadline=None)
@given(
    st.sampled_from(sorted(UNITS)),
    st.floats(0, 1e300) | st.integers(0, 10**12).map(float) | st.integers(0, 1000).map(lambda n: n / 100),
)
def test_a_figure_that_is_written_reads_the_same(symbol: str, value: float) -> None:
    unit = UNITS[symbol]
    written = unit.write(value)
    assert len(written) < 64
    assert unit.parse(written) == value
    assert unit.parse(unit.write(-value)) == -value


@settings(deadline=None)
@given(
    st.sampled_from(sorted(UNITS)),
    st.text(max_size=30) | st.from_regex(r"[0-9]{1,3} ?[a-zA-Z%/$ ]{0,8}", fullmatch=True),
)
def test_any_text_is_a_finite_figure_or_refused(symbol: str, text: str) -> None:
    try:
        value = UNITS[symbol].parse(text)
    except UnitError as error:
        refused = error
    else:
        assert math.isfinite(value)
        return
    assert refused.right


@pytest.mark.parametrize(
    ("value", "symbol", "shown"),
    [
        (0.12345, "ratio", "12.3 %"),
        (1.5, "ratio", "150 %"),
        (5234.0, "ms", "5.23 s"),
        (812.4, "ms", "812 ms"),
        (0.3456, "USD", "0.346 USD"),
        (1_234_567.0, "tokens", "1.23M tokens"),
        (9_876.0, "tokens", "9876 tokens"),
        (12_345.0, "tokens", "12.3k tokens"),
        (152.34, "1/s", "152/s"),
        (0.0, "tokens", "0 tokens"),
        (-0.7, "ratio", "-70 %"),
        (2.0, "number", "2"),
        (3.14159, "deviations", "3.14 standard deviations"),
        (None, "ms", "no data"),
    ],
)
def test_a_figure_is_shown_rounded(value: float | None, symbol: str, shown: str) -> None:
    assert show(value, symbol) == shown


@settings(deadline=None)
@given(st.floats(-1e12, 1e12))
def test_rounding_keeps_three_digits(value: float) -> None:
    assert math.isclose(float(rounded(value)), value, rel_tol=0.005, abs_tol=1e-300)
