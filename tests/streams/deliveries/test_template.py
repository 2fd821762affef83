"""What a template can do, what it can't, and what it costs when it tries."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from streams.deliveries.errors import TemplateError
from streams.deliveries.rendering import Renderer
from streams.deliveries.template import LONGEST_OUTPUT, LONGEST_TEMPLATE, check, render

EVENT: dict[str, Any] = {
    "type": "alert.firing",
    "data": {"alerts": [{"severity": "error", "group": {"space": "<b>s1</b>"}}, {"severity": "info"}]},
}


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("{{ type }}", "alert.firing"),
        ("{% for alert in data.alerts %}{{ alert.severity }} {% endfor %}", "error info "),
        ("{{ data.alerts[0].group.space }}", "<b>s1</b>"),
        ("{{ data.alerts | map(attribute='severity') | join(',') }}", "error,info"),
        ("{{ data.nothing | default('none') }}", "none"),
        (
            "{{ data.alerts[0] | tojson }}",
            '{"group": {"space": "\\u003cb\\u003es1\\u003c/b\\u003e"}, "severity": "error"}',
        ),
        (
            "{% set n = namespace(s=0) %}{% for i in range(4) %}{% set n.s = n.s + i %}{% endfor %}{{ n.s }}",
            "6",
        ),
        ("no placeholder\n", "no placeholder\n"),
    ],
)
def test_a_template_makes_text_of_an_event(template: str, output: str) -> None:
    assert render(template, EVENT) == output


def test_what_is_inserted_into_html_is_escaped() -> None:
    assert (
        render("<i>{{ data.alerts[0].group.space }}</i>", EVENT, html=True) == "<i>&lt;b&gt;s1&lt;/b&gt;</i>"
    )


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("a\nb\n{% if %}", 3, "Expected an expression"),
        ("{% for a in data.alerts %}", 1, "Unexpected end of template"),
        ("\n\n\n{{ nothing }}", 4, "'nothing' is undefined"),
        ("\n{{ data.nothing.more }}", 2, "no attribute 'nothing'"),
        ("\n{% for i in (1, 0) %}\n{{ 1 / i }}\n{% endfor %}", 3, "division by zero"),
        ("{{ data | nofilter }}", 1, "No filter named 'nofilter'"),
        ("\n{% include 'x' %}", 2, "no loader"),
    ],
)
def test_an_error_names_its_line(template: str, line: int, reason: str) -> None:
    with pytest.raises(TemplateError) as raised:
        render(template, EVENT)

    assert raised.value.line == line
    assert reason in raised.value.reason
    assert str(raised.value).startswith(f"line {line}: ")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ type.format.__globals__ }}",
        "{{ '{0.__class__}'.format(type) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ (type | attr('__class__')).mro() }}",
        "{{ render.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ data.alerts.append(1) }}",
        "{{ data.update({'a': 1}) }}",
        "{{ range.__self__ }}",
        "{% import 'os' as os %}",
    ],
)
def test_a_template_reaches_nothing_but_the_event(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, EVENT)

    assert len(EVENT["data"]["alerts"]) == 2


def test_checking_runs_nothing() -> None:
    began = time.process_time()
    check("{{ 'a' * 10**12 }}{{ 10**(10**8) }}{% for a in range(99999) %}{{ a }}{% endfor %}")

    assert time.process_time() - began < 1
    with pytest.raises(TemplateError, match="line 2"):
        check("\n{{ }")


def test_a_template_that_is_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(TemplateError, match=str(LONGEST_TEMPLATE)):
        check("x" * (LONGEST_TEMPLATE + 1))
    with pytest.raises(TemplateError, match="too deeply"):
        check("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    rendering = Renderer(seconds=0.5)
    yield rendering
    await rendering.close()


async def test_templates_render_in_processes_that_stay(renderer: Renderer) -> None:
    outputs = [await renderer.render("{{ type }} {{ n }}", {**EVENT, "n": n}, owner="e") for n in range(50)]

    assert outputs == [f"alert.firing {n}" for n in range(50)]
    assert len(renderer._idle) == 1
    with pytest.raises(TemplateError, match="line 2: 'x' is undefined"):
        await renderer.render("\n{{ x }}", EVENT, owner="e")
    assert len(renderer._idle) == 1


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 7 ** (7 ** 12) }}",
        "{{ range(99999) | map('string') | map('center', 99999) | join | length }}",
    ],
)
async def test_a_template_without_end_is_killed_and_left_out(renderer: Renderer, template: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateError, match=r"takes longer than 0\.5 s|MiB of memory"):
        await renderer.render(template, EVENT, owner="e")
    assert time.monotonic() - began < 20

    assert await renderer.render("{{ type }}", EVENT, owner="e") == "alert.firing"


@pytest.mark.alone
async def test_what_was_killed_is_not_tried_again_at_once(renderer: Renderer) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="takes longer"):
        await renderer.render(endless, EVENT, owner="e")

    began = time.monotonic()
    with pytest.raises(TemplateError, match="left out for 60 s"):
        await renderer.render(endless, EVENT, owner="e")

    assert time.monotonic() - began < 0.4


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 'a' * 10**10 }}", "MiB of memory"),
        ("{{ 'a' | center(10**9) }}", "MiB of memory"),
        ("{{ '%1000000000d' % 1 }}", "MiB of memory"),
        (
            "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
            "it ",
        ),
        ("{{ 'a' * 300000 }}", str(LONGEST_OUTPUT)),
        ("{% for i in range(99999) %}0123456789{% endfor %}", str(LONGEST_OUTPUT)),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deeply"),
        ("{{ '\\ud800' }}", "surrogates"),
    ],
)
async def test_memory_and_output_are_bounded(renderer: Renderer, template: str, reason: str) -> None:
    with pytest.raises(TemplateError) as raised:
        await renderer.render(template, EVENT, owner="e")

    assert reason in str(raised.value)
    assert await renderer.render("{{ type }}", EVENT, owner="e") == "alert.firing"


@pytest.mark.alone
async def test_a_bad_template_takes_one_process_and_leaves_the_other() -> None:
    renderer = Renderer(seconds=30)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    await asyncio.gather(*(renderer.render("{{ type }}", EVENT, owner=owner) for owner in ("good", "bad")))
    bad = [
        asyncio.create_task(renderer.render(f"{number}{endless}", EVENT, owner="bad")) for number in range(3)
    ]
    await asyncio.sleep(0)  # they have begun

    for _ in range(20):
        await renderer.render("{{ type }}", EVENT, owner="good")

    assert not any(task.done() for task in bad)
    for task in bad:
        task.cancel()
    await asyncio.wait(bad)
    await renderer.close()


async def test_a_caller_that_leaves_spoils_nothing(renderer: Renderer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await renderer.render("{% for a in range(99999) %}{{ a }}{% endfor %}" * 50, EVENT, owner="e")

    assert await renderer.render("{{ type }}", EVENT, owner="e") == "alert.firing"


async def test_every_filter_works_in_the_confined_process(renderer: Renderer) -> None:
    """None of them has to open a file, which the process can't."""
    said = {}
    for name in sorted(ImmutableSandboxedEnvironment().filters):
        for value in ("['a', 'b']", "'a'"):
            try:
                said[name, value] = await renderer.render(f"{{{{ {value} | {name} }}}}", EVENT, owner="e")
            except TemplateError as error:
                said[name, value] = str(error)

    for told in said.values():
        assert "Too many open files" not in told
        assert "brought its process to an end" not in told
    assert said["pprint", "'a'"] == "'a'"


async def test_the_process_has_no_environment_and_no_files(renderer: Renderer) -> None:
    await renderer.render("{{ type }}", EVENT, owner="e")
    (idle,) = renderer._idle
    folder = Path(f"/proc/{idle._process.pid}")
    environ = await asyncio.to_thread((folder / "environ").read_bytes)
    limits = await asyncio.to_thread((folder / "limits").read_text)

    assert b"CHATGAUGE" not in environ
    assert b"PATH=" not in environ
    (files,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert files.split()[3:5] == ["3", "3"]
