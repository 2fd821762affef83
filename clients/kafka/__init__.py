"""Kafka: consumers, producers, and what is fetched."""
