"""A Kafka partition with durable state: its transport, its changelog, and the agents that work on it."""
