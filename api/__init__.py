"""The HTTP API: live figures, history, health and metrics."""
