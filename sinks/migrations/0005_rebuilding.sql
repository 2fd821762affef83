-- What came too late for the windows, was imported, or repeats itself where the stream can't see it,
-- is in the raw history all the same. Its minutes are rebuilt from there. docs/decisions/rebuild.md
-- tells why this loses nothing, whatever fails in between.

CREATE TABLE IF NOT EXISTS arrivals
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute in which the requests ended.' CODEC(Delta, ZSTD(1)),
    `_partition` Int32 COMMENT 'Partition of chat.requests that they came by.',
    `day` Date COMMENT 'Day on which they arrived.',
    `offsets` AggregateFunction(groupBitmap, UInt64) COMMENT 'Their offsets, those of repeats too. Count them with groupBitmapMerge.' CODEC(ZSTD(1)),
    `late` SimpleAggregateFunction(max, UInt8) COMMENT '1 when one of them was imported, or arrived 5 minutes or more after it occurred.',
    `stored_at` SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'When the last of them was stored.' CODEC(Delta, ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (minute, _partition, day)
COMMENT 'Which finished requests of each minute have come: a few rows per minute, made by arrivals_of_events.';

CREATE MATERIALIZED VIEW IF NOT EXISTS arrivals_of_events TO arrivals
(
    `minute` DateTime('UTC') COMMENT 'As in arrivals.',
    `_partition` Int32 COMMENT 'As in arrivals.',
    `day` Date COMMENT 'As in arrivals.',
    `offsets` AggregateFunction(groupBitmap, UInt64) COMMENT 'As in arrivals.',
    `late` UInt8 COMMENT 'As in arrivals.',
    `stored_at` DateTime64(6, 'UTC') COMMENT 'As in arrivals.'
)
AS SELECT
    toStartOfMinute(occurred_at) AS minute,
    _partition,
    toDate(arrived_at) AS day,
    groupBitmapState(toUInt64(_offset)) AS offsets,
    toUInt8(max(imported OR arrived_at >= occurred_at + INTERVAL 5 MINUTE)) AS late,
    now64(6, 'UTC') AS stored_at
FROM events
WHERE phase = 'finished'
GROUP BY minute, _partition, day
COMMENT 'Notes in arrivals what is inserted into events.';

CREATE TABLE IF NOT EXISTS rebuilt_minutes
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `generation` Int64 COMMENT 'Which of its rows in windows count: those of partition -1 with this since.',
    `records` UInt64 COMMENT 'How many records arrivals had of the minute when the raw events were read.',
    `stored_at` DateTime64(6, 'UTC') COMMENT 'When the last of them had been stored.',
    `requests` UInt64 COMMENT 'Finished requests found, each counted once.',
    `rebuilt_at` DateTime('UTC') DEFAULT now() COMMENT 'When the minute was rebuilt.'
)
ENGINE = ReplacingMergeTree(generation)
ORDER BY minute
COMMENT 'Minutes whose figures were rebuilt from the raw events; with this row they are switched over. Read it with FINAL.';

CREATE TABLE IF NOT EXISTS checked_minutes
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `stored_at` DateTime64(6, 'UTC') COMMENT 'When the last record had been stored of those looked at.'
)
ENGINE = ReplacingMergeTree(stored_at)
ORDER BY minute
COMMENT 'Minutes of live events that were looked at for repeats the streams could not see, and are right as they are.';

CREATE OR REPLACE VIEW window_rows
(
    `pane` LowCardinality(String) COMMENT 'Length of the pane: 1s or 1m.',
    `grouping` LowCardinality(String) COMMENT 'total, service, model, space, workflow, error or user.',
    `pane_start` DateTime('UTC') COMMENT 'Start of the pane.',
    `key1` String COMMENT 'First key of the grouping: service, provider, space_id, workflow, error_type or user_id; empty for total.',
    `key2` String COMMENT 'Second key of the grouping: model or workflow_version; else empty.',
    `partition` Int32 COMMENT 'Source partition, of chat.requests; -1: rebuilt from the raw events of all.',
    `imported` Bool COMMENT 'Counts imported events; live ones have rows of their own.',
    `bucket` Int32 COMMENT 'Which part of the keys of the grouping, by hash.',
    `since` Int64 COMMENT 'Offset of the first event counted. A block born after its predecessor was expired has a later one, and adds to it. Of a rebuilt minute: the generation.',
    `offset` Int64 COMMENT 'Every event of the source partition up to and including this offset is counted.',
    `revision` Int32 COMMENT 'How often the block was corrected after its pane had closed.',
    `version` UInt64 COMMENT 'Orders the states of a block: offset, then revision, then open before closed.',
    `closed` Bool COMMENT 'The watermark of the source partition has passed the end of the pane.',
    `watermark` DateTime64(6, 'UTC') COMMENT 'The watermark of the source partition when the block was written.',
    `day` Date COMMENT 'The day that the pane begins on, in the configured time zone.',
    `written_at` DateTime('UTC') COMMENT 'When the sink wrote the row.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_nano_usd` Int64 COMMENT 'Cost of what could be priced, in 10^-9 USD.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced.',
    `total_us_count` Int64 COMMENT 'From request to last byte: requests that report it.',
    `total_us_sum` Int64 COMMENT 'From request to last byte: sum, in microseconds.',
    `total_us_min` Nullable(Int64) COMMENT 'From request to last byte: least, in microseconds.',
    `total_us_max` Nullable(Int64) COMMENT 'From request to last byte: greatest, in microseconds.',
    `total_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'From request to last byte: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).',
    `context_us_count` Int64 COMMENT 'Gathering the context: requests that report it.',
    `context_us_sum` Int64 COMMENT 'Gathering the context: sum, in microseconds.',
    `context_us_min` Nullable(Int64) COMMENT 'Gathering the context: least, in microseconds.',
    `context_us_max` Nullable(Int64) COMMENT 'Gathering the context: greatest, in microseconds.',
    `context_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'Gathering the context: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).',
    `model_us_count` Int64 COMMENT 'The share of the model: requests that report it.',
    `model_us_sum` Int64 COMMENT 'The share of the model: sum, in microseconds.',
    `model_us_min` Nullable(Int64) COMMENT 'The share of the model: least, in microseconds.',
    `model_us_max` Nullable(Int64) COMMENT 'The share of the model: greatest, in microseconds.',
    `model_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'The share of the model: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).',
    `first_token_us_count` Int64 COMMENT 'From request to first token: requests that report it.',
    `first_token_us_sum` Int64 COMMENT 'From request to first token: sum, in microseconds.',
    `first_token_us_min` Nullable(Int64) COMMENT 'From request to first token: least, in microseconds.',
    `first_token_us_max` Nullable(Int64) COMMENT 'From request to first token: greatest, in microseconds.',
    `first_token_us_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) COMMENT 'From request to first token: its distribution to 1 %, in microseconds. Read it with quantilesDDMerge(0.01, ...).'
)
AS SELECT *
FROM windows FINAL
WHERE if(
    partition < 0,
    (pane_start, since) IN (SELECT minute, generation FROM rebuilt_minutes FINAL),
    pane != '1m' OR pane_start NOT IN (SELECT minute FROM rebuilt_minutes)
)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'The rows of windows that count: the rebuilt ones of minutes that were rebuilt, the streamed ones of the others.';
