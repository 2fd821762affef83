"""Failures have few names."""

import asyncio

import pytest
from chatgauge.errors import ConfigurationError
from chatgauge.failures import FailureTypes, of_status, slug


class RateLimitError(Exception):
    """As the providers' libraries call theirs."""


class OurRateLimitError(RateLimitError):
    """A service's own."""


class QuotaError(Exception):
    """Unknown to everybody else."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (ConnectionRefusedError(), "connection_error"),
        (RateLimitError(), "rate_limited"),
        (OurRateLimitError(), "rate_limited"),
        (GeneratorExit(), "cancelled"),
        (ZeroDivisionError("message"), "zero_division_error"),
        (QuotaError("user 17"), "quota_error"),
    ],
)
def test_an_exception_is_named_by_its_nearest_known_ancestor_or_its_class(
    error: BaseException, kind: str
) -> None:
    assert FailureTypes().of(error) == kind


def test_a_service_names_its_own_exceptions() -> None:
    types = FailureTypes({"QuotaError": "Out of quota", "TimeoutError": "too_slow"})
    assert types.of(QuotaError()) == "out_of_quota"
    assert types.of(TimeoutError()) == "too_slow"
    with pytest.raises(ConfigurationError, match="error_types"):
        FailureTypes({"QuotaError": 7})  # type: ignore[dict-item]


def test_after_64_new_names_the_rest_is_other() -> None:
    types = FailureTypes()
    named = {types.named(f"user {i} not found") for i in range(1000)}
    assert len(named) == 65
    assert "other" in named
    assert types.named("timeout") == "timeout"
    assert types.named("user 1 not found") == "user_1_not_found"


def test_names_are_slugs_of_at_most_64_characters() -> None:
    assert slug("HTTPStatusError") == "http_status_error"
    assert slug("Rate limited!") == "rate_limited"
    assert slug("") == slug("!?") == "other"
    assert len(slug("x" * 10_000)) == 64


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (399, None),
        (401, "unauthorized"),
        (422, "invalid_request"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "overloaded"),
        (504, "timeout"),
    ],
)
def test_a_status_tells_of_a_failure(status: int, kind: str | None) -> None:
    assert of_status(status) == kind
