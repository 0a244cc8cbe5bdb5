"""How fast a model runs, and in how much memory."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from secateur._secateur import SecateurError
from secateur.torch_pruning.graph import Inputs, evaluated, first_size, traced_module

Run = Callable[[nn.Module, Any], Any]


def measure_latency(
    model: nn.Module,
    example_inputs: Inputs,
    repeat: int = 300,
    warmup: int = 50,
    run_fn: Run | None = None,
) -> tuple[float, float]:
    """Mean and standard deviation of one run, in milliseconds of the wall clock."""
    run = run_fn or _run
    times = []
    with evaluated(model), torch.no_grad():
        for index in range(warmup + repeat):
            _wait()
            start = time.perf_counter()
            run(model, example_inputs)
            _wait()
            if index >= warmup:
                times.append(1e3 * (time.perf_counter() - start))
    found = torch.tensor(times, dtype=torch.float64)
    return found.mean().item(), found.std(correction=min(1, repeat - 1)).item()


def measure_fps(
    model: nn.Module,
    example_inputs: Inputs,
    repeat: int = 300,
    warmup: int = 50,
    run_fn: Run | None = None,
) -> float:
    """Runs per second."""
    mean, _ = measure_latency(model, example_inputs, repeat, warmup, run_fn)
    return 1e3 / mean


def measure_throughput(
    model: nn.Module,
    example_inputs: Inputs,
    repeat: int = 300,
    warmup: int = 50,
    run_fn: Run | None = None,
) -> float:
    """Samples per second. One is an index of the first axis of the first input."""
    return first_size(example_inputs) * measure_fps(model, example_inputs, repeat, warmup, run_fn)


def measure_memory(
    model: nn.Module,
    example_inputs: Inputs,
    device: torch.device | str | int | None = None,
    run_fn: Run | None = None,
) -> int:
    """The most bytes that are taken on the device at once, in one run.

    # Raises
    SecateurError: there is no CUDA device, which is what is measured.
    """
    if not torch.cuda.is_available():
        raise SecateurError("there is no CUDA device, whose memory could be measured")
    torch.cuda.reset_peak_memory_stats(device)
    with evaluated(model), torch.no_grad():
        (run_fn or _run)(model, example_inputs)
    return torch.cuda.max_memory_allocated(device)


def _run(model: nn.Module, inputs: Inputs) -> Any:
    _, args, kwargs = traced_module(model, inputs, None, None)
    return model(*args, **kwargs)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
