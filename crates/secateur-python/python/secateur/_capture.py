"""Traces a module: the ATen calls of one run, as the program that the Rust core reads.

The module runs once on meta tensors, so that nothing is computed and no memory is taken; but for
small ones of integers, such as tokens and masks, of which code asks for numbers. Where it asks for
others, it runs on real ones. Parameters, buffers, modes and the state of the random number
generators are as they were. Knows nothing of groups.
"""

import contextlib
import copy
import functools
import json
import os
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from secateur import _sharded
from secateur._decisions import Decisions, is_known
from secateur._modules import Kind, held, kept, kinds_of, layers, places, tensors
from secateur._secateur import SecateurError
from secateur._shapes import META, WHOLE, like, made
from secateur._spelling import (
    COUNTED,
    NONE,
    SCHEMA,
    SPELLED,
    Operator,
    learned,
    operator,
    spelled_float,
    spelled_input,
    spelled_meta,
    spelled_node,
    spelled_other,
    spelled_tensor,
    stack_trace,
)

CPU = torch.device("cpu")
PLAIN = (Tensor, nn.Parameter)
ATTENTION_LAYER = nn.functional.multi_head_attention_forward
FULL = operator(torch.ops.aten.full.default)
DEVICE = Tensor.device.__get__
CLONE = torch.ops.aten.clone.default
EMPTY = torch.ops.aten.empty.memory_format
INDEX = torch.ops.aten.index.Tensor
UNSAFE_VIEW = torch.ops.aten._unsafe_view.default
SLOT = MemberDescriptorType
LEAVES = (nn.Module, FunctionType, ModuleType, type, str, bytes, range)  # hold no results
SHAPED = frozenset(  # what reads sizes and types of a tensor alone
    getattr(torch.ops.aten, name).default
    for name in ("new_ones", "new_zeros", "new_full", "ones_like", "zeros_like", "full_like")
)
READS = frozenset((Tensor.tolist, Tensor.numpy, Tensor.__array__))
READ = learned("secateur.read.default")
CACHES = ("past_key_values", "cache_params")
INNER = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")


class Call(NamedTuple):
    """One ATen call: where it stands in the model's code, and the modules that it is made in."""

    line: str
    modules: tuple[nn.Module, ...]


@dataclass
class Trace:
    """The calls of one run."""

    text: str  # the program, in the JSON of a `.pt2` file
    calls: list[Call]
    dropouts: list[tuple[nn.Module, int]]  # and the elements that they are given
    kinds: dict[str, Kind]  # of all that the module stores
    meta: bool = True  # whether it ran on tensors without memory, but for integers
    decisions: Decisions | None = None  # of a run on real tensors


class StoppedError(SecateurError):
    """The module's code does not run: the line where it stopped, and what it did until then."""

    def __init__(self, text: str, line: str = "", program: str = "") -> None:
        super().__init__(text)
        self.line = line
        self.program = program


