-- The same figures straight from the raw events: slower, exact to the event, and independent of
-- the windows. The copies of an event may lie in parts of different days: FINAL merges across them.

CREATE OR REPLACE VIEW requests
(
    `occurred_at` DateTime64(6, 'UTC') COMMENT 'When the request ended.',
    `request_id` String COMMENT 'The request.',
    `event_id` String COMMENT 'The event that reports it.',
    `trace_id` Nullable(String) COMMENT 'Its trace.',
    `conversation_id` Nullable(String) COMMENT 'The conversation that it is a turn of.',
    `imported` Bool COMMENT 'Brought in after the fact: a replayed trace, a backfill.',
    `service` String COMMENT 'The chat service.',
    `instance` Nullable(String) COMMENT 'Which instance of the service.',
    `region` Nullable(String) COMMENT 'Where the request was served.',
    `provider` String COMMENT 'Who serves the model.',
    `model` String COMMENT 'The model.',
    `operation` Nullable(String) COMMENT 'What was asked of the model: chat, embeddings, ...',
    `space_id` Nullable(String) COMMENT 'The space.',
    `user_id` Nullable(String) COMMENT 'The pseudonym of the user.',
    `workflow` Nullable(String) COMMENT 'The workflow.',
    `workflow_version` Nullable(String) COMMENT 'Its version.',
    `experiment` Nullable(String) COMMENT 'The experiment that the request is a part of.',
    `variant` Nullable(String) COMMENT 'Which variant of the experiment answered.',
    `error_type` Nullable(String) COMMENT 'The kind of failure; NULL when it went well.',
    `retries` Nullable(Int64) COMMENT 'Attempts that failed before the one that is reported.',
    `finish_reason` Nullable(String) COMMENT 'Why the model stopped, as the provider spells it.',
    `cache_hit` Bool COMMENT 'Answered from the response cache of the service.',
    `streamed` Bool COMMENT 'The answer was streamed token by token.',
    `prompt_tokens` Nullable(Int64) COMMENT 'Prompt tokens, cached, written and audio ones included.',
    `cached_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `cache_write_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens written to the cache of the provider, one-hour ones included.',
    `cache_write_1h_tokens` Nullable(Int64) COMMENT 'Those of cache_write_tokens written for an hour.',
    `prompt_audio_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that are audio.',
    `completion_tokens` Nullable(Int64) COMMENT 'Completion tokens, reasoning and audio ones included.',
    `reasoning_tokens` Nullable(Int64) COMMENT 'Those of completion_tokens spent on reasoning.',
    `completion_audio_tokens` Nullable(Int64) COMMENT 'Those of completion_tokens that are audio.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD; NULL: unpriced.',
    `total_ms` Nullable(Float64) COMMENT 'From request to last byte.',
    `context_ms` Nullable(Float64) COMMENT 'Of that, gathering the context.',
    `model_ms` Nullable(Float64) COMMENT 'Of that, the share of the model.',
    `first_token_ms` Nullable(Float64) COMMENT 'From request to first token.',
    `last_token_ms` Nullable(Float64) COMMENT 'From request to last token.',
    `output_chunks` Nullable(Int64) COMMENT 'In how many chunks the answer was streamed.',
    `attributes` Array(String) COMMENT 'Allow-listed key=value pairs.'
)
AS SELECT
    occurred_at,
    request_id,
    event_id,
    trace_id,
    conversation_id,
    imported,
    service,
    instance,
    region,
    provider,
    model,
    operation,
    space_id,
    user_id,
    workflow,
    workflow_version,
    experiment,
    variant,
    error_type,
    retries,
    finish_reason,
    cache_hit,
    streamed,
    prompt_tokens,
    cached_tokens,
    cache_write_tokens,
    cache_write_1h_tokens,
    prompt_audio_tokens,
    completion_tokens,
    reasoning_tokens,
    completion_audio_tokens,
    priced_nano_usd / 1e9 AS cost_usd,
    total_us / 1000 AS total_ms,
    context_us / 1000 AS context_ms,
    model_us / 1000 AS model_ms,
    first_token_us / 1000 AS first_token_ms,
    last_token_us / 1000 AS last_token_ms,
    output_chunks,
    attributes
FROM events FINAL
WHERE phase = 'finished'
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'One row per finished request, in milliseconds and USD.';

CREATE OR REPLACE VIEW raw_requests_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `service` String COMMENT 'The chat service.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    toStartOfMinute(occurred_at) AS minute, e.service AS service,
    toInt64(count()) AS requests,
    toInt64(countIf(isNotNull(e.error_type))) AS errors,
    toInt64(countIf(e.cache_hit)) AS cache_hits,
    ifNull(sum(e.prompt_tokens), 0) AS prompt_tokens,
    ifNull(sum(e.cached_tokens), 0) AS cached_tokens,
    ifNull(sum(e.completion_tokens), 0) AS completion_tokens,
    ifNull(sum(e.reasoning_tokens), 0) AS reasoning_tokens,
    if(ifNull(sum(e.priced_nano_usd), 0) = 0 AND countIf(isNull(e.priced_nano_usd)) > 0, NULL, sum(e.priced_nano_usd) / 1e9) AS cost_usd,
    toInt64(countIf(isNull(e.priced_nano_usd))) AS unpriced
FROM events AS e FINAL
WHERE phase = 'finished'
GROUP BY minute, service
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'As requests_per_minute, from the raw events.';

CREATE OR REPLACE VIEW raw_latency_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `service` String COMMENT 'The chat service.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    toStartOfMinute(occurred_at) AS minute, e.service AS service,
    figure.1 AS measure,
    toInt64(count()) AS requests,
    avg(assumeNotNull(figure.2)) / 1000 AS avg,
    quantilesExact(0.5, 0.95, 0.99)(assumeNotNull(figure.2))[1] / 1000 AS p50,
    quantilesExact(0.5, 0.95, 0.99)(assumeNotNull(figure.2))[2] / 1000 AS p95,
    quantilesExact(0.5, 0.95, 0.99)(assumeNotNull(figure.2))[3] / 1000 AS p99,
    min(assumeNotNull(figure.2)) / 1000 AS min,
    max(assumeNotNull(figure.2)) / 1000 AS max
FROM events AS e FINAL
ARRAY JOIN [('total', total_us), ('context', context_us), ('model', model_us), ('first_token', first_token_us)] AS figure
WHERE phase = 'finished' AND isNotNull(figure.2)
GROUP BY minute, service, measure
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'As latency_per_minute, from the raw events, with exact quantiles.';
