"""Endpoints: where notifications go, what each wants to be told of, and its secrets."""
