"""Counting: fetches of `chat.requests` become the windows of their partitions, published and announced."""
