-- Raw history. A row is known by what it is, when it occurred and its event_id, so that an event
-- leaves one row however often it was sent, or written. Parts are cut by day of arrival, not of
-- occurrence: an insert then lies in one part and is stored whole or not at all, and an old trace
-- brought in today is kept as long as today's events. `reached` says how far each partition has come.

CREATE TABLE IF NOT EXISTS events
(
    `_partition` Int32 COMMENT 'Partition of chat.requests.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the event.' CODEC(Delta, ZSTD(1)),
    `event_id` String COMMENT 'Unique per event.' CODEC(ZSTD(1)),
    `request_id` String COMMENT 'Unique per chat request; its start and its finish share it.' CODEC(ZSTD(1)),
    `trace_id` Nullable(String) COMMENT 'The trace that the spans of the request belong to.' CODEC(ZSTD(1)),
    `phase` LowCardinality(String) COMMENT 'started or finished.',
    `occurred_at` DateTime64(6, 'UTC') COMMENT 'Event time: when the phase was reached.' CODEC(Delta, ZSTD(1)),
    `imported` Bool COMMENT 'Brought in after the fact: a replayed trace, a backfill.',
    `service` LowCardinality(String) COMMENT 'The chat service that reports.',
    `instance` LowCardinality(Nullable(String)) COMMENT 'Which instance of the service.',
    `provider` LowCardinality(String) COMMENT 'Who serves the model.',
    `model` LowCardinality(String) COMMENT 'The model, as the provider spells it.',
    `space_id` LowCardinality(Nullable(String)) COMMENT 'The space (project, team, tenant) that the request is made in.',
    `user_id` Nullable(String) COMMENT 'A pseudonym of the user.' CODEC(ZSTD(1)),
    `workflow` LowCardinality(Nullable(String)) COMMENT 'The workflow that answered.',
    `workflow_version` LowCardinality(Nullable(String)) COMMENT 'Its version.',
    `error_type` LowCardinality(Nullable(String)) COMMENT 'NULL when the request went well; otherwise its kind of failure.',
    `cache_hit` Bool COMMENT 'The answer came from the response cache of the service.',
    `streamed` Bool COMMENT 'The answer was streamed token by token.',
    `prompt_tokens` Nullable(Int64) COMMENT 'All prompt tokens, cached ones included. NULL: unknown.' CODEC(T64, ZSTD(1)),
    `cached_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that the provider read from its cache.' CODEC(T64, ZSTD(1)),
    `completion_tokens` Nullable(Int64) COMMENT 'All completion tokens, reasoning ones included. NULL: unknown.' CODEC(T64, ZSTD(1)),
    `reasoning_tokens` Nullable(Int64) COMMENT 'Those of completion_tokens that were spent on reasoning.' CODEC(T64, ZSTD(1)),
    `cost_nano_usd` Nullable(Int64) COMMENT 'What the provider charged, in 10^-9 USD, where the event says so.' CODEC(T64, ZSTD(1)),
    `priced_nano_usd` Nullable(Int64) COMMENT 'What the request cost, in 10^-9 USD: as charged, else by the price list. NULL: unpriced.' CODEC(T64, ZSTD(1)),
    `total_us` Nullable(Int64) COMMENT 'From request to last byte, in microseconds.' CODEC(T64, ZSTD(1)),
    `context_us` Nullable(Int64) COMMENT 'Of that, gathering the context, in microseconds.' CODEC(T64, ZSTD(1)),
    `model_us` Nullable(Int64) COMMENT 'Of that, the share of the model, in microseconds.' CODEC(T64, ZSTD(1)),
    `first_token_us` Nullable(Int64) COMMENT 'From request to first token, in microseconds.' CODEC(T64, ZSTD(1)),
    `attributes` Array(String) COMMENT 'Allow-listed key=value pairs.' CODEC(ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_user user_id TYPE bloom_filter GRANULARITY 4,
    INDEX by_request request_id TYPE bloom_filter GRANULARITY 4,
    INDEX by_trace trace_id TYPE bloom_filter GRANULARITY 4,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
PRIMARY KEY occurred_at
ORDER BY (occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every RequestEvent of chat.requests, as it came. Read it with FINAL: one that came twice is one.';
