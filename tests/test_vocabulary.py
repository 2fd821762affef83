"""The check of names finds what it should."""

from pathlib import Path

from tests.vocabulary import findings


def test_a_name_for_two_things_in_one_package_is_found_and_one_alias_in_two_modules_is_not(
    tmp_path: Path,
) -> None:
    package = tmp_path / "api"
    (package / "live").mkdir(parents=True)
    (package / "one.py").write_text("class Answer:\n    a = 1\n\n\nRows = list[int]\nMOST = 1\n")
    (package / "two.py").write_text("class Answer:\n    b = 1\n\n\nRows = list[int]\nMOST = 2\n")
    (package / "live" / "one.py").write_text("class Answer:\n    c = 1\n")

    assert findings(tmp_path, ["api"]) == ["api: Answer is a different thing in one.py and in two.py"]


def test_a_module_whose_name_says_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "utils.py").write_text("")

    assert findings(tmp_path, ["api"]) == ["api/utils.py: say what is in it"]
