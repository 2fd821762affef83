"""The writers that bring every topic into ClickHouse, each row exactly once."""
