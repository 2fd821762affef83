"""Series over time, asked of ClickHouse."""

from api.clickhouse import ClickHouse, Query
from api.history import sql
from api.history.answer import build
from api.history.question import Question
from api.models.historical import Historical
from schemas.time import Micros


class History(ClickHouse):
    """Questions of windows."""

    async def ask(self, question: Question, now: Micros) -> Historical:
        """The series asked for. Raises as `rows` does."""
        overall = await self.rows(sql.overall(question))
        groups = [(row[0], row[1]) for row in overall]
        series = await self.rows(sql.series(question, groups)) if groups else []
        coverage = await self.rows(sql.coverage(question))
        return build(question, overall, series, coverage, now)

    async def ping(self) -> None:
        """Raises UnavailableError unless ClickHouse answers and the table of windows is there."""
        await self.rows(Query("SELECT 1 FROM window_rows LIMIT 1", {}))
