"""`make mutants` judges modules that are there, by tests that are there."""

import json
from pathlib import Path

import pytest

from scripts import mutants


@pytest.mark.parametrize("module", mutants.JUDGES)
def test_modules_and_their_tests_are_there(module: str) -> None:
    assert (mutants.ROOT / "include" / "etl" / f"{module}.py").is_file()
    assert all((mutants.ROOT / path).exists() for path in mutants.JUDGES[module])


def test_what_was_not_tried_and_what_ran_out_of_time_has_not_survived(tmp_path: Path) -> None:
    path = tmp_path / "mutants" / "include" / "etl" / "cursor.py.meta"
    path.parent.mkdir(parents=True)
    codes = {"killed": 1, "survived": 0, "no test": 33, "too slow": 36, "not tried": None}
    path.write_text(json.dumps({"exit_code_by_key": codes}))
    assert mutants.survivors(mutants.read_outcomes(tmp_path, "cursor")) == ["survived", "no test"]


def test_an_unknown_module_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["mutants.py", "phases/none"])
    with pytest.raises(SystemExit):
        mutants.main()
    assert "phases/none: allowed: phases/request" in capsys.readouterr().err
