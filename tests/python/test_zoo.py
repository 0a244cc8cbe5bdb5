"""The fast part of the zoo, row by row."""

from pathlib import Path

import pytest

import sandbox
import tool
import zoo

pytestmark = pytest.mark.xdist_group("zoo")
"""One process, as the rows share exported files."""

ROWS = [row for row in zoo.rows() if row.fast and row.case]


@pytest.fixture(scope="module")
def setting(binary: Path) -> zoo.Setting:
    sandbox.preload(zoo.PRELOADED)
    cache = tool.ROOT / "target" / "zoo"
    return zoo.Setting(cache, binary, ratio=0.5, limits=sandbox.Limits(), keep_below=1e9)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row.key))
def test_row_is_ok(row: zoo.Row, setting: zoo.Setting) -> None:
    record = row.run(setting)
    assert record["status"] == "ok", record["cause"]
    assert record["exact_groups"] > 0, "nothing was pruned"
    assert record["coverage"] > 0.97


def test_export_that_fails_is_a_record_with_its_cause(setting: zoo.Setting) -> None:
    row = zoo.Row("none", "dynamo", "", False, zoo.Case("no-such-model", Path.touch))
    record = row.run(setting)
    assert record["status"] == "export failed"
    assert record["cause"]


RECORDS = {
    ("a", "dynamo"): {"model": "a", "side": "dynamo", "status": "ok"},
    ("b", "dynamo"): {"model": "b", "side": "dynamo", "status": "wrong"},
    ("c", "dynamo"): {"model": "c", "side": "dynamo", "status": "exported"},
}


@pytest.mark.parametrize(("retry", "expected"), [(False, "cd"), (True, "bcd")])
def test_what_has_a_result_is_not_run_again(retry: bool, expected: str) -> None:
    rows = [zoo.Row(name, "dynamo", "", False, None) for name in "abcd"]
    assert "".join(row.model for row in zoo.pending(rows, RECORDS, retry)) == expected


def test_run_appends_a_record_for_each_row_and_then_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [zoo.Row(name, "dynamo", "", False, None) for name in "ab"]
    monkeypatch.setattr(
        zoo.Row, "run", lambda row, _: {"model": row.model, "side": row.side, "status": "ok"}
    )
    results = tmp_path / "results.jsonl"
    setting = zoo.Setting(tmp_path, None, 0.5, sandbox.Limits(), 0)
    zoo.execute(rows, setting, results, jobs=2)
    assert set(zoo.journal.read(results)) == {("a", "dynamo"), ("b", "dynamo")}
    assert not zoo.pending(rows, zoo.journal.read(results), retry=False)
