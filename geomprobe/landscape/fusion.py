"""A model for passes at many parameters: a convolution and what follows it as one step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples, forward
from geomprobe.jacobians import Parameters, row_epsilon
from geomprobe.landscape.copies import copied

_CONVOLUTIONS: Mapping[type, Callable[..., Tensor]] = {
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.Conv3d: functional.conv3d,
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (functional.relu, torch.relu, torch.relu_, "relu", "relu_")


class Fused:
    """A model whose convolutions take in the batch norm, the addition and the ReLU that follow.

    Batch norm in evaluation mode is an affine map of each channel: it is multiplied into the
    filters once for all samples, so that it costs nothing a sample. Made by :func:`fuse`.
    """

    def __init__(self, model: nn.Module, parameters: Parameters, last: bool) -> None:
        from torch import fx

        model = copied(model)  # What its code keeps while traced is no tensor.
        self._names = {model.get_parameter(name): name for name in parameters}
        self._last = last
        self._graph = fx.symbolic_trace(model)
        self._steps: list[_Step] = []
        modules = dict(self._graph.named_modules(remove_duplicate=False))
        for node in list(self._graph.graph.nodes):
            if node.op == "call_module" and _plain_convolution(modules[node.target], node):
                self._replace(node, modules)
        self._graph.delete_all_unused_submodules()
        self._graph.graph.lint()
        self._graph.recompile()
        left = dict(self._graph.named_parameters())
        self._left = [name for name in parameters if name in left]
        self._values: Parameters = {}

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def route(self) -> str:
        """What is done."""
        layout = ", channels last" if self._last else ""
        return f"with {len(self)} fused convolution{'s' * (len(self) > 1)}{layout}"

    def move_to(self, values: Parameters) -> None:
        """Take other parameters."""

        def current(tensor: Tensor) -> Tensor:
            name = self._names.get(tensor)  # type: ignore[call-overload]
            return tensor if name is None else values[name]

        for step in self._steps:
            step.fold(current, self._last)
        self._values = {name: values[name] for name in self._left}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of the model."""
        if self._last:
            args, kwargs = pytree.tree_map(_channels_last, (args, kwargs))
        return functional_call(self._graph, self._values, args, kwargs)

    def _replace(self, node: Any, modules: dict[str, nn.Module]) -> None:
        end, norm, rectified = node, None, False
        added: tuple[Any, ...] = ()
        user = _only_user(end)
        if user is not None and user.op == "call_module" and _frozen_norm(modules[user.target]):
            norm, end = modules[user.target], user
        user = _only_user(end)
        if user is not None and user.target in _ADDITIONS and not user.kwargs:
            others = [one for one in user.args if one is not end]
            if len(others) == 1 and hasattr(others[0], "op"):
                added, end = (others[0],), user
        user = _only_user(end)
        if user is not None and _rectifies(user, modules):
            rectified, end = True, user
        step = _Step(modules[node.target], norm, rectified)
        name = f"_fused_{len(self._steps)}"
        self._steps.append(step)
        self._graph.add_submodule(name, step)
        modules[name] = step
        with self._graph.graph.inserting_after(end):
            made = self._graph.graph.call_module(name, (node.args[0], *added))
        end.replace_all_uses_with(made)
        while end is not node:
            before = next(one for one in end.all_input_nodes if one not in added)
            self._graph.graph.erase_node(end)
            end = before
        self._graph.graph.erase_node(node)


class _Step(nn.Module):
    """A convolution, the norm folded into it, something added, and a ReLU, in place."""

    def __init__(self, convolution: Any, norm: Any, rectified: bool) -> None:
        super().__init__()
        self._parts = (convolution, norm)  # Not as modules, which would double their parameters.
        self._rectified = rectified
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def fold(self, current: Callable[[Tensor], Tensor], last: bool) -> None:
        """Take the present values of the parameters."""
        convolution, norm = self._parts
        weight = current(convolution.weight)
        bias = None if convolution.bias is None else current(convolution.bias)
        if norm is not None:
            scale = torch.rsqrt(norm.running_var + norm.eps)
            if norm.weight is not None:
                scale = scale * current(norm.weight)
            shift = -scale * norm.running_mean
            if norm.bias is not None:
                shift = shift + current(norm.bias)
            bias = shift if bias is None else shift + scale * bias
            weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        self._weight = _channels_last(weight) if last else weight
        self._bias = bias

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Convolve."""
        convolution, _ = self._parts
        made = _CONVOLUTIONS[type(convolution)](
            x,
            self._weight,
            self._bias,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
        )
        if added is not None:
            made += added
        return made.relu_() if self._rectified else made


def fuse(model: nn.Module, batch: Samples, parameters: Parameters) -> Fused | None:
    """Return a faster way to a model's outputs, if there is one that gives the same.

    Outputs on a batch are compared at the present parameters and at others, to a tenth of half of
    their digits.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, without gradients.
    batch : Samples
        Inputs to compare the outputs on.
    parameters : dict
        The trainable parameters.

    Returns
    -------
    Fused or None
        None where the model cannot be traced, has hooks, has nothing to fuse, or gives something
        else than a tensor.
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    if any(getattr(module, kind) for module in model.modules() for kind in hooks):
        return None
    for last in (True, False):
        try:
            fused = Fused(model, parameters, last)
            if len(fused) and _agrees(fused, model, batch, parameters):
                return fused
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception:  # Whatever tracing or another layout of memory stumbles over.
            continue
    return None


def _agrees(fused: Fused, model: nn.Module, batch: Samples, parameters: Parameters) -> bool:
    """Whether outputs are the same at the present parameters and around them."""
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: value
        * (1 + 0.1 * torch.randn(value.shape, generator=generator, device="cpu").to(value))
        for name, value in parameters.items()
    }
    for values in (parameters, moved):

        def plain(*args: Any, values: Parameters = values, **kwargs: Any) -> Any:
            return functional_call(model, values, args, kwargs)

        fused.move_to(values)
        expected = forward(plain, batch.take(slice(None)).inputs)
        found = forward(fused, batch.take(slice(None)).inputs)
        if not isinstance(expected, Tensor) or found.shape != expected.shape:
            return False
        near = 0.1 * row_epsilon(parameters) ** 0.5 * float(expected.abs().max())
        if not float((found - expected).abs().max()) <= near:
            return False
    return True


def _plain_convolution(module: nn.Module, node: Any) -> bool:
    return (
        type(module) in _CONVOLUTIONS
        and module.padding_mode == "zeros"
        and len(node.args) == 1
        and not node.kwargs
    )


def _frozen_norm(module: nn.Module) -> bool:
    """Whether it is batch norm by kept statistics, which is an affine map in evaluation mode."""
    return type(module) in _NORMS and module.running_mean is not None


def _rectifies(node: Any, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(modules[node.target]) is nn.ReLU
    return node.target in _RECTIFIERS


def _only_user(node: Any) -> Any:
    """Return the one node that takes what this one makes; None if there are others."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _channels_last(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.ndim == 4:
        return leaf.contiguous(memory_format=torch.channels_last)
    return leaf
