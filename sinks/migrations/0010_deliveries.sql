-- What was to be delivered, and every attempt at it; known by what they are, as in 0009.

CREATE TABLE IF NOT EXISTS notifications
(
    `_partition` Int32 COMMENT 'Partition of chat.notifications.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the record.' CODEC(Delta, ZSTD(1)),
    `notification_id` String COMMENT 'The `webhook-id`: the same for all attempts.' CODEC(ZSTD(1)),
    `endpoint_id` LowCardinality(String) COMMENT 'To whom.',
    `type` LowCardinality(String) COMMENT 'alert.firing, alert.resolved, alert.reminder, window.closed, request.failed, span.ended, endpoint.failing, endpoint.test.',
    `created_at` DateTime64(6, 'UTC') COMMENT 'When it was made, by the clock.' CODEC(Delta, ZSTD(1)),
    `body` String COMMENT 'The event, as JSON: type, timestamp, data.' CODEC(ZSTD(1)),
    `alerts` Array(String) COMMENT 'The transitions it tells of, as `alert_id/transition`.' CODEC(ZSTD(1)),
    `redriven` Int32 COMMENT 'How often a person asked to deliver it again.',
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_time created_at TYPE minmax GRANULARITY 1,
    INDEX by_endpoint endpoint_id TYPE set(100) GRANULARITY 1,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
ORDER BY (notification_id, redriven)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every Notification of chat.notifications. Read it with FINAL: one told twice is one.';

CREATE TABLE IF NOT EXISTS deliveries
(
    `_partition` Int32 COMMENT 'Partition of chat.deliveries.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the record.' CODEC(Delta, ZSTD(1)),
    `attempt_id` String COMMENT 'The same attempt told twice carries the same id.' CODEC(ZSTD(1)),
    `notification_id` String COMMENT 'The notification.' CODEC(ZSTD(1)),
    `endpoint_id` LowCardinality(String) COMMENT 'To whom.',
    `channel` LowCardinality(String) COMMENT 'webhook, mail, slack, teams, pagerduty or alertmanager.',
    `type` LowCardinality(String) COMMENT 'The notification\'s type.',
    `attempt` Int32 COMMENT 'The number of the attempt, from 1; 0 when none was made.',
    `redriven` Int32 COMMENT 'As in Notification.',
    `outcome` LowCardinality(String) COMMENT 'delivered, failed (another attempt follows), exhausted (none does), refused (the endpoint or the address is not to be called), parked (the endpoint is disabled).',
    `status` Nullable(Int32) COMMENT 'The HTTP status or the SMTP reply code, where there was one.' CODEC(ZSTD(1)),
    `error` Nullable(String) COMMENT 'What went wrong, in words.' CODEC(ZSTD(1)),
    `started_at` DateTime64(6, 'UTC') COMMENT 'When the attempt began.' CODEC(Delta, ZSTD(1)),
    `took_us` Int64 COMMENT 'How long it took, in microseconds.' CODEC(T64, ZSTD(1)),
    `next_attempt_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When the next attempt is due.' CODEC(ZSTD(1)),
    `request` String COMMENT 'What was sent, without secrets, cut to 8 KiB.' CODEC(ZSTD(1)),
    `response` String COMMENT 'What came back, cut to 2 KiB.' CODEC(ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_time started_at TYPE minmax GRANULARITY 1,
    INDEX by_notification notification_id TYPE bloom_filter GRANULARITY 4,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
ORDER BY attempt_id
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every DeliveryAttempt of chat.deliveries. Read it with FINAL: one told twice is one.';
