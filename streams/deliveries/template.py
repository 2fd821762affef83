"""Templates of people: Jinja2 in its sandbox, with nothing to reach for but the event.

This module compiles and renders where it is called, without a limit of time or memory: a template can ask
for any amount of both. Deliveries render in a process that can be killed (`rendering`).
"""

from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from streams.deliveries.errors import TemplateError

LONGEST_TEMPLATE = 32 * 1024
LONGEST_OUTPUT = 256 * 1024
_FILE = "<template>"
_GLOBALS = ("range", "dict", "namespace")


@pass_context
def _as_it_is(_context: Context, value: object) -> object:
    return value


@lru_cache(maxsize=2)
def _environment(html: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        autoescape=html,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        cache_size=0,
        # Constant parts would otherwise be evaluated when a template is only compiled.
        optimized=False,
        finalize=_as_it_is,
    )
    environment.globals = {name: environment.globals[name] for name in _GLOBALS}
    return environment


@lru_cache(maxsize=256)
def _compiled(source: str, html: bool) -> Template:
    if len(source) > LONGEST_TEMPLATE:
        raise TemplateError(f"a template has at most {LONGEST_TEMPLATE} characters, this one {len(source)}")
    try:
        return _environment(html).from_string(source)
    except TemplateSyntaxError as error:
        raise TemplateError(error.message or "it can't be read", error.lineno) from None
    except RecursionError:
        raise TemplateError("it is nested too deeply") from None
    except (SyntaxError, SystemError, MemoryError, OverflowError, ValueError) as error:
        # What Python's own compiler says of what Jinja has made.
        raise TemplateError(f"it can't be compiled: {error}") from None


def check(source: str) -> None:
    """Whether it is a template at all; runs none of it. Raises TemplateError, with the line."""
    _compiled(source, False)


def render(source: str, event: Mapping[str, Any], *, html: bool = False) -> str:
    """The template's output for an event, of at most 256 Ki characters; `html` escapes what is inserted.

    A name that the event doesn't have is an error, unless the template gives it a default. Raises
    TemplateError, with the line.
    """
    template = _compiled(source, html)
    pieces, length = [], 0
    try:
        for piece in template.generate(event):
            length += len(piece)
            if length > LONGEST_OUTPUT:
                raise TemplateError(f"its output is longer than {LONGEST_OUTPUT} characters")
            pieces.append(piece)
    except (TemplateError, MemoryError):
        raise
    except Exception as error:  # whatever a template's expressions may raise
        raise TemplateError(_reason(error), _line(error.__traceback__)) from None
    return "".join(pieces)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    return text or type(error).__name__


def _line(trace: TracebackType | None) -> int | None:
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
