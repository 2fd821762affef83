"""ClickHouse: connections, which errors pass, and the states of its aggregate functions."""
