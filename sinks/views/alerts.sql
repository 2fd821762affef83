-- Alerts, decisions and deliveries for people and for Grafana: of each transition the newest revision,
-- groups as text, durations in seconds and milliseconds. The copies of a record may lie in parts of
-- different days: FINAL merges across them.

CREATE OR REPLACE VIEW alert_transitions
(
    `changed_at` DateTime64(6, 'UTC') COMMENT 'When it happened: the end of the pane that made it (event time).',
    `alert_id` String COMMENT 'The alert.',
    `transition` Int32 COMMENT 'The number of the transition, from 1.',
    `state` String COMMENT 'pending, firing or resolved.',
    `rule_id` String COMMENT 'The rule.',
    `rule_name` String COMMENT 'What the rule is called.',
    `rule_revision` Int32 COMMENT 'Which version of the rule judged.',
    `kind` String COMMENT 'threshold, baseline, change, budget, capacity, absence or watchdog.',
    `severity` String COMMENT 'info, warning, error or critical.',
    `labels` Array(String) COMMENT 'The labels of the rule, as key=value.',
    `grouping` String COMMENT 'By what the rule groups.',
    `group` String COMMENT 'The keys of the group, as key=value, ...; empty for the total.',
    `metric` String COMMENT 'What was measured.',
    `aggregation` String COMMENT 'How.',
    `value` Nullable(Float64) COMMENT 'The figure; NULL where there was no data.',
    `threshold` Nullable(Float64) COMMENT 'What it was held against; NULL where the rule has none.',
    `unit` String COMMENT 'The unit of both.',
    `step` Nullable(Float64) COMMENT 'Of a budget: the step that was reached, as a share.',
    `requests` Int64 COMMENT 'How many requests the window counted in this group.',
    `parts` Int32 COMMENT 'How many source partitions the window was complete for,',
    `parts_expected` Int32 COMMENT 'and how many there are.',
    `started_at` DateTime64(6, 'UTC') COMMENT 'When the alert began (event time).',
    `judged_at` DateTime64(6, 'UTC') COMMENT 'When this was judged, by the clock.',
    `corrections` Int32 COMMENT 'How often late events corrected the figures, which are the corrected ones.',
    `summary` String COMMENT 'One sentence.',
    `sources` Array(String) COMMENT 'Where the events of the window are: topic/partition/first-last.',
    `details` Array(String) COMMENT 'Further figures, as name=value.'
)
AS SELECT
    changed_at, alert_id, transition, state, rule_id, rule_name, rule_revision, kind, severity, labels, grouping,
    arrayStringConcat(a.`group`, ', ') AS `group`,
    metric, aggregation, value, threshold, unit, step, requests, parts, parts_expected, started_at, judged_at,
    revision AS corrections,
    summary, sources, details
FROM alerts AS a FINAL
ORDER BY alert_id, transition, revision DESC
LIMIT 1 BY alert_id, transition
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'Every transition of every alert, as it stands after late corrections.';

CREATE OR REPLACE VIEW alerts_now
(
    `alert_id` String COMMENT 'The alert.',
    `state` String COMMENT 'pending or firing.',
    `severity` String COMMENT 'info, warning, error or critical.',
    `rule_id` String COMMENT 'The rule.',
    `rule_name` String COMMENT 'What the rule is called.',
    `kind` String COMMENT 'threshold, baseline, change, budget, capacity, absence or watchdog.',
    `labels` Array(String) COMMENT 'The labels of the rule, as key=value.',
    `group` String COMMENT 'The keys of the group, as key=value, ...; empty for the total.',
    `value` Nullable(Float64) COMMENT 'The figure at the last transition; NULL where there was no data.',
    `threshold` Nullable(Float64) COMMENT 'What it was held against.',
    `unit` String COMMENT 'The unit of both.',
    `step` Nullable(Float64) COMMENT 'Of a budget: the step that was reached, as a share.',
    `started_at` DateTime64(6, 'UTC') COMMENT 'When the alert began (event time).',
    `changed_at` DateTime64(6, 'UTC') COMMENT 'When the last transition happened (event time).',
    `lasting_s` Int64 COMMENT 'For how many seconds it has been going on.',
    `summary` String COMMENT 'One sentence.'
)
AS SELECT
    alert_id, state, severity, rule_id, rule_name, kind, labels,
    arrayStringConcat(t.`group`, ', ') AS `group`,
    value, threshold, unit, step, started_at, changed_at,
    dateDiff('second', started_at, now64(6, 'UTC')) AS lasting_s,
    summary
FROM
(
    SELECT *
    FROM alerts FINAL
    ORDER BY alert_id, transition DESC, revision DESC
    LIMIT 1 BY alert_id
) AS t
WHERE state != 'resolved'
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'The alerts that are going on: pending and firing.';