@dataclass
class _Recorder(TorchDispatchMode):
    """Notes every ATen call on tensors that come from the module or its inputs."""

    names: dict[int, str]
    kept: list[Tensor]  # so that no identity is used twice
    modules: list[nn.Module]
    meta: bool
    decisions: Decisions | None  # made in this run, or in one before, if there was one
    device: torch.device | None  # where tensors without memory claim to be, so that code goes there
    nodes: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    copies: dict[int, Tensor] = field(default_factory=dict)  # of real tensors, without memory
    copied: dict[int, str] = field(default_factory=dict)  # what these were named then
    dropouts: list[tuple[nn.Module, int]] = field(default_factory=list)
    cloned: tuple[Tensor, Tensor] | None = None  # by the last call, and what it made
    counted: set[str] = field(default_factory=set)  # tensors whose sizes data decide
    counting: list[int] = field(default_factory=list)  # the calls that make them
    outside: dict[str, None] = field(default_factory=dict)  # the other tensors that these read
    made: dict[int, Callable[[], Any]] = field(default_factory=dict)  # how, of sizes alone
    stopped: Exception | None = None  # what code that asked for numbers may have caught

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        op = operator(func)
        args, kwargs, out = self._run(op, args, dict(kwargs) if kwargs else {})
        self._note(op, args, kwargs, out)
        return out

    def _run(
        self, op: "Operator", args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """What an operator makes, and of what: integers meet tensors without memory as such."""
        func = op.func
        tensors = _tensors(args)
        if kwargs:
            tensors += _tensors(kwargs.values())
        if self.meta and not tensors and op.makes:
            out = _new(func, args, kwargs)
            if self.decisions is not None:
                self._note_made(op, args, kwargs, tensors, out)
                out = self._decided(op, args, tensors, out)
            return args, kwargs, out
        unknown = [tensor.is_meta for tensor in tensors] if self.meta else []
        if True not in unknown:
            if kwargs:
                self._place(kwargs, CPU)
            out = func(*args, **kwargs)
            if self.decisions is not None:
                out = self._decided(op, args, tensors, out)
            return args, kwargs, out
        mixed = args
        if False in unknown:
            if op.mutable and id(args[0]) in self.names and not args[0].is_meta:
                return args, kwargs, self._written(op, args, tensors)
            if func is INDEX:
                mixed = (args[0], _positions(args[1]))
            args, kwargs = pytree.tree_map_only(Tensor, self._copy, (args, kwargs))
        if kwargs:
            self._place(kwargs, META)
        error = None
        try:
            out = made(func, args, kwargs)
            out = func(*args, **kwargs) if out is None else out
        except Exception as stopped:
            try:
                out = func(*mixed, **kwargs)  # some need known numbers, as of positions and lengths
            except Exception:
                out, error = None, stopped
        if self.decisions is None:
            if error:
                self.stopped = error
                raise error
            return args, kwargs, out
        if self._is_made(op, tensors) and (error or _decides(op, args, _results(out))):
            with contextlib.suppress(Exception):
                known = self._run_made(func, args, kwargs)
                return args, kwargs, self._decided(op, args, tensors, known)
        self._note_made(op, args, kwargs, tensors, out)
        return args, kwargs, self._decided(op, args, tensors, out, error)

    def _is_made(self, op: "Operator", tensors: Sequence[Tensor]) -> bool:
        """Whether a call is given what code makes of sizes, and of numbers that are known."""
        if op.mutable or op.random:
            return False
        return op.func in SHAPED or all(not one.is_meta or id(one) in self.made for one in tensors)

    def _made_args(self, args: Any) -> Any:
        """Arguments with their numbers: those that code makes of sizes."""

        def number(tensor: Tensor) -> Tensor:
            if not tensor.is_meta:
                return tensor
            make = self.made.get(id(tensor))
            return make() if make else torch.empty_like(tensor, device=CPU)

        made = pytree.tree_map_only(Tensor, number, args)
        if isinstance(made, dict) and made.get("device") in (META, self.device):
            made["device"] = CPU
        return made

    def _note_made(
        self,
        op: "Operator",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: Sequence[Tensor],
        out: Any,
    ) -> None:
        """Notes how numbers are made that no data decide, in case code asks for them."""
        if op.mutable:
            self.made.clear()  # what was written may be seen through any of them
        elif self._is_made(op, tensors):
            run = functools.partial(self._run_made, op.func, args, dict(kwargs))
            for index, result in enumerate(_results(out)):
                if isinstance(result, Tensor) and result.is_meta:
                    self.kept.append(result)
                    self.made[id(result)] = functools.partial(_nth, run, index)

    def _run_made(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*self._made_args(args), **self._made_args(kwargs))

    def _place(self, kwargs: dict[str, Any], device: torch.device) -> None:
        """Has a result lie where the tensors that it is made of do."""
        asked = kwargs.get("device")
        if self.meta and asked is not None and asked in (META, self.device):
            kwargs["device"] = device

    def _decided(
        self,
        op: "Operator",
        args: tuple[Any, ...],
        tensors: Sequence[Tensor],
        out: Any,
        error: Exception | None = None,
    ) -> Any:
        """What an operator makes: numbers and sizes that data decide are noted or recalled."""
        results = _results(out)
        if not error and not _decides(op, args, results):
            return out
        place = op.head, _line()[0]
        given = [tensor.shape for tensor in tensors]
        if not self.meta:
            self.decisions.note(place, given, results)
            return out
        decision = self.decisions.next(place)
        if decision is None or op.mutable:
            recalled = None
        else:
            recalled = decision.recalled(given, None if error or op.random else results)
        if recalled is None:
            if error:
                raise error
            return out
        return recalled if isinstance(out, tuple) or len(recalled) > 1 else recalled[0]

    def _written(self, op: "Operator", args: tuple[Any, ...], tensors: Sequence[Tensor]) -> Tensor:
        """Known numbers into which unknown ones are written: those of the run before."""
        place = op.head, _line()[0]
        decision = self.decisions.next(place) if self.decisions else None
        given = [tensor.shape for tensor in tensors]
        recalled = decision.recalled(given, None) if decision else None
        if recalled is None or not isinstance(recalled[0], Tensor) or recalled[0].is_meta:
            raise SecateurError("unknown numbers are written into known ones")
        return args[0].copy_(recalled[0])

    def _copy(self, tensor: Tensor) -> Tensor:
        """The same without memory, under the same name."""
        if tensor.is_meta:
            return tensor
        key, name = id(tensor), self.names.get(id(tensor))
        if key not in self.copies:
            self.copies[key] = like(tensor)
            self.kept += [tensor, self.copies[key]]
        if name is not None and self.copied.get(key) != name:
            self.names[id(self.copies[key])] = self.copied[key] = name
        return self.copies[key]

    def read(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Numbers that leave PyTorch: what becomes of them is not seen, and so they stay whole."""
        place, given = (READ.head, _line()[0]), [tensor.shape]
        if tensor.is_meta:
            decision = self.decisions.next(place)
            if decision is None or decision.given != given:
                raise SecateurError("numbers are read of a tensor that was cut")
            out = copy.deepcopy(decision.results[0])
        else:
            out = func(tensor, *args, **kwargs)
            if self.meta:
                self.decisions.next(place)
            else:
                self.decisions.note(place, given, [copy.deepcopy(out)])
        self._push(READ, [spelled_input("self", spelled_tensor(self.name(tensor)))], ())
        return out

    def whole(
        self,
        func: Any,
        rule: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Tensor | None:
        """What a function makes of values of the run, noted as one call, where that is known."""
        tensors = _tensors((*args, *kwargs.values()))
        op = operator(func)
        given = {name: value for name, value in kwargs.items() if value is not None}
        if not self.meta or not given.keys() <= set(op.arguments):
            return None
        if not all(id(tensor) in self.names and type(tensor) in PLAIN for tensor in tensors):
            return None
        unknown = [tensor.is_meta for tensor in tensors]
        if True not in unknown:
            return None
        with no_dispatch():
            out = rule(*args, **given)
            if out is not None and False in unknown:
                args, given = pytree.tree_map_only(Tensor, self._copy, (args, given))
        if out is not None:
            self._note(op, args, given, out)
        return out

    def _note(
        self, op: "Operator", args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        results = _results(out)
        if not op.named or not _tensors(results):
            return
        if op.func is EMPTY and not out.numel():  # that layers make and leave
            return
        cloned, self.cloned = self.cloned, None
        if op.func is UNSAFE_VIEW and cloned is not None and args[0] is cloned[1]:
            op, args = self._reshape(cloned[0], args)
        inputs = [
            spelled_input(name, self._argument(value))
            for name, value in zip(op.arguments, args, strict=False)
        ]
        inputs += [spelled_input(name, self._argument(value)) for name, value in kwargs.items()]
        counted = self._is_counted(op, args, kwargs)
        self._push(op, inputs, [self._output(value, counted=counted) for value in results])
        if op.func is CLONE:
            self.cloned = args[0], out

    def _push(self, op: "Operator", inputs: Sequence[str], outputs: Sequence[str]) -> None:
        line, quoted = _line()
        self.nodes.append(spelled_node(op, inputs, outputs, quoted, len(self.nodes)))
        self.calls.append(Call(line, tuple(self.modules)))

    def _reshape(self, data: Tensor, args: tuple[Any, ...]) -> tuple["Operator", tuple[Any, ...]]:
        """A reshape that has to copy, which sizes of 1 decide, is one call as any other is."""
        self.nodes.pop()
        self.calls.pop()
        self.counted.discard(self.values.popitem()[0])
        if self.counting[-1:] == [len(self.nodes)]:
            self.counting.pop()
        return operator(torch.ops.aten.view_copy.default), (data, *args[1:])

    def _is_counted(self, op: "Operator", args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether data decide on sizes in a call, or on the code that makes it."""
        counts = _counts(op, args)
        if not counts and not self.counted:
            return False
        read = dict.fromkeys(map(self.name, (*_tensors(args), *_tensors(kwargs.values()))))
        if not counts and read and self.counted.isdisjoint(read):
            return False
        self.counting.append(len(self.nodes))
        self.outside.update(dict.fromkeys(name for name in read if name not in self.counted))
        return True

    def join_counted(self, stored: Set[str]) -> None:
        """Makes one call, without results, of those in which data decide on sizes.

        Of other data, the code may make other calls. Those that read what is stored are left.
        """
        if not self.counting or not stored.isdisjoint(self.outside):
            self.counted.clear()
            return
        joined = set(self.counting)
        call = self.calls[self.counting[0]]
        inputs = [spelled_input(name, spelled_tensor(name)) for name in self.outside]
        self.nodes = [node for index, node in enumerate(self.nodes) if index not in joined]
        self.calls = [made for index, made in enumerate(self.calls) if index not in joined]
        quoted = stack_trace(call.line)
        self.nodes.append(spelled_node(COUNTED, inputs, (), quoted, len(self.nodes)))
        self.calls.append(call)

    def _output(self, value: object, *, counted: bool) -> str:
        if isinstance(value, Tensor):
            return spelled_tensor(self.define(value, counted=counted))
        if isinstance(value, (list, tuple)):
            names = ",".join(f'{{"name":"{self.define(one, counted=counted)}"}}' for one in value)
            return f'{{"as_tensors":[{names}]}}'
        return NONE

    def define(self, tensor: Tensor, *, counted: bool = False) -> str:
        """A new name, also for a tensor that was written in place.

        Counted tensors are numbered on their own: there may be others another time.
        """
        others = len(self.counted)
        name = f"c{others}" if counted else f"v{len(self.values) - others}"
        if counted:
            self.counted.add(name)
        self.names[id(tensor)] = name
        self.kept.append(tensor)
        self.values[name] = spelled_meta(tensor)
        return name

    def name(self, tensor: Tensor) -> str:
        known = self.names.get(id(tensor))
        if known is None:
            known = self.define(tensor, counted=bool(self.counted))
            if tensor.numel() == 1 and not tensor.is_meta and not tensor.is_complex():
                self._note_number(tensor, known)
            else:
                self.constants.append(known)
        return known

    def _note_number(self, tensor: Tensor, name: str) -> None:
        """A number in a tensor, spelled, as code may make it of sizes."""
        with no_dispatch():
            arguments = (self._list(list(tensor.shape)), self._argument(tensor.item()))
        inputs = [
            spelled_input(*pair) for pair in zip(("size", "fill_value"), arguments, strict=True)
        ]
        self._push(FULL, inputs, [spelled_tensor(name)])

    def _argument(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return spelled_tensor(self.name(value))
        spell = SPELLED.get(type(value))
        if spell is not None:
            return spell(value)
        return self._list(value) if isinstance(value, (list, tuple)) else spelled_other(value)

    def _list(self, values: Sequence[Any]) -> str:
        kinds = set(map(type, values))
        if kinds <= {int, bool}:
            return f'{{"as_ints":[{",".join(str(int(value)) for value in values)}]}}'
        if kinds <= {int, bool, float}:
            return f'{{"as_floats":[{",".join(spelled_float(float(value)) for value in values)}]}}'
        if any(issubclass(kind, Tensor) for kind in kinds):
            optional = (
                NONE if value is None else spelled_tensor(self.name(value)) for value in values
            )
            return f'{{"as_optional_tensors":[{",".join(optional)}]}}'
        return spelled_other(values)


class _Whole(TorchFunctionMode):
    """Notes functions that PyTorch takes apart into many calls as the operators that they are."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.inside = False  # whether an attention layer is running

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if self.recorder.device and func == DEVICE:
            return self.recorder.device
        if func is Tensor.new_tensor and args[0].is_meta:  # the numbers that it is given stay known
            given = {"dtype": args[0].dtype, **given, "device": CPU}
            return torch.tensor(*args[1:], **given)
        if func in READS and self.recorder.decisions is not None:
            return self.recorder.read(func, *args, **given)
        if func in WHOLE:
            if func is torch.einsum and len(args) > 1 and isinstance(args[1], Tensor):
                args = (args[0], args[1:])
            out = self.recorder.whole(*WHOLE[func], args, given)
            if out is not None:
                return out
        if func is ATTENTION_LAYER and not self.inside:
            self.inside = True
            try:
                with self:
                    return _unasking(func)(*args, **given)
            finally:
                self.inside = False
        return func(*args, **given)


def _unasking(func: FunctionType) -> FunctionType:
    """A function that does not ask whether a mode takes its place, and so runs under one."""
    names = {**func.__globals__, "has_torch_function": lambda _: False}
    made = FunctionType(func.__code__, names, func.__name__, func.__defaults__)
    made.__kwdefaults__ = func.__kwdefaults__
    return made


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


def _new(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tensor that the code makes: integers are real."""
    placed = {**kwargs, "device": META}
    out = made(func, args, placed)
    out = func(*args, **placed) if out is None else out
    return func(*args, **{**kwargs, "device": CPU}) if is_known(out) else out


def _decides(op: "Operator", args: tuple[Any, ...], results: Sequence[Any]) -> bool:
    """Whether code may read the results, or data decide on their sizes."""
    return _counts(op, args) or any(
        is_known(one) if isinstance(one, Tensor) else one is not None for one in results
    )


def _results(out: Any) -> tuple[Any, ...]:
    return out if isinstance(out, tuple) else (out,)


def _nth(run: Callable[[], Any], index: int) -> Any:
    return _results(run())[index]


def _counts(op: "Operator", args: tuple[Any, ...]) -> bool:
    return op.counts or (op.func is INDEX and _has_mask(args[1]))


def _positions(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Masks whose numbers are known as the positions that they pick."""
    found: list[Tensor | None] = []
    for index in indices:
        is_mask = index is not None and index.dtype == torch.bool and not index.is_meta
        found += index.nonzero(as_tuple=True) if is_mask else (index,)
    return found


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among the arguments or results of an operator, in lists as well."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _line() -> tuple[str, str]:
    """The innermost line of code that is neither PyTorch's nor ours, also as nodes have it."""
    frame: FrameType | None = sys._getframe(3)
    while frame and frame.f_code.co_filename.startswith(INNER):
        frame = frame.f_back
    if frame is None:
        return "", stack_trace("")
    return _spelled_line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


@functools.lru_cache(maxsize=4096)
def _spelled_line(file: str, number: int, function: str) -> tuple[str, str]:
    line = f"{file}:{number}, in {function}"
    return line, stack_trace(line)


def trace(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    like: Trace | None = None,
) -> Trace:
    """Runs the module once and notes its calls: on tensors without memory, if its code allows.

    Else on real ones, and then again on such that data decide as they did. As `like`, if given: a
    trace of the module before it was cut.

    # Raises
    StoppedError: the module does not run on these inputs.
    """
    try:
        if like:
            return _trace(module, args, kwargs, meta=like.meta, decisions=like.decisions)
        try:
            return _trace(module, args, kwargs, meta=True)
        except Exception:  # code that asks for numbers raises anything on meta tensors
            pass
        real = _trace(module, args, kwargs, meta=False, decisions=Decisions())
        try:
            return _trace(module, args, kwargs, meta=True, decisions=real.decisions)
        except Exception:
            return real
    except StoppedError:
        raise
    except Exception as error:
        raise _stopped(error) from error


def _stopped(error: Exception, program: str = "") -> StoppedError:
    return StoppedError(
        f"the module does not run on the example inputs: {error}\n"
        "hint: give `args` (and `kwargs`) with which `module(*args, **kwargs)` runs",
        line_of(error),
        program,
    )


def line_of(error: Exception) -> str:
    """The innermost line of code that is neither PyTorch's nor ours and led to an error."""
    line = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if not code.co_filename.startswith(INNER):
            line = _spelled_line(code.co_filename, number, code.co_name)[0]
    return line


def _trace(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    meta: bool,
    decisions: Decisions | None = None,
) -> Trace:
    originals = tensors(module)
    keys = {id(tensor): name for name, tensor in originals.items()}
    stored = {name: _stand_in(tensor, meta=meta) for name, tensor in originals.items()}
    # What is given twice is one tensor, as code may ask whether it is.
    once = functools.cache(lambda tensor: _stand_in(tensor, meta=meta))
    given = pytree.tree_map_only(Tensor, once, (tuple(args), kwargs))
    modules: list[nn.Module] = []
    again = Decisions(decisions) if decisions and meta else decisions
    place = next((one.device for one in originals.values()), CPU) if again and meta else None
    recorder = _Recorder({}, [], modules, meta, again, place)
    parameters = {name: recorder.define(tensor) for name, tensor in stored.items()}
    specs = [
        f'{{"{kind}":{{"arg":{{"name":"{value}"}},"{kind}_name":{json.dumps(name)}}}}}'
        for name, value in parameters.items()
        for kind in ("parameter" if isinstance(originals[name], nn.Parameter) else "buffer",)
    ]
    specs += [
        f'{{"user_input":{{"arg":{spelled_tensor(recorder.define(leaf))}}}}}'
        for leaf in pytree.tree_leaves(given)
        if isinstance(leaf, Tensor) and id(leaf) not in recorder.names
    ]
    recurrent = not meta and any(isinstance(layer, nn.RNNBase) for _, layer in layers(module))
    try:
        with (
            _quiet(),
            _without_onednn() if recurrent else contextlib.nullcontext(),
            kept(module),
            _sharded.resting(module),
            _entered(modules, recorder),
            torch.no_grad(),
            recorder,
            _Whole(recorder),
        ):
            stand_ins = {n: stored[keys[id(tensor)]] for n, tensor in places(module).items()}
            for _, layer in layers(module):
                layer.__dict__.update((n, stored[keys[id(one)]]) for n, one in held(layer))
            out = torch.func.functional_call(
                module, stand_ins, given[0], dict(given[1]), tie_weights=False
            )
        if meta and not decisions and recorder.stopped:
            raise recorder.stopped
    except Exception as error:
        raise _stopped(error, _program(recorder, specs, None)) from error
    if next(returned_tensors(out), None) is None:
        raise StoppedError(
            "the module returns no tensor: what of it is used outside is not known\n"
            "hint: return from `forward` what is read of it"
        )
    recorder.join_counted(set(parameters.values()))
    program = _program(recorder, specs, out)
    return Trace(program, recorder.calls, recorder.dropouts, kinds_of(originals), meta, decisions)


def _stand_in(tensor: Tensor, *, meta: bool) -> Tensor:
    """A tensor of the same sizes without memory, or a copy that may be written."""
    with torch.no_grad():
        if not meta:
            made = _sharded.whole(tensor).detach().clone()
        elif is_known(tensor):
            made = _sharded.whole(tensor).detach().to(CPU, copy=True)
        elif tensor.layout == torch.strided:
            made = like(tensor)
        else:
            made = tensor.detach().to("meta")
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def returned_tensors(out: object) -> Iterator[Tensor]:
    """The tensors in what a module returns: also in objects that PyTorch does not look into.

    But for the caches of transformers, which are given back to the module alone.
    """
    seen: set[int] = set()
    waiting = [out]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, LEAVES):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        else:
            kinds = (vars(kind).items() for kind in type(value).__mro__)
            members = (name for kind in kinds for name, one in kind if type(one) is SLOT)
            inside = [getattr(value, name, None) for name in ("__dict__", *members)]
            if isinstance(value, Mapping):
                inside += (one for key, one in value.items() if key not in CACHES)
            elif isinstance(value, (Sequence, Set)):
                inside += value
            waiting += reversed(inside)


def _program(recorder: _Recorder, specs: Sequence[str], out: object) -> str:
    constants = [
        f'{{"tensor_constant":{{"arg":{{"name":"{name}"}}}}}}' for name in recorder.constants
    ]
    returned = (recorder.names.get(id(tensor)) for tensor in returned_tensors(out))
    outputs = [spelled_tensor(name) for name in returned if name not in {None, *recorder.counted}]
    values = ",".join(f'"{name}":{meta}' for name, meta in recorder.values.items())
    specified = ",".join(f'{{"user_output":{{"arg":{output}}}}}' for output in outputs)
    return (
        f'{{"graph_module":{{"graph":{{"inputs":[],"outputs":[{",".join(outputs)}],'
        f'"nodes":[{",".join(recorder.nodes)}],'
        f'"tensor_values":{{{values}}},"sym_int_values":{{}}}},'
        f'"signature":{{"input_specs":[{",".join([*specs, *constants])}],'
        f'"output_specs":[{specified}]}}}},'
        f'"schema_version":{json.dumps(SCHEMA)},"torch_version":{json.dumps(torch.__version__)}}}'
    )


@contextlib.contextmanager
def _entered(modules: list[nn.Module], recorder: _Recorder) -> Iterator[None]:
    """Keeps the stack of modules that are running, and notes what dropouts are given."""

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        modules.append(module)
        is_dropout = isinstance(module, nn.modules.dropout._DropoutNd)
        if is_dropout and args and id(args[0]) in recorder.names:
            recorder.dropouts.append((module, args[0].numel()))

    def leave(_module: nn.Module, _args: object, _out: object) -> None:
        if modules:
            modules.pop()

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Recurrent layers as they are, for which oneDNN has operators of its own."""

    def switch(*flags: Any) -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of graphics cards that PyTorch was built without
            return torch.backends.mkldnn.set_flags(*flags)

    before = switch(False)
    try:
        yield
    finally:
        switch(*before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Random numbers that are drawn meanwhile are drawn again later; no fused encoder layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    numpy = sys.modules.get("numpy")
    drawn = [(random.setstate, random.getstate()), (torch.set_rng_state, torch.get_rng_state())]
    if numpy:
        drawn.append((numpy.random.set_state, numpy.random.get_state()))
    if torch.cuda.is_initialized():
        drawn.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for put, state in drawn:
            put(state)
