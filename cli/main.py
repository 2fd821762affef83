"""The `chatgauge` command. Each of its commands is imported when it is asked for, not before."""

from importlib import import_module
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from infra.settings import explained

_WRONG_SETTINGS = 78
"""Exit status (EX_CONFIG)."""
_COMMANDS = {
    "up": "cli.up:up",
    "worker": "cli.parts:worker",
    "sink": "cli.parts:sink",
    "api": "cli.parts:api",
    "topics": "cli.topics:topics",
    "doctor": "cli.doctor:doctor",
    "simulate": "cli.simulate:simulate",
    "replay": "cli.replay:replay",
    "rebuild": "cli.rebuild:rebuild",
    "backtest": "cli.backtest:backtest",
    "admin-key": "cli.admin_key:admin_key",
}


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # typer's click is its own, and private
        if cmd_name not in _COMMANDS:
            return None
        module, function = _COMMANDS[cmd_name].split(":")
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(getattr(import_module(module), function))
        return typer.main.get_command(single)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Telemetry and analytics for services that chat through language models.

    Settings come from CHATGAUGE_* variables, or from a file .env; .env.example lists them.
    """,
)


@app.callback()
def _chatgauge() -> None:
    return


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ValidationError as error:
        for line in explained(error):
            typer.echo(f"chatgauge: {line}", err=True)
        raise SystemExit(_WRONG_SETTINGS) from None


if __name__ == "__main__":
    main()
