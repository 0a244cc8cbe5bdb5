from pathlib import Path

import pytest

import tool


@pytest.fixture(scope="session")
def binary() -> Path:
    return tool.find()
