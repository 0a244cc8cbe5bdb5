"""What a module costs, and how it changed."""

from itertools import zip_longest

from torch import nn

from secateur._secateur import SecateurError
from secateur.pruner import Graph
from secateur.torch_pruning import benchmark
from secateur.torch_pruning.graph import Inputs, first_size, traced

__all__ = ["benchmark", "count_ops_and_params", "count_params", "print_tool"]


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
    cost = traced(Graph, model, example_inputs).cost()
    return cost.macs / first_size(example_inputs), count_params(model)


def count_params(module: nn.Module | nn.Parameter) -> int:
    """Numbers in the parameters of a module, or in one parameter."""
    if isinstance(module, nn.Parameter):
        return module.numel()
    return sum(parameter.numel() for parameter in module.parameters())


class print_tool:
    """Prints a model with the lines that pruning changed: what they were, and what they are."""

    _before: str | None = None

    @staticmethod
    def before_pruning(model: nn.Module) -> None:
        """Notes what a model is before it is pruned."""
        print_tool._before = str(model)

    @staticmethod
    def after_pruning(model: nn.Module, do_print: bool = True) -> str:
        """The model as it is now, beside what was noted.

        # Raises
        SecateurError: nothing was noted.
        """
        if print_tool._before is None:
            raise SecateurError(
                "no model was noted\nhint: call `print_tool.before_pruning(model)` first"
            )
        before, after = print_tool._before.splitlines(), str(model).splitlines()
        pairs = zip_longest(before, after, fillvalue="")
        text = "\n".join(old if old == new else f"{old} => {new.lstrip()}" for old, new in pairs)
        print_tool._before = None
        if do_print:
            print(text)
        return text
