"""Follow a forward and some backward passes through the layers, and sort gradients by sample.

A layer is taken only if its rule is seen to hold: on a few samples, each layer's own calls must
give the gradient that PyTorch gives, and show which rows of the layer belong to which sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from geomprobe.evidence import Samples, forward
from geomprobe.information.factors import Outer
from geomprobe.information.rules import POSITIONWISE, RULES, Part, Parts, Table

_PROBED = 3

#: By name: what a rule may cover, and what the model calls its own trainable parameters.
Candidates = Mapping[str, tuple[nn.Module | Table, Mapping[str, str]]]


class LayoutError(Exception):
    """A layer's rows could not be told apart by sample."""


@dataclass
class Call:
    """What went through a layer in one call."""

    inputs: Tensor
    edge: GradientEdge
    shape: torch.Size


@dataclass(frozen=True)
class Layout:
    """Where the samples are among the rows of a layer.

    Parameters
    ----------
    axis : int
        Axis of the samples.
    size : int
        Rows of one sample, one after another; 1 where the axis is the samples' own.
    """

    axis: int
    size: int


@dataclass(frozen=True)
class Layer:
    """A module that a rule covers, and how.

    Parameters
    ----------
    module : torch.nn.Module or Table
    names : dict of str to str
        Its own trainable parameters, and what the model calls them.
    layouts : tuple of Layout
        One a call.
    n_inputs, n_outputs : int
        Numbers that go in and out, of one sample, in all calls.
    shared : bool
        Whether it is a table that is looked up once for all samples, such as one of positions, or a
        raw parameter. What it gives is then repeated for each sample, so that each has a gradient
        there.
    """

    module: nn.Module | Table
    names: Mapping[str, str]
    layouts: tuple[Layout, ...]
    n_inputs: int
    n_outputs: int
    shared: bool = False


@dataclass
class Recorded:
    """Inputs (N, ...) and output gradients (N, K, ...) of a layer's calls, sorted by sample."""

    inputs: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)


def covered_layers(
    model: nn.Module, data: Samples, cotangents: Tensor, parameters: Mapping[str, Tensor]
) -> dict[str, Layer]:
    """Return the layers whose rules hold, by name.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    data : Samples
        Some samples, the same as the cotangents; at least two.
    cotangents : Tensor of shape (N, K, ...)
    parameters : mapping
        The model's trainable parameters, each under one name.
    """
    few = data.take(slice(_PROBED))
    vectors = cotangents[:_PROBED, 0]
    candidates = _candidates(model, parameters)
    shared: frozenset[str] = frozenset()
    found, outputs = _tried(model, few, vectors, candidates, shared)
    for name, (module, _) in candidates.items():
        if name in found or type(module) not in (nn.Embedding, Table):
            continue
        try:
            more, same = _tried(model, few, vectors, candidates, shared | {name})
        except Exception:  # A model of the user's that takes nothing repeated for each sample.
            continue
        unchanged = outputs.shape == same.shape and torch.allclose(outputs, same)
        if unchanged and more.keys() > found.keys():
            found, shared = more, shared | {name}
    return found


