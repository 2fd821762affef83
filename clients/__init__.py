"""How Kafka and ClickHouse are reached, by every part."""
