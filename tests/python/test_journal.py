"""Results survive an interruption, and the newest record of a row counts."""

from pathlib import Path

import journal


def record(model: str, status: str) -> journal.Record:
    return {"model": model, "side": "dynamo", "status": status}


def test_later_record_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for status in ("failed", "ok"):
        journal.append(path, record("a", status))
    assert journal.read(path) == {("a", "dynamo"): record("a", "ok")}


def test_line_that_was_cut_off_is_left_out_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    journal.append(path, record("a", "ok"))
    with path.open("a") as file:
        file.write('{"model": "b", "si')
    journal.append(path, record("c", "ok"))
    assert set(journal.read(path)) == {("a", "dynamo"), ("c", "dynamo")}


def test_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == {}


def test_forgotten_rows_are_gone_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for model in "abc":
        journal.append(path, record(model, "ok"))
    journal.forget(path, {("b", "dynamo"), ("none", "dynamo")})
    assert set(journal.read(path)) == {("a", "dynamo"), ("c", "dynamo")}
