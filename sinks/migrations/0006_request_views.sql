-- Requests, tokens and cost, from the windows. cost_usd is the sum of what could be priced; where
-- nothing could, it is NULL and never 0: a model without a known price is not a free one.

CREATE OR REPLACE VIEW window_sums
(
    `pane` LowCardinality(String) COMMENT 'Length of the pane: 1s or 1m.',
    `grouping` LowCardinality(String) COMMENT 'total, service, model, space, workflow, error or user.',
    `pane_start` DateTime('UTC') COMMENT 'Start of the pane.',
    `day` Date COMMENT 'The day that the pane begins on, in the configured time zone.',
    `key1` String COMMENT 'First key of the grouping; empty for total.',
    `key2` String COMMENT 'Second key of the grouping; else empty.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane, grouping, pane_start, day, key1, key2,
    sum(w.requests) AS requests,
    sum(w.errors) AS errors,
    sum(w.cache_hits) AS cache_hits,
    sum(w.prompt_tokens) AS prompt_tokens,
    sum(w.cached_tokens) AS cached_tokens,
    sum(w.completion_tokens) AS completion_tokens,
    sum(w.reasoning_tokens) AS reasoning_tokens,
    if(sum(w.cost_nano_usd) = 0 AND sum(w.unpriced) > 0, NULL, sum(w.cost_nano_usd) / 1e9) AS cost_usd,
    sum(w.unpriced) AS unpriced
FROM window_rows AS w
GROUP BY pane, grouping, pane_start, day, key1, key2
COMMENT 'Counts, tokens and cost of every pane and group, all partitions added up.';

CREATE OR REPLACE VIEW requests_total_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane_start AS minute, requests, errors, cache_hits,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, unpriced
FROM window_sums
WHERE pane = '1m' AND grouping = 'total'
COMMENT 'Requests, tokens and cost per minute, all services together.';

CREATE OR REPLACE VIEW requests_per_minute
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `service` String COMMENT 'The chat service.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane_start AS minute, key1 AS service, requests, errors, cache_hits,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, unpriced
FROM window_sums
WHERE pane = '1m' AND grouping = 'service'
COMMENT 'Requests, tokens and cost per minute and service.';

CREATE OR REPLACE VIEW requests_by_model
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `provider` String COMMENT 'Who serves the model.',
    `model` String COMMENT 'The model.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane_start AS minute, key1 AS provider, key2 AS model, requests, errors, cache_hits,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, unpriced
FROM window_sums
WHERE pane = '1m' AND grouping = 'model'
COMMENT 'Requests, tokens and cost per minute, provider and model.';

CREATE OR REPLACE VIEW requests_by_space
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `space_id` String COMMENT 'The space.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane_start AS minute, key1 AS space_id, requests, errors, cache_hits,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, unpriced
FROM window_sums
WHERE pane = '1m' AND grouping = 'space'
COMMENT 'Requests, tokens and cost per minute and space.';

CREATE OR REPLACE VIEW requests_by_workflow
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `workflow` String COMMENT 'The workflow.',
    `workflow_version` String COMMENT 'Its version.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane_start AS minute, key1 AS workflow, key2 AS workflow_version, requests, errors, cache_hits,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, unpriced
FROM window_sums
WHERE pane = '1m' AND grouping = 'workflow'
COMMENT 'Requests, tokens and cost per minute, workflow and version.';

CREATE OR REPLACE VIEW requests_by_user
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `user_id` String COMMENT 'The pseudonym of the user.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `cache_hits` Int64 COMMENT 'Those answered from the response cache of the service.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    pane_start AS minute, key1 AS user_id, requests, errors, cache_hits,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, unpriced
FROM window_sums
WHERE pane = '1m' AND grouping = 'user'
COMMENT 'Requests, tokens and cost per minute and user.';

CREATE OR REPLACE VIEW errors_by_type
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute.',
    `error_type` String COMMENT 'The kind of failure.',
    `errors` Int64 COMMENT 'Requests that failed in this way.'
)
AS SELECT
    pane_start AS minute, key1 AS error_type, errors