CREATE OR REPLACE VIEW alert_history
(
    `started_at` DateTime64(6, 'UTC') COMMENT 'When the alert began (event time).',
    `fired_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it first fired; NULL: it never did.',
    `resolved_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was over; NULL: it is going on.',
    `lasted_s` Nullable(Int64) COMMENT 'From start to end, in seconds.',
    `alert_id` String COMMENT 'The alert.',
    `state` String COMMENT 'Where it stands: pending, firing or resolved.',
    `severity` String COMMENT 'info, warning, error or critical.',
    `rule_id` String COMMENT 'The rule.',
    `rule_name` String COMMENT 'What the rule is called.',
    `kind` String COMMENT 'threshold, baseline, change, budget, capacity, absence or watchdog.',
    `group` String COMMENT 'The keys of the group, as key=value, ...; empty for the total.',
    `value` Nullable(Float64) COMMENT 'The figure when it first fired, corrected; before that, the first one.',
    `threshold` Nullable(Float64) COMMENT 'What it was held against.',
    `unit` String COMMENT 'The unit of both.',
    `step` Nullable(Float64) COMMENT 'Of a budget: the highest step that was reached, as a share.',
    `transitions` UInt64 COMMENT 'How many transitions it has had.',
    `corrections` Int64 COMMENT 'How often late events corrected one of them.',
    `summary` String COMMENT 'The sentence of the last transition.'
)
AS SELECT
    min(t.started_at) AS started_at,
    minOrNullIf(t.changed_at, t.state = 'firing') AS fired_at,
    maxOrNullIf(t.changed_at, t.state = 'resolved') AS resolved_at,
    dateDiff('second', min(t.started_at), maxOrNullIf(t.changed_at, t.state = 'resolved')) AS lasted_s,
    alert_id,
    argMax(t.state, t.transition) AS state,
    argMax(t.severity, t.transition) AS severity,
    argMax(t.rule_id, t.transition) AS rule_id,
    argMax(t.rule_name, t.transition) AS rule_name,
    argMax(t.kind, t.transition) AS kind,
    argMax(t.`group`, t.transition) AS `group`,
    tupleElement(argMin(tuple(t.value), (t.state != 'firing', t.transition)), 1) AS value,
    tupleElement(argMin(tuple(t.threshold), (t.state != 'firing', t.transition)), 1) AS threshold,
    argMax(t.unit, t.transition) AS unit,
    max(t.step) AS step,
    count() AS transitions,
    sum(t.corrections) AS corrections,
    argMax(t.summary, t.transition) AS summary
FROM alert_transitions AS t
GROUP BY alert_id
COMMENT 'One row per alert, from its start to its end.';

CREATE OR REPLACE VIEW decision_log
(
    `decided_at` DateTime64(6, 'UTC') COMMENT 'When, by the clock.',
    `what` String COMMENT 'evaluated, no-data, too-few-requests, incomplete, too-late, no-baseline, pending, firing, resolved, corrected, notified, silenced, acknowledged, inhibited, quiet, unmatched.',
    `reason` String COMMENT 'Why, in words.',
    `rule_id` Nullable(String) COMMENT 'The rule.',
    `rule_revision` Nullable(Int32) COMMENT 'Its version.',
    `group` String COMMENT 'The keys of the group, as key=value, ...; empty when it is about all of the pane.',
    `pane_end` Nullable(DateTime64(6, 'UTC')) COMMENT 'The end of the pane that was judged (event time).',
    `value` Nullable(Float64) COMMENT 'The figure.',
    `threshold` Nullable(Float64) COMMENT 'What it was held against.',
    `groups` Int32 COMMENT 'How many groups were evaluated,',
    `violating` Int32 COMMENT 'and how many of them violated the rule.',
    `parts` Int32 COMMENT 'How many source partitions the pane was complete for,',
    `parts_expected` Int32 COMMENT 'and how many there are.',
    `alert_id` Nullable(String) COMMENT 'The alert, when it is about one,',
    `transition` Nullable(Int32) COMMENT 'and its transition.',
    `endpoint_id` Nullable(String) COMMENT 'The endpoint that was notified, or would have been.',
    `notification_id` Nullable(String) COMMENT 'The notification.',
    `silence_id` Nullable(String) COMMENT 'The silence or acknowledgement that held it back.',
    `decision_id` String COMMENT 'The decision.'
)
AS SELECT
    decided_at, what, reason, rule_id, rule_revision,
    arrayStringConcat(d.`group`, ', ') AS `group`,
    pane_end, value, threshold, groups, violating, parts, parts_expected, alert_id, transition,
    endpoint_id, notification_id, silence_id, decision_id
FROM decisions AS d FINAL
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'What was decided about alerts, and why: also about those that nobody was told of.';

