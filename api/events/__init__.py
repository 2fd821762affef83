"""The event viewer: what the window of an alert, a span of time, or a place on Kafka is made of."""
