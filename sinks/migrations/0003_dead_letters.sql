-- Known by where the refused record lies: one that was sent to chat.dead-letters twice, because
-- a sink was killed before it could commit, is one row. Unpartitioned, so that an insert is one part.

CREATE TABLE IF NOT EXISTS dead_letters
(
    `_partition` Int32 COMMENT 'Partition of chat.dead-letters.',
    `_offset` Int64 COMMENT 'Offset in that partition.',
    `topic` LowCardinality(String) COMMENT 'Where the refused record lies: topic,',
    `partition` Int32 COMMENT 'partition',
    `offset` Int64 COMMENT 'and offset.',
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the record.',
    `refused_at` DateTime64(6, 'UTC') COMMENT 'When it was refused.',
    `refused_by` LowCardinality(String) COMMENT 'Which part refused it.',
    `reason` LowCardinality(String) COMMENT 'The kind of fault: malformed, unknown_schema, in_the_future, ...',
    `detail` String COMMENT 'What exactly was wrong.' CODEC(ZSTD(1)),
    `key` Nullable(String) COMMENT 'The key of the record, in bytes.' CODEC(ZSTD(1)),
    `value` Nullable(String) COMMENT 'Its value, in bytes, as it came.' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
ORDER BY (topic, partition, offset, refused_by)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Records that could not be taken, whole, with where they lie and why they were refused. Read it with FINAL.';
