"""History: windows in ClickHouse, as series over time."""
