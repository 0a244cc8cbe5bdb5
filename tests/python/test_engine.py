"""The engine computes what ONNX Runtime computes, every operator alone and every fixture.

Its gradients are those of PyTorch, and of difference quotients.
"""

from pathlib import Path

import pytest
from onnx.reference import ReferenceEvaluator

import engine
import operators
import tool
import torchgrads

FOLDER = tool.ROOT / "crates" / "secateur" / "tests" / "fixtures"
FILES = sorted(FOLDER.glob("*.onnx"))
# Numbers of 16 bits are computed in 32.
TOLERANCES = {"weights_float16": 1e-3}
# ONNX Runtime does not crop where the size stays.
STANDARD = {"sampled"}


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    if not (engine.RUN.is_file() and engine.GRADIENTS.is_file()):
        pytest.fail("no engine: run `cargo build -p secateur-train --examples`")


@pytest.mark.parametrize("name", operators.CASES)
def test_operator(name: str) -> None:
    found = list(engine.compare(list(operators.cases([name]))))
    assert found
    assert not [(case.name, apart) for case, apart in found if not operators.passes(case, apart)]


@pytest.mark.parametrize("name", operators.CASES)
def test_gradients(name: str) -> None:
    """Where a step crosses a kink, the quotient is off by less than a wrong gradient would be."""
    cases = [case for case in operators.cases([name]) if operators.differentiable(case)]
    for case, slopes, _ in engine.gradients(cases):
        assert not isinstance(slopes, str), (case.name, slopes)
        wrong = [slope for slope in operators.slopes_of(case, slopes) if slope.apart() > 4e-2]
        assert not wrong, (case.name, wrong)


def test_gradients_of_pytorch() -> None:
    pairs = list(torchgrads.cases())
    found = engine.gradients([case for case, _ in pairs])
    for (case, function), (_, slopes, gradients) in zip(pairs, found, strict=True):
        assert not isinstance(slopes, str), (case.name, slopes)
        wanted = torchgrads.gradients(function, case.feeds)
        assert wanted
        for name, gradient in wanted.items():
            assert engine.distance(gradients[name], gradient) < 1e-5, (case.name, name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fixture(path: Path) -> None:
    feeds = engine.feeds_for(path)
    case = engine.Case(path.stem, path, feeds, tolerance=TOLERANCES.get(path.stem, 1e-5))
    if path.stem in STANDARD:
        case = case._replace(expected=ReferenceEvaluator(str(path)).run(None, feeds))
    [(_, apart)] = engine.compare([case])
    assert operators.passes(case, apart), apart
