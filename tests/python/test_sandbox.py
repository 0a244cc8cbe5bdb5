"""One bad function never takes the caller down, and its end has a cause."""

import os
import signal

import pytest

import sandbox
from sandbox import Failure, Limits

LIMITS = Limits(seconds=60, gigabytes=4)


def double(number: int) -> int:
    return 2 * number


def fail() -> None:
    try:
        raise KeyError("the root")
    except KeyError as error:
        raise ValueError("the wrapper") from error


def spin() -> None:
    while True:
        pass


def grow() -> int:
    return len(bytearray(5_000_000_000))


def die() -> None:
    os.write(2, b"last words\n")
    os.kill(os.getpid(), signal.SIGABRT)


def test_value_comes_back() -> None:
    assert sandbox.call(double, 21, limits=LIMITS) == 42


@pytest.mark.parametrize(
    ("function", "limits", "cause"),
    [
        (fail, LIMITS, "KeyError: 'the root'"),
        (spin, Limits(seconds=1), "took more than 1 s"),
        (grow, LIMITS, "needed more than 4 GB of memory"),
        (die, LIMITS, "died of SIGABRT: last words"),
    ],
)
def test_failure_has_a_cause(function: object, limits: Limits, cause: str) -> None:
    with pytest.raises(Failure) as caught:
        sandbox.call(function, limits=limits)
    assert str(caught.value) == cause
