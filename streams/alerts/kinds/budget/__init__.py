"""Budgets: `rule` is the kind, `terms` its fields; what groups use is counted in `spending`, held against the
limit in `steps`, and stated in `evidence`."""

from streams.alerts.kinds.budget.rule import BudgetRule

__all__ = ["BudgetRule"]
