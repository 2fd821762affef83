"""What people set up (rules, endpoints, silences): how it is published to its topic, and followed there."""
