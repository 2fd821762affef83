"""Events without a chat service: simulated traffic, and traces from files."""
