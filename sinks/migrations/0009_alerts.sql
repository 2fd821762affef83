-- What became of alerts. As with the raw events, a row is known by what it is, not by where it lay: a
-- record that was told twice, after a crash or by another worker, is one row in the end. Parts are cut by
-- day of arrival, so that an insert lies in one part. `reached` says how far each partition has come.

CREATE TABLE IF NOT EXISTS alerts
(
    `_partition` Int32 COMMENT 'Partition of chat.alerts.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the record.' CODEC(Delta, ZSTD(1)),
    `alert_id` String COMMENT 'Stable while the alert lasts: made from the rule, the group and the start.' CODEC(ZSTD(1)),
    `transition` Int32 COMMENT 'Counts the alert\'s transitions, from 1. The same number again is the same transition.',
    `revision` Int32 COMMENT 'How often the transition was corrected by late events; 0 when it was first told. A correction is never notified.',
    `state` LowCardinality(String) COMMENT 'pending, firing or resolved.',
    `rule_id` LowCardinality(String) COMMENT 'The rule.',
    `rule_revision` Int32 COMMENT 'Which version of the rule judged.',
    `rule_name` LowCardinality(String) COMMENT 'What the rule is called.',
    `kind` LowCardinality(String) COMMENT 'threshold, baseline, change, budget, capacity, absence or watchdog.',
    `severity` LowCardinality(String) COMMENT 'info, warning, error or critical.',
    `labels` Array(String) COMMENT 'The rule\'s labels, as `key=value`.' CODEC(ZSTD(1)),
    `grouping` LowCardinality(String) COMMENT 'By what the rule groups: total, service, model, space, workflow, error, user or sample.',
    `group` Array(String) COMMENT 'The group\'s keys, as `key=value`, in the grouping\'s order; empty for the total.' CODEC(ZSTD(1)),
    `started_at` DateTime64(6, 'UTC') COMMENT 'When the alert began: the end of the first pane that violated the rule (event time).' CODEC(Delta, ZSTD(1)),
    `changed_at` DateTime64(6, 'UTC') COMMENT 'When this transition happened: the end of the pane that made it (event time).' CODEC(Delta, ZSTD(1)),
    `judged_at` DateTime64(6, 'UTC') COMMENT 'When it was judged, by the clock.' CODEC(Delta, ZSTD(1)),
    `window_start` DateTime64(6, 'UTC') COMMENT 'Start of the window that was judged.' CODEC(Delta, ZSTD(1)),
    `window_end` DateTime64(6, 'UTC') COMMENT 'Its end.' CODEC(Delta, ZSTD(1)),
    `metric` LowCardinality(String) COMMENT 'What was measured.',
    `aggregation` LowCardinality(String) COMMENT 'How: rate, sum, avg, p50, p95, p99, max, ratio or last.',
    `unit` LowCardinality(String) COMMENT 'The unit of value and threshold: 1/s, ms, USD, tokens, ratio, ...',
    `value` Nullable(Float64) COMMENT 'The figure; null where there was no data.' CODEC(ZSTD(1)),
    `threshold` Nullable(Float64) COMMENT 'What it was held against; null where the rule has none.' CODEC(ZSTD(1)),
    `step` Nullable(Float64) COMMENT 'Of a budget: the step that was reached, as a share (0.8 is 80 %).' CODEC(ZSTD(1)),
    `requests` Int64 COMMENT 'How many requests the window counted in this group.' CODEC(T64, ZSTD(1)),
    `parts` Int32 COMMENT 'How many source partitions the window\'s panes were complete for.',
    `parts_expected` Int32 COMMENT 'How many there are. Fewer parts than that: the figure is of a part of the traffic.',
    `summary` String COMMENT 'One sentence for a person.' CODEC(ZSTD(1)),
    `sources` Array(String) COMMENT 'Where the window\'s events are: `topic/partition/first-last`, offsets, both included.' CODEC(ZSTD(1)),
    `details` Array(String) COMMENT 'Further figures, as `name=value`: a budget\'s forecast, a baseline\'s mean.' CODEC(ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_time changed_at TYPE minmax GRANULARITY 1,
    INDEX by_rule rule_id TYPE set(100) GRANULARITY 1,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
ORDER BY (alert_id, transition, revision)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every Alert of chat.alerts: a transition, or a later correction of one. Read it with FINAL: one told twice is one.';

CREATE TABLE IF NOT EXISTS decisions
(
    `_partition` Int32 COMMENT 'Partition of chat.decisions.' CODEC(Delta, ZSTD(1)),
    `_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `arrived_at` DateTime64(6, 'UTC') COMMENT 'When Kafka took the record.' CODEC(Delta, ZSTD(1)),
    `decision_id` String COMMENT 'The same decision told twice carries the same id.' CODEC(ZSTD(1)),
    `decided_at` DateTime64(6, 'UTC') COMMENT 'When, by the clock.' CODEC(Delta, ZSTD(1)),
    `what` LowCardinality(String) COMMENT 'evaluated, no-data, too-few-requests, incomplete, too-late, no-baseline, pending, firing, resolved, corrected, notified, silenced, acknowledged, inhibited, quiet, unmatched.',
    `reason` String COMMENT 'Why, in words.' CODEC(ZSTD(1)),
    `rule_id` LowCardinality(Nullable(String)) COMMENT 'The rule.',
    `rule_revision` Nullable(Int32) COMMENT 'Its version.' CODEC(ZSTD(1)),
    `alert_id` Nullable(String) COMMENT 'The alert, when it is about one.' CODEC(ZSTD(1)),
    `transition` Nullable(Int32) COMMENT 'And its transition.' CODEC(ZSTD(1)),
    `grouping` LowCardinality(Nullable(String)) COMMENT 'The grouping.',
    `group` Array(String) COMMENT 'The group\'s keys, as `key=value`; empty when it is about all groups of the pane.' CODEC(ZSTD(1)),
    `pane_end` Nullable(DateTime64(6, 'UTC')) COMMENT 'The end of the pane that was judged (event time).' CODEC(ZSTD(1)),
    `value` Nullable(Float64) COMMENT 'The figure.' CODEC(ZSTD(1)),
    `threshold` Nullable(Float64) COMMENT 'What it was held against.' CODEC(ZSTD(1)),
    `groups` Int32 COMMENT 'How many groups were evaluated.',
    `violating` Int32 COMMENT 'How many of them violated the rule.',
    `parts` Int32 COMMENT 'How many source partitions the pane was complete for.',
    `parts_expected` Int32 COMMENT 'How many there are.',
    `endpoint_id` LowCardinality(Nullable(String)) COMMENT 'The endpoint that was notified, or would have been.',
    `notification_id` Nullable(String) COMMENT 'The notification.' CODEC(ZSTD(1)),
    `silence_id` Nullable(String) COMMENT 'The silence or acknowledgement that held it back.' CODEC(ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 4,
    INDEX by_time decided_at TYPE minmax GRANULARITY 1,
    INDEX by_alert alert_id TYPE bloom_filter GRANULARITY 4,
    PROJECTION reached (SELECT _partition, max(_offset) GROUP BY _partition)
)
ENGINE = ReplacingMergeTree(arrived_at)
PARTITION BY toYYYYMMDD(arrived_at)
ORDER BY decision_id
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Every Decision of chat.decisions: what was evaluated, told, or held back, and why. Read it with FINAL: one told twice is one.';
