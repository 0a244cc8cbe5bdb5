"""Runs a function in a process of its own, within limits of time and memory.

    call(function, argument, limits=Limits(seconds=60, gigabytes=4))

The processes are forked from a server that has imported the heavy packages once. Knows nothing of
models.
"""

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PATIENCE = 4
CONTEXT = multiprocessing.get_context("forkserver")


class Failure(Exception):
    """The function raised, or was stopped; the text is the cause in one line."""


@dataclass(frozen=True)
class Limits:
    """What one process may use."""

    seconds: float = 300  # of CPU time; of a clock's, PATIENCE times as many
    gigabytes: float = 6


def preload(modules: Sequence[str]) -> None:
    """What the server imports, so that no process has to. Before the first call."""
    CONTEXT.set_forkserver_preload(["__main__", *modules])


def call(function: Callable[..., Any], *arguments: object, limits: Limits) -> Any:
    """The function's value. It and its arguments must be picklable."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = CONTEXT.Process(
            target=_main, args=(sender, log, limits, function, arguments), daemon=False
        )
        process.start()
        sender.close()
        try:
            return _value(process, receiver, log, limits)
        finally:
            _stop(process)


def _value(
    process: multiprocessing.process.BaseProcess, receiver: Connection, log: Path, limits: Limits
) -> Any:
    if not receiver.poll(PATIENCE * limits.seconds):
        raise Failure(_late(limits))
    try:
        done, value = receiver.recv()
    except EOFError:
        process.join(10)
        raise Failure(_death(process.exitcode, log, limits)) from None
    if not done:
        raise Failure(value)
    return value


def _late(limits: Limits) -> str:
    return f"took more than {limits.seconds:g} s"


def _death(code: int | None, log: Path, limits: Limits) -> str:
    if code == -signal.SIGXCPU:
        return _late(limits)
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if "bad_alloc" in last or "MemoryError" in last:
        return f"needed more than {limits.gigabytes:g} GB of memory"
    how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
    return f"died of {how}: {last}"[:200]


def _stop(process: multiprocessing.process.BaseProcess) -> None:
    """The process and what it started."""
    if process.pid and process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    process.join()


def _main(
    sender: Connection,
    log: Path,
    limits: Limits,
    function: Callable[..., Any],
    arguments: tuple[object, ...],
) -> None:
    os.setpgid(0, 0)
    size = int(limits.gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limits.seconds), int(limits.seconds) + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _redirect(log)
    try:
        value = (True, function(*arguments))
    except MemoryError:
        value = (False, f"needed more than {limits.gigabytes:g} GB of memory")
    except BaseException as error:  # whatever it is, the caller goes on
        value = (False, _out_of_memory(error, limits) or cause(error))
    sender.send(value)
    sender.close()


def _redirect(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)


def _out_of_memory(error: BaseException, limits: Limits) -> str | None:
    signs = ("bad_alloc", "not enough memory", "allocate memory", "DefaultCPUAllocator")
    if any(sign in str(error) for sign in signs):
        return f"needed more than {limits.gigabytes:g} GB of memory"
    return None


def cause(error: BaseException) -> str:
    """The type and the first line of the error at the root of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text[:200]
