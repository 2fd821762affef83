CREATE TABLE IF NOT EXISTS spans
(
    `_partition` Int32 COMMENT 'Partition of chat.spans.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the event.' CODEC(Delta, ZSTD(1)),
    `event_id` String COMMENT 'Unique per event.' CODEC(ZSTD(1)),
    `trace_id` String COMMENT 'The trace that the span belongs to.' CODEC(ZSTD(1)),
    `span_id` String COMMENT 'Unique per span; its start and its end share it.' CODEC(ZSTD(1)),
    `parent_id` Nullable(String) COMMENT 'The span that this one is a part of; NULL for the root.' CODEC(ZSTD(1)),
    `request_id` Nullable(String) COMMENT 'The chat request that the span serves.' CODEC(ZSTD(1)),
    `phase` LowCardinality(String) COMMENT 'started or finished.',
    `kind` LowCardinality(String) COMMENT 'workflow, step, agent, plugin, tool, model or other.',
    `name` LowCardinality(String) COMMENT 'The name of the step, tool, plugin, ...',
    `occurred_at` DateTime64(6, 'UTC') COMMENT 'Event time: when the phase was reached.' CODEC(Delta, ZSTD(1)),
    `imported` Bool COMMENT 'Brought in after the fact.',
    `service` LowCardinality(String) COMMENT 'The chat service that reports.',
    `instance` LowCardinality(Nullable(String)) COMMENT 'Which instance of the service.',
    `space_id` LowCardinality(Nullable(String)) COMMENT 'The space that the request is made in.',
    `user_id` Nullable(String) COMMENT 'A pseudonym of the user.' CODEC(ZSTD(1)),
    `workflow` LowCardinality(Nullable(String)) COMMENT 'The workflow that the span is part of.',
    `workflow_version` LowCardinality(Nullable(String)) COMMENT 'Its version.',
    `duration_us` Nullable(Int64) COMMENT 'On the end of a span: how long it took, in microseconds.' CODEC(T64, ZSTD(1)),
    `error_type` LowCardinality(Nullable(String)) COMMENT 'On the end of a span: NULL when it went well; otherwise its kind of failure.',
    `attributes` Array(String) COMMENT 'Allow-listed key=value pairs.' CODEC(ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_trace trace_id TYPE bloom_filter GRANULARITY 4,
    INDEX by_request request_id TYPE bloom_filter GRANULARITY 4,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
PRIMARY KEY occurred_at
ORDER BY (occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every SpanEvent of chat.spans, as it came. Read it with FINAL: one that came twice is one.';

CREATE TABLE IF NOT EXISTS samples
(
    `_partition` Int32 COMMENT 'Partition of chat.samples.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the sample.' CODEC(Delta, ZSTD(1)),
    `event_id` String COMMENT 'Unique per event.' CODEC(ZSTD(1)),
    `occurred_at` DateTime64(6, 'UTC') COMMENT 'When the state was sampled.' CODEC(Delta, ZSTD(1)),
    `imported` Bool COMMENT 'Brought in after the fact.',
    `service` LowCardinality(String) COMMENT 'The chat service that reports.',
    `instance` LowCardinality(String) COMMENT 'Which instance of the service.',
    `name` LowCardinality(String) COMMENT 'What was sampled: open_websockets, circuit_breaker, queue_depth, ...',
    `value` Float64 COMMENT 'The figure; for a state, its number.' CODEC(Gorilla, ZSTD(1)),
    `state` LowCardinality(Nullable(String)) COMMENT 'The name of the state, where it has one.',
    `attributes` Array(String) COMMENT 'Allow-listed key=value pairs.' CODEC(ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_name name TYPE set(100) GRANULARITY 1,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
PRIMARY KEY occurred_at
ORDER BY (occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every Sample of chat.samples, as it came. Read it with FINAL: one that came twice is one.';