FROM window_sums
WHERE pane = '1m' AND grouping = 'error'
COMMENT 'Failed requests per minute and kind of failure.';

CREATE OR REPLACE VIEW tokens_by_space
(
    `day` Date COMMENT 'The day, in the configured time zone.',
    `space_id` String COMMENT 'The space.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `total_tokens` Int64 COMMENT 'Prompt and completion tokens.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    day, key1 AS space_id,
    sum(w.requests) AS requests,
    sum(w.errors) AS errors,
    sum(w.prompt_tokens) AS prompt_tokens,
    sum(w.cached_tokens) AS cached_tokens,
    sum(w.completion_tokens) AS completion_tokens,
    sum(w.reasoning_tokens) AS reasoning_tokens,
    sum(w.prompt_tokens) + sum(w.completion_tokens) AS total_tokens,
    if(sum(w.cost_nano_usd) = 0 AND sum(w.unpriced) > 0, NULL, sum(w.cost_nano_usd) / 1e9) AS cost_usd,
    sum(w.unpriced) AS unpriced
FROM window_rows AS w
WHERE pane = '1m' AND grouping = 'space'
GROUP BY day, space_id
COMMENT 'Tokens and cost per day and space.';

CREATE OR REPLACE VIEW tokens_by_user
(
    `day` Date COMMENT 'The day, in the configured time zone.',
    `user_id` String COMMENT 'The pseudonym of the user.',
    `requests` Int64 COMMENT 'Finished requests.',
    `errors` Int64 COMMENT 'Those that failed.',
    `prompt_tokens` Int64 COMMENT 'Prompt tokens, cached ones included.',
    `cached_tokens` Int64 COMMENT 'Those of prompt_tokens read from the cache of the provider.',
    `completion_tokens` Int64 COMMENT 'Completion tokens, reasoning ones included.',
    `reasoning_tokens` Int64 COMMENT 'Those of completion_tokens spent on reasoning.',
    `total_tokens` Int64 COMMENT 'Prompt and completion tokens.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    day, key1 AS user_id,
    sum(w.requests) AS requests,
    sum(w.errors) AS errors,
    sum(w.prompt_tokens) AS prompt_tokens,
    sum(w.cached_tokens) AS cached_tokens,
    sum(w.completion_tokens) AS completion_tokens,
    sum(w.reasoning_tokens) AS reasoning_tokens,
    sum(w.prompt_tokens) + sum(w.completion_tokens) AS total_tokens,
    if(sum(w.cost_nano_usd) = 0 AND sum(w.unpriced) > 0, NULL, sum(w.cost_nano_usd) / 1e9) AS cost_usd,
    sum(w.unpriced) AS unpriced
FROM window_rows AS w
WHERE pane = '1m' AND grouping = 'user'
GROUP BY day, user_id
COMMENT 'Tokens and cost per day and user.';

CREATE OR REPLACE VIEW cost_by_day
(
    `day` Date COMMENT 'The day, in the configured time zone.',
    `provider` String COMMENT 'Who serves the model.',
    `model` String COMMENT 'The model.',
    `requests` Int64 COMMENT 'Finished requests.',
    `total_tokens` Int64 COMMENT 'Prompt and completion tokens.',
    `cost_usd` Nullable(Float64) COMMENT 'Cost in USD of what could be priced; NULL when nothing could.',
    `unpriced` Int64 COMMENT 'Requests that could not be priced, and are not in cost_usd.'
)
AS SELECT
    day, key1 AS provider, key2 AS model,
    sum(w.requests) AS requests,
    sum(w.prompt_tokens) + sum(w.completion_tokens) AS total_tokens,
    if(sum(w.cost_nano_usd) = 0 AND sum(w.unpriced) > 0, NULL, sum(w.cost_nano_usd) / 1e9) AS cost_usd,
    sum(w.unpriced) AS unpriced
FROM window_rows AS w
WHERE pane = '1m' AND grouping = 'model'
GROUP BY day, provider, model
COMMENT 'Cost per day, provider and model.';
