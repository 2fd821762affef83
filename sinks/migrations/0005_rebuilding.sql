-- What came too late for the windows, was imported, or repeats itself where the stream can't see it,
-- is in the raw history all the same. Its minutes are rebuilt from there. docs/decisions/rebuild.md
-- tells why this loses nothing, whatever fails in between.
-- Formerly, with the view window_rows, which sinks/views makes now: fb24b5309a1165a310986ac6c6e0d34f36313957c203b79a3729b445a9924c93

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