def _tried(
    model: nn.Module,
    few: Samples,
    vectors: Tensor,
    candidates: Candidates,
    shared: frozenset[str],
) -> tuple[dict[str, Layer], Tensor]:
    """Return the layers whose rules hold on some samples, and the outputs."""
    n = len(few)
    owned = [name for _, names in candidates.values() for name in names.values()]
    weights = [model.get_parameter(name) for name in owned]
    with torch.enable_grad(), _recorded(candidates, shared, n) as calls:
        outputs = forward(model, few.inputs)
        edges = {name: [call.edge for call in listed] for name, listed in calls.items()}
        wanted = [edge for listed in edges.values() for edge in listed]
        if not wanted:
            return {}, outputs.detach()
        alone = [_gradients(outputs, wanted, _only(vectors, sample), calls) for sample in range(n)]
        summed = torch.autograd.grad(outputs, weights, vectors.to(outputs.dtype), allow_unused=True)
    truth = dict(zip(owned, summed, strict=True))
    found = {}
    for name, listed in calls.items():
        module, names = candidates[name]
        try:
            layouts = tuple(
                _layout(module, [grads[name][i] for grads in alone]) for i in range(len(listed))
            )
            together = Recorded(
                [_sorted(call.inputs, at, n) for call, at in zip(listed, layouts, strict=True)],
                [
                    _sorted(torch.stack([grads[name][i] for grads in alone]).sum(0), at, n)[:, None]
                    for i, at in enumerate(layouts)
                ],
            )
            layer = Layer(
                module,
                names,
                layouts,
                sum(one[0].numel() for one in together.inputs),
                sum(one[0].numel() for one in together.grads),
                name in shared,
            )
            if _agrees(parts_of(layer, together), names, truth):
                found[name] = layer
        except (LayoutError, RuntimeError, ValueError, TypeError, AttributeError):
            continue  # Whatever a rule stumbles over is left to gradients of its own.
    return found, outputs.detach()


@dataclass(frozen=True)
class Pass:
    """A forward pass over some samples.

    Parameters
    ----------
    here : slice
        Which samples.
    outputs : Tensor of shape (n, ...)
    inputs : dict of str to list of Tensor
        Of each layer, what went into its calls, sorted by sample: each of shape (n, ...).
    gradients : callable
        From vectors at the outputs, (n, ...), to the gradients at the outputs of the calls, sorted
        by sample.
    """

    here: slice
    outputs: Tensor
    inputs: Mapping[str, list[Tensor]]
    gradients: Callable[[Tensor], dict[str, list[Tensor]]]


def passes(
    model: nn.Module, layers: Mapping[str, Layer], data: Samples, chunk: int
) -> Iterator[Pass]:
    """Run all samples, so many at a time.

    Raises
    ------
    LayoutError
        A layer was called otherwise than on the samples that were probed.
    """
    candidates = {name: (layer.module, layer.names) for name, layer in layers.items()}
    shared = frozenset(name for name, layer in layers.items() if layer.shared)
    for start in range(0, len(data), chunk):
        here = slice(start, min(len(data), start + chunk))
        n = here.stop - here.start
        with torch.enable_grad(), _recorded(candidates, shared, n) as calls:
            outputs = forward(model, data.take(here).inputs)
        yield _pass(here, outputs, layers, calls)


def _pass(
    here: slice, outputs: Tensor, layers: Mapping[str, Layer], calls: Mapping[str, list[Call]]
) -> Pass:
    n = here.stop - here.start
    for name, layer in layers.items():
        if len(calls[name]) != len(layer.layouts):
            raise LayoutError(f"{name} was called {len(calls[name])} times")
    edges = [call.edge for name in layers for call in calls[name]]

    def gradients(vectors: Tensor) -> dict[str, list[Tensor]]:
        found = _gradients(outputs, edges, vectors, calls)
        return {
            name: [
                _sorted(grad, at, n).to(torch.promote_types(grad.dtype, torch.float32))
                for grad, at in zip(found[name], layer.layouts, strict=True)
            ]
            for name, layer in layers.items()
        }

    inputs = {
        name: [
            _sorted(call.inputs, at, n) for call, at in zip(calls[name], layer.layouts, strict=True)
        ]
        for name, layer in layers.items()
    }
    return Pass(here, outputs.detach(), inputs, gradients)


def record(
    model: nn.Module, layers: Mapping[str, Layer], data: Samples, cotangents: Tensor, chunk: int
) -> tuple[dict[str, Recorded], Tensor]:
    """Keep what goes through the layers when all vectors are pulled back, and the outputs.

    Raises
    ------
    LayoutError
        A layer was called otherwise than on the samples that were probed.
    """
    found = {name: Recorded() for name in layers}
    values = []
    n, k = cotangents.shape[:2]

    def keep(kept: list[Tensor], rows: list[Tensor], shape: tuple[int, ...], at: Any) -> None:
        if not kept:
            kept += [row.new_empty(*shape, *row.shape[1:]) for row in rows]
        for whole, row in zip(kept, rows, strict=True):
            whole[at] = row

    for one in passes(model, layers, data, chunk):
        values.append(one.outputs)
        for name, rows in one.inputs.items():
            keep(found[name].inputs, rows, (n,), one.here)
        for vector in range(k):
            for name, rows in one.gradients(cotangents[one.here, vector]).items():
                keep(found[name].grads, rows, (n, k), (one.here, vector))
    return found, torch.cat(values)


