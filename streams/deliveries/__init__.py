"""Deliveries: what an endpoint is, when it is called, and what becomes of a notification that fails."""
