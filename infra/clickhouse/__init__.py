"""ClickHouse's engine (chdb) behind ClickHouse's HTTP interface, on this machine."""

from infra.clickhouse.server import LocalClickHouse

__all__ = ["LocalClickHouse"]
