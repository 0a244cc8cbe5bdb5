"""Parameters that `fully_shard` (FSDP2) spreads over processes: gathered, cut, and spread again.

Every rank gathers one parameter at a time, does with it what all others do, and keeps its shard.
Parameters keep their identity. PyTorch has no public way to give a sharded parameter another
size: what this touches of `FSDPParam` is in `_renew`.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from secateur._secateur import SecateurError

HOOKS = ("_forward_pre_hooks", "_forward_hooks")
PACKAGE = "torch.distributed.fsdp"
TENSORS = "torch.distributed.tensor"
KNOWN = (
    "sharded_param",
    "fsdp_placement",
    "mesh_info",
    "mp_policy",
    "_orig_size",
    "_orig_param_uid",
)
HINT = "\nhint: prune before the module is sharded"


class Wholes(Mapping[str, Tensor]):
    """Tensors and their gradients, gathered when they are asked for."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        if not is_sharded(tensor):
            return tensor
        made = whole(tensor)
        made.grad = None if tensor.grad is None else whole(tensor.grad)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is spread over processes; does not load what no one else did."""
    loaded = sys.modules.get(TENSORS)
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. A collective call, where it is sharded."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded as another one is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def set_data(tensor: Tensor, data: Tensor) -> None:
    """Gives a tensor other data; it stays the object that optimizers know."""
    if is_sharded(tensor):
        fresh = nn.Parameter(data, requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, fresh)
        return
    if tensor.requires_grad and tensor.is_leaf:
        # Losses of before keep alive what adds up gradients, and that knows the sizes of then:
        # autograd makes it anew where elements become of another type.
        other = torch.float16 if data.dtype != torch.float16 else torch.float32
        tensor.data = torch.empty(0, dtype=other, device=data.device)
    tensor.data = data


def check(module: nn.Module) -> None:
    """Whether parameters that are sharded can be cut; what a forward pass gathered is let go.

    # Raises
    SecateurError: they cannot.
    """
    if not _is_joined() or not any(map(_is_spread, module.modules())):
        return
    known = set()
    for layer in _layers(module):
        layer.reshard()
    for record in _records(module):
        if not all(hasattr(record, name) for name in KNOWN):
            raise SecateurError(f"`fully_shard` of PyTorch {torch.__version__} is not known{HINT}")
        known.add(id(record.sharded_param))
        several = record.sharded_param.device_mesh.ndim != 1
        if several or record.fsdp_placement.dim != 0 or record.offload_to_cpu:
            raise SecateurError(
                "a parameter is sharded over a mesh of several dimensions, along another axis than "
                f"the first, or kept in the memory of the host{HINT}"
            )
        if record.unsharded_accumulated_grad is not None:
            raise SecateurError(
                "gradients are not reduced yet\n"
                "hint: prune after a backward pass with `set_requires_gradient_sync(True)`"
            )
    for name, parameter in module.named_parameters():
        if is_sharded(parameter) and id(parameter) not in known:
            raise SecateurError(f"`{name}` is sharded by something else than `fully_shard`{HINT}")
    for layer in module.modules():
        if isinstance(layer, sys.modules[PACKAGE].FullyShardedDataParallel):
            raise SecateurError(f"`FullyShardedDataParallel` flattens parameters{HINT}")


def _is_joined() -> bool:
    """Whether there are processes over which something can be spread."""
    return dist.is_available() and dist.is_initialized()


def _is_spread(layer: nn.Module) -> bool:
    loaded = sys.modules.get(PACKAGE)
    kinds = (loaded.FSDPModule, loaded.FullyShardedDataParallel) if loaded else ()
    return isinstance(layer, kinds) or any(map(is_sharded, layer._parameters.values()))


@contextlib.contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """Keeps the module's hooks from gathering parameters."""
    layers = _layers(module)
    before = [(layer, name, getattr(layer, name)) for layer in layers for name in HOOKS]
    for layer, name, hooks in before:
        kept = ((key, hook) for key, hook in hooks.items() if not _is_fsdp(hook))
        setattr(layer, name, type(hooks)(kept))
    try:
        yield
    finally:
        for layer, name, hooks in before:
            setattr(layer, name, hooks)


def renewed(module: nn.Module) -> None:
    """What FSDP notes of parameters follows their sizes."""
    for record in _records(module):
        if record.sharded_param.shape != record._orig_size:
            _renew(record)


def _renew(record: Any) -> None:
    """As `fully_shard` begins, with the parameter that optimizers know."""
    parameter = record.sharded_param
    gradient, parameter.grad = parameter.grad, None
    known = record._orig_param_uid
    full = nn.Parameter(whole(parameter), requires_grad=parameter.requires_grad)
    placement = record.fsdp_placement
    record._init_sharded_param(full, record.device, lambda _: placement, record.mesh_info)
    torch.utils.swap_tensors(parameter, record.sharded_param)
    record.sharded_param = parameter
    record._setattr_on_modules(parameter)
    record._orig_param_uid = known
    parameter.grad = gradient
    record.init_dtype_attrs(record.mp_policy)
    if record.post_forward_mesh_info:
        record._init_sharded_post_forward_param_metadata(full)
    record.all_gather_outputs = []
    record.__dict__.pop("_unsharded_param", None)


def _layers(module: nn.Module) -> list[nn.Module]:
    loaded = sys.modules.get(PACKAGE)
    if loaded is None or not _is_joined():
        return []
    return [layer for layer in module.modules() if isinstance(layer, loaded.FSDPModule)]


def _records(module: nn.Module) -> Iterator[Any]:
    """What FSDP notes of every parameter."""
    seen = set()
    for layer in _layers(module):
        state = layer._get_fsdp_state()
        several = hasattr(state, "_fsdp_param_groups")  # of newer versions
        for group in state._fsdp_param_groups if several else (state._fsdp_param_group,):
            if group is not None and id(group) not in seen:
                seen.add(id(group))
                yield from group.fsdp_params


def _is_fsdp(hook: Any) -> bool:
    return getattr(hook, "__module__", "").startswith(PACKAGE)
