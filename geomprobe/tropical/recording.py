"""Write down what a model does to one input, and refuse what is not piecewise linear."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from geomprobe.evidence import Samples, forward
from geomprobe.hooks import canonical_name, quiet
from geomprobe.hooks.selection import unwrap
from geomprobe.tropical.inputs import moves, rows_of
from geomprobe.tropical.limits import NoRegions
from geomprobe.tropical.operations import AFFINE, BENDS, CONSTANT, STANDS_FOR, TRAINING, Bend
from geomprobe.tropical.tape import Kink, Step, Tape

#: The operations of a model on one of some inputs, and the rows of all.
Recorded = tuple[Tape, list[Tensor]]

_SMOOTH = (
    "effective_degree, representation_dimension, persistent_homology, fisher_information and "
    "effective_dimension take any network"
)


def record(model: nn.Module, sample: Any) -> Tape:
    """Run a model on one input and write down its operations.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was.
    sample : tensor, or a tuple, list or dict of tensors
        A batch of one. What is not floating point is a constant.

    Raises
    ------
    ValueError
        An operation that is not continuous and piecewise linear in the input, by name; random
        numbers; statistics of the batch; an output that does not depend on the input.
    TypeError
        An output that is not one tensor.
    """
    model = unwrap(model)
    for name, module in model.named_modules():
        if isinstance(module, _NormBase) and module.running_mean is None:
            raise NoRegions(_told(name, module, "normalizes by the statistics of its batch"))
    leaves, spec = pytree.tree_flatten(sample)
    leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    recorder = _Recorder(model)
    inputs = tuple(recorder.follow(leaf) for leaf in leaves if moves(leaf))
    with quiet(model), torch.no_grad(), recorder:
        output = forward(model, pytree.tree_unflatten(leaves, spec))
    if not isinstance(output, Tensor):
        raise TypeError(
            f"outputs are a {type(output).__name__}, expected one tensor; wrap the model in a "
            "module that returns its logits alone"
        )
    slot = recorder.slot(output)
    if slot is None:
        raise ValueError("the output of the model does not depend on its input")
    widest = max(shape.numel() for shape in recorder.shapes)
    steps = tuple(recorder.steps)
    return Tape(model, sample, steps, inputs, slot, tuple(output.shape[1:]), widest)


def record_on(model: nn.Module, data: Samples) -> Recorded:
    """Run a model on the first of some inputs and write down its operations.

    Returns
    -------
    tape : Tape
    rows : list of Tensor of shape (n, 1, *shape)
        Each tensor of the inputs that moves.

    Raises
    ------
    ValueError, TypeError
        What :func:`record` refuses, a model in which nothing bends, and inputs that do not fit
        together.
    """
    sample, rows = rows_of(data)
    tape = record(model, sample)
    if not tape.kinks:
        raise NoRegions("nothing in the model bends: it is affine, and has one region")
    tape.require_agreement([part[:8] for part in rows])
    return tape, rows


class _Slot:
    """Stands for a data-dependent tensor among the arguments of a step."""

    def __init__(self, index: int) -> None:
        self.index = index


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a pass, however it is called, below modules and autograd."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.shapes: list[torch.Size] = []
        self._names: dict[nn.Module, str] = {m: name for name, m in model.named_modules()}
        self._slots: dict[int, tuple[int, int]] = {}  # By id: slot, and writes to its storage then.
        self._writes: dict[int, int] = {}  # By storage.
        self._alive: list[Tensor] = []  # So that no id is used twice.
        self._calls: dict[str, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds, to wrap this mode in."""
        return False

    def follow(self, tensor: Tensor) -> int:
        """Give a data-dependent tensor a slot of its own."""
        self._alive.append(tensor)
        self.shapes.append(tensor.shape)
        slot = len(self.shapes) - 1
        self._slots[id(tensor)] = slot, self._writes.get(_storage(tensor), 0)
        return slot

    def slot(self, value: Any) -> int | None:
        """Return the slot of a data-dependent tensor; None for anything else."""
        if not isinstance(value, Tensor) or id(value) not in self._slots:
            return None
        slot, writes = self._slots[id(value)]
        if writes != self._writes.get(_storage(value), 0):
            raise self._refusal("reads what was changed in place through another view of it")
        return slot

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = func._schema.name.partition("::")[2]
        if torch.Tag.nondeterministic_seeded in func.tags and operation not in BENDS:
            raise self._refusal(f"draws random numbers ({operation})")
        leaves, spec = pytree.tree_flatten((args, kwargs))
        slots = [self.slot(leaf) for leaf in leaves]
        if all(slot is None for slot in slots) or operation in CONSTANT:
            return func(*args, **kwargs)
        function = STANDS_FOR.get(operation, func)
        writes = func._schema.is_mutable and operation not in STANDS_FOR
        if writes:
            if self.slot(args[0]) is None:
                raise self._refusal(
                    "writes what depends on the input into a tensor that does not; put it together "
                    "by torch.cat or torch.stack"
                )
            operation = operation.removesuffix("_")
            function = getattr(getattr(torch.ops.aten, operation), func._overloadname)
        leaves = [
            leaf if slot is None else _Slot(slot) for leaf, slot in zip(leaves, slots, strict=True)
        ]
        given, _ = pytree.tree_unflatten(leaves, spec)
        bend = self._bend(operation, given)
        result = func(*args, **kwargs)
        made = result if isinstance(result, tuple | list) else (result,)
        if bend is None and not (operation in TRAINING or all(moves(part) for part in made)):
            raise self._refusal(f"applies {operation}, which jumps; {_SMOOTH}")
        if writes:
            storage = _storage(args[0])
            self._writes[storage] = self._writes.get(storage, 0) + 1
        call = _over_rows(function, leaves, spec)
        self.steps.append(
            Step(
                call,
                tuple(slot for slot in slots if slot is not None),
                # Of a maximum with its places, the places are not followed.
                tuple(self.follow(part) if moves(part) else None for part in made),
                None if bend is None else self._kink(operation, bend, call, made[0]),
            )
        )
        return result

    def _bend(self, operation: str, given: tuple[Any, ...]) -> Bend | None:
        """Return how an operation bends, None if it is affine; refuse all others."""
        depend = {i for i, arg in enumerate(given) if _holds_slot(arg)}
        if operation in BENDS:
            bend = BENDS[operation]([None if _holds_slot(arg) else double(arg) for arg in given])
            if bend is None:
                raise self._refusal(f"applies {operation}, which jumps; {_SMOOTH}")
            if bend.windows is None and depend != {0}:
                raise self._refusal(
                    f"applies {operation} with bounds that depend on the input; use torch.maximum "
                    "and torch.minimum"
                )
            # Between infinite bounds it is the identity.
            return bend if bend.windows or bend.thresholds else None
        if operation in TRAINING and given[TRAINING[operation]]:
            raise self._refusal("normalizes by the statistics of its batch")
        if operation not in AFFINE:
            raise self._refusal(
                f"applies {operation}, which is not piecewise linear in the input; {_SMOOTH}"
            )
        if not any(joint is None or depend <= joint for joint in AFFINE[operation]):
            raise self._refusal(
                f"applies {operation} to arguments that depend on the input, and is not linear in "
                f"them together; {_SMOOTH}"
            )
        return None

    def _kink(self, operation: str, bend: Bend, call: Callable[..., Any], output: Tensor) -> Kink:
        name = canonical_name(self._names[self._module()])
        number = self._calls[name] = self._calls.get(name, -1) + 1
        label = f"{name}#{number}" if number else name
        return Kink(label, operation, bend, call, tuple(output.shape))

    def _refusal(self, what: str) -> NoRegions:
        module = self._module()
        return NoRegions(_told(self._names[module], module, what))

    def _module(self) -> nn.Module:
        """Return the innermost module whose forward pass is under way."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            owner: object = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and owner in self._names:
                return owner
            frame = frame.f_back
        return next(iter(self._names))


def _told(name: str, module: nn.Module, what: str) -> str:
    return f"module {canonical_name(name)!r} ({type(module).__name__}) {what}"


def _holds_slot(arg: Any) -> bool:
    return any(isinstance(leaf, _Slot) for leaf in pytree.tree_leaves(arg))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def double(leaf: Any) -> Any:
    """Return a floating-point tensor in double precision, and anything else as it is."""
    return leaf.detach().double() if moves(leaf) else leaf


def _over_rows(function: Any, leaves: list[Any], spec: Any) -> Callable[..., Any]:
    """Return an operation as a function of rows of its data-dependent arguments."""
    constants = [double(leaf) for leaf in leaves]

    def at_one(*given: Tensor) -> Any:
        moving = iter(given)
        filled = [next(moving) if isinstance(leaf, _Slot) else leaf for leaf in constants]
        args, kwargs = pytree.tree_unflatten(filled, spec)
        # Everything stays in double precision.
        kwargs = {key: value for key, value in kwargs.items() if not isinstance(value, torch.dtype)}
        return function(*args, **kwargs)

    return torch.vmap(at_one)
