"""`.env.example` lists every setting, and nothing else, with the default it has."""

import re
from pathlib import Path

import pytest
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
