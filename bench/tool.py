"""Finds and calls the `secateur` binary."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TIMEOUT = 600


class ToolError(Exception):
    """The binary is missing, or it failed: the text is what it said."""


def find(given: Path | None = None) -> Path:
    """The given binary, else the newest build in `target`, else the one on PATH."""
    builds = [ROOT / "target" / kind / "secateur" for kind in ("release", "debug")]
    found = [path for path in ([given] if given else builds) if path.is_file()]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    if not given and (installed := shutil.which("secateur")):
        return Path(installed)
    raise ToolError("no `secateur` binary: run `cargo build --release` or pass --secateur PATH")


def call(binary: Path, *arguments: str | Path) -> str:
    """Standard output of one run."""
    command = [str(binary), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ToolError(f"`{arguments[0]}` took more than {TIMEOUT} s") from None
    if done.returncode:
        raise ToolError(f"`{arguments[0]}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def call_json(binary: Path, *arguments: str | Path) -> dict[str, Any]:
    return json.loads(call(binary, *arguments, "--json"))


def find_example(name: str) -> Path:
    """An example program of the release build."""
    path = ROOT / "target" / "release" / "examples" / name
    if not path.is_file():
        raise ToolError(f"no `{name}`: run `cargo build --release --example {name}`")
    return path
