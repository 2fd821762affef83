-- The fields of the second versions of RequestEvent and SpanEvent. Rows from before have NULL in them,
-- and an empty array: not reported.

ALTER TABLE events
    ADD COLUMN IF NOT EXISTS `conversation_id` Nullable(String) COMMENT 'The conversation that the request is a turn of.' CODEC(ZSTD(1)) AFTER `trace_id`,
    ADD COLUMN IF NOT EXISTS `region` LowCardinality(Nullable(String)) COMMENT 'Where the request was served.' AFTER `instance`,
    ADD COLUMN IF NOT EXISTS `operation` LowCardinality(Nullable(String)) COMMENT 'What was asked of the model: chat, embeddings, ...' AFTER `model`,
    ADD COLUMN IF NOT EXISTS `experiment` LowCardinality(Nullable(String)) COMMENT 'The experiment that the request is a part of.' AFTER `workflow_version`,
    ADD COLUMN IF NOT EXISTS `variant` LowCardinality(Nullable(String)) COMMENT 'Which variant of the experiment answered.' AFTER `experiment`,
    ADD COLUMN IF NOT EXISTS `retries` Nullable(Int64) COMMENT 'Attempts that failed before the one that is reported.' CODEC(T64, ZSTD(1)) AFTER `error_type`,
    ADD COLUMN IF NOT EXISTS `finish_reason` LowCardinality(Nullable(String)) COMMENT 'Why the model stopped, as the provider spells it.' AFTER `retries`,
    ADD COLUMN IF NOT EXISTS `cache_write_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that the provider wrote to its cache, one-hour ones included.' CODEC(T64, ZSTD(1)) AFTER `cached_tokens`,
    ADD COLUMN IF NOT EXISTS `cache_write_1h_tokens` Nullable(Int64) COMMENT 'Those of cache_write_tokens that were written for an hour.' CODEC(T64, ZSTD(1)) AFTER `cache_write_tokens`,
    ADD COLUMN IF NOT EXISTS `prompt_audio_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that are audio.' CODEC(T64, ZSTD(1)) AFTER `cache_write_1h_tokens`,
    ADD COLUMN IF NOT EXISTS `completion_audio_tokens` Nullable(Int64) COMMENT 'Those of completion_tokens that are audio.' CODEC(T64, ZSTD(1)) AFTER `reasoning_tokens`,
    ADD COLUMN IF NOT EXISTS `last_token_us` Nullable(Int64) COMMENT 'From request to last token, in microseconds.' CODEC(T64, ZSTD(1)) AFTER `first_token_us`,
    ADD COLUMN IF NOT EXISTS `output_chunks` Nullable(Int64) COMMENT 'In how many chunks the answer was streamed.' CODEC(T64, ZSTD(1)) AFTER `last_token_us`,
    ADD INDEX IF NOT EXISTS by_conversation conversation_id TYPE bloom_filter GRANULARITY 4;

ALTER TABLE spans
    ADD COLUMN IF NOT EXISTS `depends_on` Array(String) COMMENT 'Spans of the same trace whose results this one needs: their span_id.' CODEC(ZSTD(1)) AFTER `parent_id`,
    ADD COLUMN IF NOT EXISTS `links` Array(String) COMMENT 'Related spans of other traces, as trace_id/span_id.' CODEC(ZSTD(1)) AFTER `depends_on`,
    ADD COLUMN IF NOT EXISTS `conversation_id` Nullable(String) COMMENT 'The conversation that the span belongs to.' CODEC(ZSTD(1)) AFTER `request_id`,
    ADD COLUMN IF NOT EXISTS `region` LowCardinality(Nullable(String)) COMMENT 'Where it ran.' AFTER `instance`,
    ADD COLUMN IF NOT EXISTS `provider` LowCardinality(Nullable(String)) COMMENT 'On a model call: who serves the model.' AFTER `workflow_version`,
    ADD COLUMN IF NOT EXISTS `model` LowCardinality(Nullable(String)) COMMENT 'On a model call: the model, as the provider spells it.' AFTER `provider`,
    ADD COLUMN IF NOT EXISTS `operation` LowCardinality(Nullable(String)) COMMENT 'On a model call: what was asked of it.' AFTER `model`,
    ADD COLUMN IF NOT EXISTS `prompt_tokens` Nullable(Int64) COMMENT 'On the end of a model call: all prompt tokens. NULL: unknown.' CODEC(T64, ZSTD(1)) AFTER `error_type`,
    ADD COLUMN IF NOT EXISTS `cached_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that the provider read from its cache.' CODEC(T64, ZSTD(1)) AFTER `prompt_tokens`,
    ADD COLUMN IF NOT EXISTS `cache_write_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that the provider wrote to its cache, one-hour ones included.' CODEC(T64, ZSTD(1)) AFTER `cached_tokens`,
    ADD COLUMN IF NOT EXISTS `cache_write_1h_tokens` Nullable(Int64) COMMENT 'Those of cache_write_tokens that were written for an hour.' CODEC(T64, ZSTD(1)) AFTER `cache_write_tokens`,
    ADD COLUMN IF NOT EXISTS `prompt_audio_tokens` Nullable(Int64) COMMENT 'Those of prompt_tokens that are audio.' CODEC(T64, ZSTD(1)) AFTER `cache_write_1h_tokens`,
    ADD COLUMN IF NOT EXISTS `completion_tokens` Nullable(Int64) COMMENT 'On the end of a model call: all completion tokens. NULL: unknown.' CODEC(T64, ZSTD(1)) AFTER `prompt_audio_tokens`,
    ADD COLUMN IF NOT EXISTS `reasoning_tokens` Nullable(Int64) COMMENT 'Those of completion_tokens that were spent on reasoning.' CODEC(T64, ZSTD(1)) AFTER `completion_tokens`,
    ADD COLUMN IF NOT EXISTS `completion_audio_tokens` Nullable(Int64) COMMENT 'Those of completion_tokens that are audio.' CODEC(T64, ZSTD(1)) AFTER `reasoning_tokens`,
    ADD COLUMN IF NOT EXISTS `cost_nano_usd` Nullable(Int64) COMMENT 'What the provider charged for the call, in 10^-9 USD, where the event says so.' CODEC(T64, ZSTD(1)) AFTER `completion_audio_tokens`;
