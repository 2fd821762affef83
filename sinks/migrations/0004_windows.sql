-- A row of a block of chat.windows or chat.usage. The newest of the same identity replaces the
-- ones before; the figures of the identities (source partitions, live and imported, since) add up.
-- Minutes that were rebuilt from the raw events have further rows, of partition -1, which stand for
-- all the others of the minute: the view window_rows says which rows count.

CREATE TABLE IF NOT EXISTS windows
(
    `pane` LowCardinality(String) COMMENT 'Length of the pane: 1s or 1m.',
    `grouping` LowCardinality(String) COMMENT 'total, service, model, space, workflow, error or user.',
    `pane_start` DateTime('UTC') COMMENT 'Start of the pane.' CODEC(Delta, ZSTD(1)),
    `key1` String COMMENT 'First key of the grouping: service, provider, space_id, workflow, error_type or user_id; empty for total.' CODEC(ZSTD(1)),
    `key2` String COMMENT 'Second key of the grouping: model or workflow_version; else empty.' CODEC(ZSTD(1)),
    `partition` Int32 COMMENT 'Source partition, of chat.requests; -1: rebuilt from the raw events of all.',
    `imported` Bool COMMENT 'Counts imported events; live ones have rows of their own.',
    `bucket` Int32 COMMENT 'Which part of the keys of the grouping, by hash.',
    `since` Int64 COMMENT 'Offset of the first event counted. A block born after its predecessor was expired has a later one, and adds to it. Of a rebuilt minute: the generation.' CODEC(ZSTD(1)),
    `offset` Int64 COMMENT 'Every event of the source partition up to and including this offset is counted.' CODEC(ZSTD(1)),
    `revision` Int32 COMMENT 'How often the block was corrected after its pane had closed.',
    `version` UInt64 COMMENT 'Orders the states of a block: offset, then revision, then open before closed.' CODEC(ZSTD(1)),
    `closed` Bool COMMENT 'The watermark of the source partition has passed the end of the pane.',
    `watermark` DateTime64(6, 'UTC') COMMENT 'The watermark of the source partition when the block was written.' CODEC(Delta, ZSTD(1)),
    `day` Date COMMENT 'The day that the pane begins on, in the configured time zone.',
    `written_at` DateTime('UTC') COMMENT 'When the sink wrote the row.' CODEC(Delta, ZSTD(1)),
    `requests` Int64 COMMENT 'Finished requests.' CODEC(T64, ZSTD(1)),
    `errors` Int64 COMMENT 'Those that failed.' CODEC(T64, ZSTD(1)),
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.' CODEC(T64, ZSTD(1)),
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.' CODEC(T64, ZSTD(1)),
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.' CODEC(T64, ZSTD(1)),
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.' CODEC(T64, ZSTD(1)),
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.' CODEC(T64, ZSTD(1)),
    `cost_nano_usd` Int64 COMMENT 'Cost of what could be priced, in 10^-9 USD.' CODEC(T64, ZSTD(1)),
    `unpriced` Int64 COMMENT 'Requests that could not be priced.' CODEC(T64, ZSTD(1)),
    `total_us_count` Int64 COMMENT 'From request to last byte: requests that report it.' CODEC(T64, ZSTD(1)),
    `total_us_sum` Int64 COMMENT 'From request to last byte: sum, in microseconds.' CODEC(T64, ZSTD(1)),
    `total_us_min` Nullable(Int64) COMMENT 'From request to last byte: least, in microseconds.' CODEC(T64, ZSTD(1)),
    `total_us_max` Nullable(Int64) COMMENT 'From request to last byte: greatest, in microseconds.' CODEC(T64, ZSTD(1)),
    `total_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'From request to last byte: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).' CODEC(ZSTD(1)),
    `context_us_count` Int64 COMMENT 'Gathering the context: requests that report it.' CODEC(T64, ZSTD(1)),
    `context_us_sum` Int64 COMMENT 'Gathering the context: sum, in microseconds.' CODEC(T64, ZSTD(1)),
    `context_us_min` Nullable(Int64) COMMENT 'Gathering the context: least, in microseconds.' CODEC(T64, ZSTD(1)),
    `context_us_max` Nullable(Int64) COMMENT 'Gathering the context: greatest, in microseconds.' CODEC(T64, ZSTD(1)),
    `context_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'Gathering the context: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).' CODEC(ZSTD(1)),
    `model_us_count` Int64 COMMENT 'The share of the model: requests that report it.' CODEC(T64, ZSTD(1)),
    `model_us_sum` Int64 COMMENT 'The share of the model: sum, in microseconds.' CODEC(T64, ZSTD(1)),
    `model_us_min` Nullable(Int64) COMMENT 'The share of the model: least, in microseconds.' CODEC(T64, ZSTD(1)),
    `model_us_max` Nullable(Int64) COMMENT 'The share of the model: greatest, in microseconds.' CODEC(T64, ZSTD(1)),
    `model_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'The share of the model: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).' CODEC(ZSTD(1)),
    `first_token_us_count` Int64 COMMENT 'From request to first token: requests that report it.' CODEC(T64, ZSTD(1)),
    `first_token_us_sum` Int64 COMMENT 'From request to first token: sum, in microseconds.' CODEC(T64, ZSTD(1)),
    `first_token_us_min` Nullable(Int64) COMMENT 'From request to first token: least, in microseconds.' CODEC(T64, ZSTD(1)),
    `first_token_us_max` Nullable(Int64) COMMENT 'From request to first token: greatest, in microseconds.' CODEC(T64, ZSTD(1)),
    `first_token_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'From request to first token: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY (pane, toYYYYMM(pane_start))
ORDER BY (pane, grouping, pane_start, key1, key2, partition, imported, bucket, since)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Windowed figures per source partition. Read window_rows instead, and add up; the other views do.';
