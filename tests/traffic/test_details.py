"""What simulated requests report beside their figures hangs together, as a product's would."""

from datetime import UTC, datetime

import polars as pl
import pytest

from schemas.contract import schema
from traffic.product import EXPERIMENT, SERVICES
from traffic.scenario import Scenario
from traffic.simulate import blocks


@pytest.fixture(scope="module")
def drawn() -> pl.DataFrame:
    scenario = Scenario(start=datetime(2026, 3, 2, 9, tzinfo=UTC), seed=5, count=30_000, rate=50.0)
    return pl.concat(block.requests for block in blocks(scenario))


def of(drawn: pl.DataFrame, **equal: str) -> pl.DataFrame:
    found = drawn.filter(**equal)
    assert found.height > 100
    return found


def test_every_field_of_the_contract_is_reported_by_somebody(drawn: pl.DataFrame) -> None:
    fields = schema("RequestEvent").fields.keys()
    assert fields <= set(drawn.columns)
    assert [name for name in fields if drawn[name].null_count() == drawn.height] == []


def test_an_instance_is_in_one_of_its_services_regions(drawn: pl.DataFrame) -> None:
    regions = {service.name: set(service.regions) for service in SERVICES}
    found = drawn.group_by("service", "instance").agg(pl.col("region").unique())
    assert found.height == sum(service.instances for service in SERVICES)
    for service, _, region in found.iter_rows():
        assert len(region) == 1
        assert region[0] in regions[service]
    assert drawn["region"].n_unique() == 4


def test_embeddings_have_no_answer(drawn: pl.DataFrame) -> None:
    embedded = of(drawn, operation="embeddings")
    assert set(embedded["model"]) == {"text-embedding-3-small"}
    unknown = ("completion_tokens", "first_token_us", "last_token_us", "output_chunks", "finish_reason")
    assert embedded.select(pl.col(unknown).count()).row(0) == (0,) * 5
    assert embedded["prompt_tokens"].null_count() == 0
    assert not embedded["streamed"].any()
    assert embedded["model_us"].max() < 200_000  # type: ignore[operator]
    assert set(drawn["operation"]) == {"chat", "embeddings"}


def test_a_conversation_is_one_user_s_at_one_service(drawn: pl.DataFrame) -> None:
    known = drawn.drop_nulls("conversation_id")
    assert known.height == drawn["user_id"].count()
    by = known.group_by("conversation_id").agg(pl.col("user_id", "service").n_unique(), pl.len())
    assert by.select(pl.col("user_id", "service").max()).row(0) == (1, 1)
    assert 0.1 < (by["len"] > 1).mean() < 0.9  # type: ignore[operator]


def test_only_anthropic_tells_what_was_written_and_never_more_than_was_fresh(drawn: pl.DataFrame) -> None:
    told = drawn.drop_nulls("cache_write_tokens")
    assert set(told["provider"]) == {"anthropic"}
    assert told.filter(
        pl.col("cache_write_tokens") > pl.col("prompt_tokens") - pl.col("cached_tokens")
    ).is_empty()
    assert 0.1 < (told["cache_write_tokens"] > 0).mean() < 0.5  # type: ignore[operator]
    hour = told.filter(pl.col("cache_write_1h_tokens") > 0)
    assert 0 < hour.height < told.height / 5


def test_spoken_requests_are_a_voice_model_s(drawn: pl.DataFrame) -> None:
    spoken = drawn.filter(pl.col("prompt_audio_tokens") > 0)
    assert set(spoken.select("service", "model").iter_rows()) == {("chat-mobile", "gpt-4o-audio-preview")}
    assert (spoken["completion_audio_tokens"] > 0).all()
    assert spoken.height == drawn["completion_audio_tokens"].count() > 20


def test_the_last_token_comes_after_the_first_and_before_the_end(drawn: pl.DataFrame) -> None:
    streamed = drawn.drop_nulls("first_token_us")
    assert streamed.select("last_token_us", "output_chunks").null_count().row(0) == (0, 0)
    assert (streamed["first_token_us"] <= streamed["last_token_us"]).all()
    assert (streamed["last_token_us"] <= streamed["total_us"]).all()
    assert drawn["last_token_us"].count() == drawn["output_chunks"].count() == streamed.height
    words = streamed["completion_tokens"] - streamed["reasoning_tokens"].fill_null(0)
    assert (streamed["output_chunks"] <= words.clip(1)).all()
    google = of(streamed.filter(pl.col("completion_tokens") > 1_000), provider="google")
    assert google["output_chunks"].max() < google["completion_tokens"].min()  # type: ignore[operator]


def test_answers_end_for_a_reason_in_the_providers_own_words(drawn: pl.DataFrame) -> None:
    reasons = {
        provider: set(rows["finish_reason"].drop_nulls())
        for (provider,), rows in drawn.filter(pl.col("error_type").is_null()).group_by("provider")
    }
    assert reasons["openai"] == {"stop", "length", "tool_calls"}
    assert reasons["anthropic"] == {"end_turn", "max_tokens", "tool_use"}
    assert reasons["google"] == {"STOP", "MAX_TOKENS"}
    filtered = drawn.filter(error_type="content_filter")["finish_reason"]
    assert set(filtered) <= {"content_filter", "refusal", "SAFETY"}
    for unanswered in (drawn.filter("cache_hit"), drawn.filter(error_type="timeout")):
        assert unanswered["finish_reason"].count() == 0


def test_a_user_is_always_in_the_same_variant_of_one_service_s_experiment(drawn: pl.DataFrame) -> None:
    assert set(drawn.drop_nulls("experiment")["service"]) == {EXPERIMENT.service}
    tested = of(drawn, service=EXPERIMENT.service)
    assert set(tested["variant"]) == set(EXPERIMENT.variants)
    by_user = tested.drop_nulls("user_id").group_by("user_id").agg(pl.col("variant").n_unique())
    assert by_user["variant"].max() == 1
    assert drawn.drop_nulls("variant").height == tested.height


def test_who_counts_retries_has_some(drawn: pl.DataFrame) -> None:
    counted = drawn.drop_nulls("retries")
    assert set(counted["service"]) == {service.name for service in SERVICES if service.counts_retries}
    assert 0.01 < (counted.filter(pl.col("error_type").is_null())["retries"] > 0).mean() < 0.06  # type: ignore[operator]
    assert set(counted.filter(error_type="rate_limited")["retries"]) == {3}
