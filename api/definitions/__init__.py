"""What people set up through the API: read, checked, and written to Kafka."""
