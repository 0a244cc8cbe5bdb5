"""What a module costs."""

from torch import nn

from secateur._secateur import SecateurError
from secateur.pruner import Graph
from secateur.torch_pruning.graph import Inputs, evaluated, first_size, traced_module


def count_ops_and_params(
    model: nn.Module, example_inputs: Inputs, layer_wise: bool = False
) -> tuple[float, int]:
    """Multiply-accumulates of one sample, and parameters.

    Convolutions, matrix products and what is made of them count, activations and norms do not.
    One sample is an index of the first axis of the first input.

    # Raises
    SecateurError: the model does not run on the inputs, or a count per layer is asked for.
    """
    if layer_wise:
        raise SecateurError("counts per layer are not available: `layer_wise` has to be false")
    module, args, kwargs = traced_module(model, example_inputs, None, None)
    with evaluated(model):
        cost = Graph(module, args, kwargs).cost()
    return cost.macs / first_size(example_inputs), count_params(model)


def count_params(module: nn.Module | nn.Parameter) -> int:
    """Numbers in the parameters of a module, or in one parameter."""
    if isinstance(module, nn.Parameter):
        return module.numel()
    return sum(parameter.numel() for parameter in module.parameters())
