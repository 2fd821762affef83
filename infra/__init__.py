"""Where Chatgauge runs: local Kafka and ClickHouse, and the settings that say where each part finds them."""
