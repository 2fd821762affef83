-- Latencies, from the windows, in milliseconds. Quantiles come from the merged sketches of all
-- partitions, never from quantiles.

CREATE OR REPLACE VIEW window_latency
(
    `pane` LowCardinality(String) COMMENT 'Length of the pane: 1s or 1m.',
    `grouping` LowCardinality(String) COMMENT 'total, service, model, space, workflow, error or user.',
    `pane_start` DateTime('UTC') COMMENT 'Start of the pane.',
    `day` Date COMMENT 'The day that the pane begins on, in the configured time zone.',
    `key1` String COMMENT 'First key of the grouping; empty for total.',
    `key2` String COMMENT 'Second key of the grouping; else empty.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds, to 1 %.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds, to 1 %.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds, to 1 %.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    pane, grouping, pane_start, day, key1, key2,
    measure,
    figures.1 AS requests,
    figures.2 / figures.1 / 1000 AS avg,
    figures.5[1] / 1000 AS p50,
    figures.5[2] / 1000 AS p95,
    figures.5[3] / 1000 AS p99,
    assumeNotNull(figures.3) / 1000 AS min,
    assumeNotNull(figures.4) / 1000 AS max
FROM
(
    SELECT
        pane, grouping, pane_start, day, key1, key2,
        tuple(sum(total_us_count), sum(total_us_sum), min(total_us_min), max(total_us_max),
            quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(total_us_sketch)) AS total,
        tuple(sum(context_us_count), sum(context_us_sum), min(context_us_min), max(context_us_max),
            quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(context_us_sketch)) AS context,
        tuple(sum(model_us_count), sum(model_us_sum), min(model_us_min), max(model_us_max),
            quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(model_us_sketch)) AS model,
        tuple(sum(first_token_us_count), sum(first_token_us_sum), min(first_token_us_min), max(first_token_us_max),
            quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(first_token_us_sketch)) AS first_token
    FROM window_rows
    WHERE grouping != 'user'
    GROUP BY pane, grouping, pane_start, day, key1, key2
)
ARRAY JOIN ['total', 'context', 'model', 'first_token'] AS measure, [total, context, model, first_token] AS figures
WHERE figures.1 > 0
COMMENT 'Latencies of every pane and group, all partitions merged.';

CREATE OR REPLACE VIEW latency_total_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds, to 1 %.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds, to 1 %.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds, to 1 %.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    pane_start AS minute, measure, requests, avg, p50, p95, p99, min, max
FROM window_latency
WHERE pane = '1m' AND grouping = 'total'
COMMENT 'Latencies per minute, all services together.';

CREATE OR REPLACE VIEW latency_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `service` String COMMENT 'The chat service.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds, to 1 %.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds, to 1 %.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds, to 1 %.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    pane_start AS minute, key1 AS service, measure, requests, avg, p50, p95, p99, min, max
FROM window_latency
WHERE pane = '1m' AND grouping = 'service'
COMMENT 'Latencies per minute and service.';

CREATE OR REPLACE VIEW latency_by_model
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `provider` String COMMENT 'Who serves the model.',
    `model` String COMMENT 'The model.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds, to 1 %.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds, to 1 %.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds, to 1 %.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    pane_start AS minute, key1 AS provider, key2 AS model, measure, requests, avg, p50, p95, p99, min, max
FROM window_latency
WHERE pane = '1m' AND grouping = 'model'
COMMENT 'Latencies per minute, provider and model.';

CREATE OR REPLACE VIEW latency_by_space
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `space_id` String COMMENT 'The space.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds, to 1 %.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds, to 1 %.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds, to 1 %.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    pane_start AS minute, key1 AS space_id, measure, requests, avg, p50, p95, p99, min, max
FROM window_latency
WHERE pane = '1m' AND grouping = 'space'
COMMENT 'Latencies per minute and space.';

CREATE OR REPLACE VIEW latency_by_workflow
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `workflow` String COMMENT 'The workflow.',
    `workflow_version` String COMMENT 'Its version.',
    `measure` String COMMENT 'total, context, model or first_token.',
    `requests` Int64 COMMENT 'Requests that report the measure.',
    `avg` Float64 COMMENT 'Mean, in milliseconds.',
    `p50` Float64 COMMENT 'Median, in milliseconds, to 1 %.',
    `p95` Float64 COMMENT '95 of 100 requests took at most this, in milliseconds, to 1 %.',
    `p99` Float64 COMMENT '99 of 100 requests took at most this, in milliseconds, to 1 %.',
    `min` Float64 COMMENT 'Least, in milliseconds.',
    `max` Float64 COMMENT 'Greatest, in milliseconds.'
)
AS SELECT
    pane_start AS minute, key1 AS workflow, key2 AS workflow_version, measure, requests, avg, p50, p95, p99, min, max
FROM window_latency
WHERE pane = '1m' AND grouping = 'workflow'
COMMENT 'Latencies per minute, workflow and version.';
