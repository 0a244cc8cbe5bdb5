"""Results in a file of JSON lines, appended as they come, so that a run can go on where it stopped.

A later record of the same row replaces an earlier one. Knows nothing of what a record says, but for
the fields `model` and `side`, which name its row.
"""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Key = tuple[str, str]


def key(record: Record) -> Key:
    return record["model"], record["side"]


def read(path: Path) -> dict[Key, Record]:
    """The newest record of every row; a line that was cut off by an interruption is left out."""
    found: dict[Key, Record] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
                found[key(record)] = record
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
    return found


def append(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell() and _last_byte(path) != b"\n":
            file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


def forget(path: Path, keys: Set[Key]) -> None:
    """Rewrites the file without the records of these rows, and without replaced ones."""
    kept = [record for name, record in read(path).items() if name not in keys]
    partial = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
    partial.replace(path)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)