def holder(model: nn.Module, name: str) -> nn.Module | Table:
    """Return what :func:`covered_layers` calls by that name."""
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    if attribute in module._parameters:
        return Table(module, attribute)
    return model.get_submodule(name)


def parts_of(layer: Layer, recorded: Recorded) -> list[Part]:
    """Return the factors of a layer's parameters, those of several calls joined."""
    return prepared(layer, recorded.inputs)(recorded.grads)


def prepared(layer: Layer, inputs: list[Tensor]) -> Callable[[list[Tensor]], list[Part]]:
    """Return what makes the factors of a layer's parameters from the gradients at its calls."""
    rule = RULES[type(layer.module)]
    ready = [
        rule(layer.module, rows if at.size == 1 else rows.flatten(0, 1))
        for rows, at in zip(inputs, layer.layouts, strict=True)
    ]

    def parts(grads: list[Tensor]) -> list[Part]:
        by_call = [
            _folded(make, rows, at.size)
            for make, rows, at in zip(ready, grads, layer.layouts, strict=True)
        ]
        if len(by_call) == 1:
            return by_call[0]
        return [_joined(parts) for parts in zip(*by_call, strict=True)]

    return parts


def _candidates(model: nn.Module, parameters: Mapping[str, Tensor]) -> Candidates:
    """Return what a rule covers, with its trainable parameters.

    Modules, and tables of modules of the user's own; none that shares a parameter with another.
    """
    names = {id(model.get_parameter(name)): name for name in parameters}
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found: dict[str, tuple[nn.Module | Table, dict[str, str]]] = {}
    for name, module in model.named_modules():
        own = {
            attribute: parameter
            for attribute, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        }
        alone = all(owners[id(parameter)] == 1 for parameter in own.values())
        if own and alone and type(module) in RULES:
            found[name] = (module, {a: names[id(p)] for a, p in own.items()})
        elif alone and not type(module).__module__.startswith("torch.nn"):
            found |= {
                names[id(p)]: (Table(module, attribute), {attribute: names[id(p)]})
                for attribute, p in own.items()
                # What has no axis for samples may be indexed: beyond its end, on an accelerator.
                if p.ndim > 1 and len(p) == 1
            }
    return found


@contextmanager
def _recorded(
    candidates: Candidates, shared: frozenset[str], n: int
) -> Iterator[dict[str, list[Call]]]:
    """Note the calls of modules; what shared ones return is repeated for each of n samples."""
    calls: dict[str, list[Call]] = {name: [] for name in candidates}
    with ExitStack() as undone:
        for name, (module, _) in candidates.items():
            if isinstance(module, nn.Module):
                hook = _keeper(calls[name], n if name in shared else None)
                undone.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            elif name in shared:
                rows = undone.enter_context(module.repeated(n))
                nothing = rows.new_zeros(n, 1)
                calls[name].append(Call(nothing, get_gradient_edge(rows), rows.shape))
        yield calls


def _keeper(calls: list[Call], n: int | None) -> Callable[..., Tensor | None]:
    """Return a hook that notes calls, and repeats what was looked up for each of n samples."""

    def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        if not (isinstance(inputs, Tensor) and isinstance(output, Tensor)):
            return None
        if n is not None:
            inputs, output = _repeated(inputs, output, n)
        if output.requires_grad:
            # The edge, since the output may be changed in place later.
            calls.append(Call(inputs.detach(), get_gradient_edge(output), output.shape))
        return None if n is None else output

    return keep


