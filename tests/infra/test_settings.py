"""`.env.example` lists every setting, and nothing else, with the default it has."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from infra import settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
LISTED = dict(re.findall(r"^# (CHATGAUGE_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
CLASSES = [
    each
    for each in vars(settings).values()
    if isinstance(each, type) and issubclass(each, BaseSettings) and each is not BaseSettings
]


def variables(of: type[BaseSettings]) -> dict[str, str]:
    """The field of each environment variable."""
    return {f"{of.model_config['env_prefix']}{field}".upper(): field for field in of.model_fields}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env of the developer's own."""
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_listed_once() -> None:
    known = [variable for each in CLASSES for variable in variables(each)]

    assert sorted(LISTED) == sorted(known)


@pytest.mark.parametrize("of", CLASSES, ids=lambda each: each.__name__)
def test_what_is_listed_is_the_default(of: type[BaseSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in variables(of):
        monkeypatch.delenv(variable, raising=False)
    default = of()

    for variable in variables(of):
        monkeypatch.setenv(variable, LISTED[variable])

    assert of() == default


def test_a_file_env_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATGAUGE_API_PORT", raising=False)
    (tmp_path / ".env").write_text("CHATGAUGE_API_PORT=8765\n")

    assert settings.ApiSettings().port == 8765


def test_what_is_wrong_is_told_by_the_names_that_are_set_without_the_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATGAUGE_SINK_LINGER", "two seconds")
    monkeypatch.setenv("CHATGAUGE_SINK_MAX_ROWS", "0")

    with pytest.raises(ValidationError) as raised:
        settings.SinkSettings()

    linger, rows = settings.explained(raised.value)
    assert linger.startswith("CHATGAUGE_SINK_LINGER: ")
    assert linger.endswith("durations are written as in PT10S, PT0.1S, PT26H or P3D")
    assert rows == "CHATGAUGE_SINK_MAX_ROWS: Input should be greater than or equal to 1"
    assert "two seconds" not in linger


@pytest.mark.parametrize("name", ["Nowhere/City", "Europe", "../etc/passwd"])
def test_a_time_zone_that_is_none_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CHATGAUGE_WINDOWS_TIMEZONE", name)
    with pytest.raises(ValidationError, match="no such time zone"):
        settings.WindowSettings()
