"""Benchmarks: the product beside its peers, on the same events and the same work."""