def _repeated(places: Tensor, rows: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return places (T,) or (1, T) as (n, T), and what was looked up there."""
    if places.ndim == 1:
        places, rows = places[None], rows[None]
    if len(places) != 1:
        raise LayoutError(f"places of shape {tuple(places.shape)} are not those of all samples")
    return places.expand(n, *places.shape[1:]), rows.expand(n, *rows.shape[1:])


def _gradients(
    outputs: Tensor, edges: list[GradientEdge], vectors: Tensor, calls: Mapping[str, list[Call]]
) -> dict[str, list[Tensor]]:
    """Return the gradients at the outputs of all calls; zeros where nothing arrives."""
    found = torch.autograd.grad(
        outputs, edges, vectors.to(outputs.dtype), retain_graph=True, allow_unused=True
    )
    flat = iter(found)
    return {
        name: [
            outputs.new_zeros(call.shape) if grad is None else grad
            for call, grad in zip(listed, flat, strict=False)
        ]
        for name, listed in calls.items()
        if listed
    }


def _only(vectors: Tensor, sample: int) -> Tensor:
    alone = torch.zeros_like(vectors)
    alone[sample] = vectors[sample]
    return alone


def _layout(module: nn.Module | Table, alone: list[Tensor]) -> Layout:
    """Tell where the samples are from gradients that come from one sample each."""
    n, shape = len(alone), alone[0].shape
    choices = []
    if shape and shape[0] % n == 0:
        choices.append(Layout(0, shape[0] // n))
    if len(shape) > 1 and shape[1] == n and RULES[type(module)] in POSITIONWISE:
        choices.append(Layout(1, 1))
    for at in choices:
        # Of each sample's gradient, where among the samples there is any: (n, n).
        where = torch.stack([_sorted(grad, at, n).flatten(1).any(dim=1) for grad in alone])
        if bool(where.any()) and torch.equal(
            where, where & torch.eye(n, dtype=torch.bool, device=where.device)
        ):
            return at
    raise LayoutError


def _sorted(rows: Tensor, at: Layout, n: int) -> Tensor:
    """Return rows with the samples first: (N, ...), or (N, size, ...) of several rows a sample."""
    rows = rows.movedim(at.axis, 0)
    if len(rows) != n * at.size:
        raise LayoutError(f"{len(rows)} rows of {n} samples")
    return rows if at.size == 1 else torch.unflatten(rows, 0, (n, at.size))


def _folded(make: Parts, grads: Tensor, size: int) -> list[Part]:
    """Return the parts of a call whose samples take so many rows each, (N, K, ...)."""
    if size == 1:
        return make(grads)
    rows = grads.transpose(1, 2).flatten(0, 1)
    return [(factor.folded(size), unpack) for factor, unpack in make(rows)]


def _joined(parts: tuple[Part, ...]) -> Part:
    """Return the sum of the gradients of several calls: outer products at more positions."""
    factors = [factor for factor, _ in parts]
    unpack = parts[0][1]
    if all(isinstance(factor, Outer) for factor in factors):
        outer: Any = factors
        values = torch.cat([one.values for one in outer], dim=2)
        grads = torch.cat([one.grads for one in outer], dim=3)
        return Outer(values, grads, outer[0].biased), unpack
    raise LayoutError


def _agrees(
    parts: list[Part], names: Mapping[str, str], truth: Mapping[str, Tensor | None]
) -> bool:
    """Whether the parts add up to the gradients that PyTorch gives."""
    ours: dict[str, Tensor] = {}
    for factor, unpack in parts:
        ours |= {names[own]: gradient for own, gradient in unpack(factor.total()).items()}
    if ours.keys() != set(names.values()):
        return False
    for name, gradient in ours.items():
        expected = truth[name]
        if expected is None:
            return False
        expected = expected.to_dense() if expected.is_sparse else expected
        scale = float(expected.abs().max())
        error = float((gradient.to(expected.dtype) - expected).abs().max())
        if not error <= 100 * torch.finfo(expected.dtype).eps ** 0.75 * scale:
            return False
    return True