CREATE OR REPLACE VIEW delivery_log
(
    `started_at` DateTime64(6, 'UTC') COMMENT 'When the attempt began.',
    `endpoint_id` String COMMENT 'To whom.',
    `channel` String COMMENT 'webhook, mail, slack, teams, pagerduty or alertmanager.',
    `type` String COMMENT 'What the notification is: alert.firing, alert.resolved, ...',
    `notification_id` String COMMENT 'The notification: the webhook-id.',
    `attempt` Int32 COMMENT 'The number of the attempt, from 1; 0 when none was made.',
    `redriven` Int32 COMMENT 'How often a person had asked to deliver it again.',
    `outcome` String COMMENT 'delivered, failed (another attempt follows), exhausted (none does), refused, parked (the endpoint is disabled).',
    `status` Nullable(Int32) COMMENT 'The HTTP status or the SMTP reply code, where there was one.',
    `error` Nullable(String) COMMENT 'What went wrong, in words.',
    `took_ms` Float64 COMMENT 'How long it took, in milliseconds.',
    `next_attempt_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When the next attempt is due.',
    `request` String COMMENT 'What was sent, without secrets, cut to 8 KiB.',
    `response` String COMMENT 'What came back, cut to 2 KiB.',
    `attempt_id` String COMMENT 'The attempt.'
)
AS SELECT
    started_at, endpoint_id, channel, type, notification_id, attempt, redriven, outcome, status, error,
    took_us / 1000 AS took_ms,
    next_attempt_at, request, response, attempt_id
FROM deliveries FINAL
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'Every attempt to deliver a notification, or the decision not to make one.';

CREATE OR REPLACE VIEW notification_log
(
    `created_at` DateTime64(6, 'UTC') COMMENT 'When it was made, by the clock.',
    `endpoint_id` String COMMENT 'To whom.',
    `type` String COMMENT 'alert.firing, alert.resolved, alert.reminder, window.closed, request.failed, span.ended, endpoint.failing, endpoint.test.',
    `notification_id` String COMMENT 'The notification: the webhook-id.',
    `outcome` String COMMENT 'How the last attempt ended: delivered, failed, exhausted, refused or parked; waiting before the first.',
    `delivered_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was first delivered.',
    `attempts` UInt64 COMMENT 'How many attempts were made.',
    `status` Nullable(Int32) COMMENT 'The HTTP status or the SMTP reply code of the last attempt.',
    `error` Nullable(String) COMMENT 'What went wrong with it.',
    `next_attempt_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When the next attempt is due.',
    `redriven` Int32 COMMENT 'How often a person asked to deliver it again.',
    `alerts` Array(String) COMMENT 'The transitions it tells of, as alert_id/transition.',
    `body` String COMMENT 'The event, as JSON.'
)
AS SELECT
    n.created_at AS created_at, n.endpoint_id AS endpoint_id, n.type AS type, n.notification_id AS notification_id,
    if(d.told = 0, 'waiting', tupleElement(d.last, 1)) AS outcome,
    d.delivered_at AS delivered_at,
    d.attempts AS attempts,
    tupleElement(d.last, 2) AS status,
    tupleElement(d.last, 3) AS error,
    tupleElement(d.last, 4) AS next_attempt_at,
    n.redriven AS redriven, n.alerts AS alerts, n.body AS body
FROM
(
    SELECT *
    FROM notifications FINAL
    ORDER BY notification_id, redriven DESC
    LIMIT 1 BY notification_id
) AS n
LEFT JOIN
(
    SELECT
        notification_id,
        count() AS told,
        countIf(attempt > 0) AS attempts,
        minOrNullIf(started_at + toIntervalMicrosecond(took_us), outcome = 'delivered') AS delivered_at,
        argMax(tuple(outcome, status, error, next_attempt_at), (redriven, started_at, attempt)) AS last
    FROM deliveries FINAL
    GROUP BY notification_id
) AS d ON d.notification_id = n.notification_id
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'Every notification, and what has become of it.';

CREATE OR REPLACE VIEW deliveries_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `endpoint_id` String COMMENT 'To whom.',
    `channel` String COMMENT 'webhook, mail, slack, teams, pagerduty or alertmanager.',
    `attempts` UInt64 COMMENT 'Attempts that were made.',
    `delivered` UInt64 COMMENT 'Those that succeeded.',
    `failed` UInt64 COMMENT 'Those that did not.',
    `p50_ms` Float64 COMMENT 'Median duration, in milliseconds.',
    `p95_ms` Float64 COMMENT '95 of 100 took at most this, in milliseconds.',
    `max_ms` Float64 COMMENT 'The longest, in milliseconds.'
)
AS SELECT
    toStartOfMinute(started_at) AS minute, endpoint_id, channel,
    count() AS attempts,
    countIf(outcome = 'delivered') AS delivered,
    countIf(outcome != 'delivered') AS failed,
    quantilesExact(0.5, 0.95)(took_us)[1] / 1000 AS p50_ms,
    quantilesExact(0.5, 0.95)(took_us)[2] / 1000 AS p95_ms,
    max(took_us) / 1000 AS max_ms
FROM deliveries FINAL
WHERE attempt > 0
GROUP BY minute, endpoint_id, channel
SETTINGS do_not_merge_across_partitions_select_final = 0
COMMENT 'Deliveries per minute and endpoint.';
