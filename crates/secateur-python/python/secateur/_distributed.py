"""Several processes that train one module: every rank cuts alike.

Under `DistributedDataParallel`, the weights are the same on all ranks, and gradients are after a
backward pass. What was gathered of several passes is averaged; the choice of the first rank is
everybody's. `_sharded` knows the parameters of `fully_shard`.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from secateur import _derived, _sharded
from secateur._modules import tensors
from secateur._secateur import SecateurError

Keeps = Mapping[str, Sequence[int]]
OPTIONS = (
    "device_ids",
    "output_device",
    "dim",
    "broadcast_buffers",
    "find_unused_parameters",
    "gradient_as_bucket_view",
    "static_graph",
    "process_group",
)


KEPT = ("training", "require_backward_grad_sync", "_forward_hooks", "_forward_pre_hooks")
"""What is set of a wrapper after it was made."""


def is_parallel() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def unwrapped(module: nn.Module) -> nn.Module:
    wraps = isinstance(module, (DistributedDataParallel, nn.DataParallel))
    inner = module.module if wraps else module
    if isinstance(inner, torch.jit.ScriptModule):
        raise SecateurError(
            "the code of a `ScriptModule` cannot follow\n"
            "hint: prune the module that it was made of, and script or trace that again"
        )
    _sharded.check(inner)
    return inner


def measurable(module: nn.Module) -> Mapping[str, Tensor]:
    """Parameters and buffers by name, whole, as calls use them: masked, or normalized."""
    _sharded.check(module)
    found = {**tensors(module), **_derived.effective(module)}
    is_sharded = any(map(_sharded.is_sharded, found.values()))
    return _sharded.Wholes(found) if is_sharded else found


def averaged(values: Tensor) -> Tensor:
    """The mean over all ranks."""
    if _sharded.is_sharded(values):
        return _sharded.whole(values)
    if not is_parallel():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def agreed(keeps: Keeps, program: str) -> Keeps:
    """The first rank's choice, once all ranks are known to have traced the same program.

    # Raises
    SecateurError: they have not.
    """
    if not is_parallel():
        return keeps
    own = hashlib.sha256(program.encode()).hexdigest()
    found: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    if len(set(found)) > 1:
        raise SecateurError(
            "the ranks have traced different programs\n"
            "hint: give every rank example inputs of the same shapes"
        )
    chosen = [dict(keeps)]
    dist.broadcast_object_list(chosen, src=0)
    return chosen[0]


@contextlib.contextmanager
def rebuilt(module: nn.Module) -> Iterator[None]:
    """Takes the buckets of `DistributedDataParallel` apart, and puts them together at the end."""
    if not isinstance(module, DistributedDataParallel):
        _sharded.check(module)
        yield
        _sharded.renewed(module)
        return
    known = {
        name: module.__dict__[name] for name in OPTIONS if module.__dict__.get(name) is not None
    }
    limit = module.__dict__.get("bucket_bytes_cap")
    if limit is not None:
        known["bucket_cap_mb"] = limit / 2**20
    inner, before = module.module, dict(module.__dict__)
    # Hooks of the old buckets hold nodes that remember the sizes of gradients.
    module.__dict__.pop("reducer", None)
    module.__dict__.pop("logger", None)
    for parameter in inner.parameters():
        parameter.grad = None if parameter.grad is None else parameter.grad.clone()
    try:
        yield
    finally:
        fresh = DistributedDataParallel(inner, **known)
        module.__dict__.clear()
        module.__dict__.update({**before, **fresh.__dict__})
        for name in KEPT:
            module.__dict__[name] = before[name]
        for hook, state in before.get("_comm_hooks", ()):
            module.register_comm_hook(state, hook)
