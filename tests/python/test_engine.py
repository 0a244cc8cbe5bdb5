"""The engine computes what ONNX Runtime computes: every operator alone, and every fixture."""

from pathlib import Path

import engine
import operators
import pytest
from onnx.reference import ReferenceEvaluator

import tool

FOLDER = tool.ROOT / "crates" / "secateur" / "tests" / "fixtures"
FILES = sorted(FOLDER.glob("*.onnx"))
# Numbers of 16 bits are computed in 32.
TOLERANCES = {"weights_float16": 1e-3}
# ONNX Runtime does not crop where the size stays.
STANDARD = {"sampled"}


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    if not engine.RUN.is_file():
        pytest.fail("no engine: run `cargo build -p secateur-train --example run`")


@pytest.mark.parametrize("name", operators.CASES)
def test_operator(name: str) -> None:
    found = list(engine.compare(list(operators.cases([name]))))
    assert found
    assert not [(case.name, apart) for case, apart in found if not operators.passes(case, apart)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fixture(path: Path) -> None:
    feeds = engine.feeds_for(path)
    case = engine.Case(path.stem, path, feeds, tolerance=TOLERANCES.get(path.stem, 1e-5))
    if path.stem in STANDARD:
        case = case._replace(expected=ReferenceEvaluator(str(path)).run(None, feeds))
    [(_, apart)] = engine.compare([case])
    assert operators.passes(case, apart), apart
