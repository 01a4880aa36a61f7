"""Which layers of a model follow each other with nothing between them that breaks a symmetry."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from geomprobe.dynamics.quantities import (
    DIAGONAL,
    MATRIX,
    SUM,
    ConservedQuantities,
    ConservedQuantity,
    Weights,
)
from geomprobe.hooks import canonical_name, quiet
from geomprobe.hooks.names import ROOT
from geomprobe.hooks.selection import unwrap

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LAYERS = (nn.Linear, *_CONV)
_NORMS = (*_BATCH_NORM, nn.LayerNorm)

#: What is linear and does the same to every unit.
_LINEAR_OPS: frozenset[Any] = frozenset(
    {nn.Identity, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, "contiguous"}
    | {nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d}
    | {F.avg_pool1d, F.avg_pool2d, F.avg_pool3d}
    | {F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d}
)
#: What commutes with a positive factor on each unit.
_HOMOGENEOUS_OPS: frozenset[Any] = frozenset(
    {nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d}
    | {nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d}
    | {nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d}
    | {F.relu, F.relu_, torch.relu, torch.relu_, F.leaky_relu, F.dropout, F.dropout2d}
    | {F.max_pool1d, F.max_pool2d, F.max_pool3d, "relu", "relu_"}
)
_FLATTEN: frozenset[Any] = frozenset({nn.Flatten, torch.flatten, "flatten", "view", "reshape"})
_SOFTMAX: frozenset[Any] = frozenset(
    {nn.Softmax, nn.LogSoftmax, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax}
    | {"softmax", "log_softmax"}
)


def conserved_quantities(model: nn.Module, *, softmax: bool = False) -> ConservedQuantities:
    r"""Find what gradient flow on the parameters of a model conserves, by its symmetries.

    Parameters
    ----------
    model : torch.nn.Module
        Its graph is traced with ``torch.fx``, without an input; nothing is computed.
    softmax : bool
        Whether the loss stays the same when a number is added to all outputs of a sample, as the
        cross-entropy of logits does.

    Returns
    -------
    ConservedQuantities
        With the layers that start none, and why.

    Raises
    ------
    TypeError
        No module.

    Notes
    -----
    The quantities, with :math:`A_1` the weights into units (and their biases) and :math:`A_2` those
    out of them, one row a unit:

    - *balance*, :math:`A_1 A_1^T - A_2 A_2^T`: layers with only linear operations between, the same
      for each unit. Of plain linear layers :math:`W_1 W_1^T - W_2^T W_2`.
    - *rescaling*, the diagonal of it: layers with ReLU, its leaky kin, maxima, dropout or means
      between. Also the factor and offset of a norm layer, and what follows; and the two linear
      layers of a transformer layer of torch.
    - *attention*: balances of queries and keys, and of values and the output, in each head of
      ``nn.MultiheadAttention``.
    - *scale*, :math:`\lVert w \rVert^2` of weights before batch norm (by unit) or layer norm (all
      of them): only as far as the variance is large against eps.
    - *translation*, sums over weights: a bias before batch norm, the columns and the bias before
      layer norm, and those of the last layer before a softmax.

    Two layers count as consecutive if the trace shows one path between them, with no other use of
    anything on it, and each of them is used once and owns its weights alone. Units of a linear
    layer are taken to be on the last axis and alone there, those of a convolution or of batch norm
    on the first after the samples; what would mix the two is left out. Batch norm must see
    statistics of the batch, as in training. Symmetries of parts that are not known here are not
    found. :func:`~geomprobe.dynamics.gradient_identities` verifies on data what is found.

    References
    ----------
    Du, S. S., Hu, W. and Lee, J. D. (2018). Algorithmic regularization in learning deep homogeneous
    models. NeurIPS, theorems 2.1 and 2.2. Arora, S., Cohen, N. and Hazan, E. (2018). On the
    optimization of deep networks. ICML, theorem 1. Kunin, D., Sagastuy-Brena, J., Ganguli, S.,
    Yamins, D. and Tanaka, H. (2021). Neural mechanics: symmetry and broken conservation laws in
    deep learning dynamics. ICLR. Marcotte, S., Gribonval, R. and Peyré, G. (2023). Abide by the law
    and follow the flow: conservation laws for gradient flows. NeurIPS.
    """
    model = unwrap(model)
    found = list(_known(model))
    try:
        with quiet(model):
            # What a forward pass keeps of its inputs, the copy keeps.
            graph = fx.Tracer().trace(copy.deepcopy(model))
    except Exception as error:
        reason = f"torch.fx cannot follow the model: {type(error).__name__}: {error}"
        return ConservedQuantities(tuple(found), {ROOT: reason.splitlines()[0]})
    walk = _Walk(model, graph, softmax)
    left_out: dict[str, str] = {}
    for node in graph.nodes:
        if walk.starts(node):
            try:
                found += walk.quantities_from(node)
            except _Broken as reason:
                left_out[canonical_name(str(node.target))] = str(reason)
    left_out |= walk.unseen(found)
    return ConservedQuantities(tuple(found), left_out)


@dataclass(frozen=True)
class _Path:
    """What lies between a layer and the next one."""

    end: fx.Node
    direct: bool
    linear: bool
    flattened: bool


class _Broken(Exception):
    """Why a path does not lead to a layer, or a layer has no symmetry."""


class _Walk:
    """The graph of a model, with what each of its modules is."""

    def __init__(self, model: nn.Module, graph: fx.Graph, softmax: bool) -> None:
        self.softmax = softmax
        self.modules: dict[str, Any] = dict(model.named_modules())
        self.calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        self.fetched = {node.target for node in graph.nodes if node.op == "get_attr"}
        self.shared = _shared(model)

    def starts(self, node: fx.Node) -> bool:
        """Tell whether a node is a layer with parameters that learn."""
        if node.op != "call_module" or not isinstance(self._module(node), (*_LAYERS, *_NORMS)):
            return False
        return any(p.requires_grad for p in self._module(node).parameters())

    def quantities_from(self, node: fx.Node) -> list[ConservedQuantity]:
        """Return what a layer conserves with what follows it."""
        self._require_own(node)
        path = self._follow(node)
        end = self._kind(path.end)
        if path.end.op == "output" or end in _SOFTMAX:
            return list(self._before_softmax(node, path))
        if end in _NORMS:
            return list(self._before_norm(node, path))
        return [self._between(node, path)]

    def unseen(self, found: list[ConservedQuantity]) -> dict[str, str]:
        """Return the layers that the trace did not come by, and that nothing is known of."""
        known = {one.parameter.rpartition(".")[0] for each in found for one in each.weights}
        names = [name for name, module in self.modules.items() if type(module) in _LAYERS]
        reason = "it is not called by itself, but within a module of torch or not at all"
        missed = [name for name in names if name not in self.calls and name not in known]
        return {canonical_name(name): reason for name in missed}

    def _between(self, node: fx.Node, path: _Path) -> ConservedQuantity:
        """Return the balance of a layer and the next one."""
        self._require_own(path.end)
        layer, after = self._module(node), self._module(path.end)
        if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1:
            raise _Broken("it normalizes over several axes")
        units, name = len(layer.weight), str(path.end.target)
        groups = getattr(after, "groups", 1)
        last = isinstance(layer, nn.Linear | nn.LayerNorm)
        if isinstance(after, nn.Linear):
            aligned = last or path.flattened or isinstance(layer, nn.BatchNorm1d)
            # Others than a flattened convolution leave each unit alone on its axis.
            fits = after.in_features == units
            fits |= path.flattened and not last and after.in_features % units == 0
        else:
            aligned = not last
            fits = after.in_channels == units
        if not aligned or not fits:
            raise _Broken(f"its {units} units are not those that {name} sees")
        whole = path.linear and groups == getattr(layer, "groups", 1) == 1
        whole = whole and isinstance(layer, _LAYERS)
        kind, form = ("balance", MATRIX) if whole else ("rescaling", DIAGONAL)
        weights = [Weights(parameter, units) for parameter in self._own(node)]
        weights.append(Weights(f"{name}.weight", units, incoming=False, sign=-1, groups=groups))
        self._require_free(weights)
        return ConservedQuantity(f"{self._name(node)} to {name}", kind, form, tuple(weights))

    def _before_norm(self, node: fx.Node, path: _Path) -> Iterator[ConservedQuantity]:
        """Yield scale and translation of a layer whose outputs are normalized."""
        layer, norm, name = self._module(node), self._module(path.end), str(path.end.target)
        if not isinstance(layer, _LAYERS) or not path.direct:
            raise _Broken(f"it is not its own outputs that {name} normalizes")
        units = len(layer.weight)
        if isinstance(norm, nn.LayerNorm):
            if not isinstance(layer, nn.Linear) or tuple(norm.normalized_shape) != (units,):
                raise _Broken(f"{name} does not normalize over exactly its units")
            scale = [Weights(parameter, 1) for parameter in self._own(node)]
            sums = [Weights(parameter, units) for parameter in self._own(node)]
        else:
            if norm.num_features != units:
                raise _Broken(f"{name} does not normalize each of its units")
            scale = [Weights(f"{node.target}.weight", units)]
            sums = [Weights(parameter, 1) for parameter in self._own(node)[1:]]
        self._require_free([*scale, *sums])
        title = f"{self._name(node)} before {name}"
        yield ConservedQuantity(title, "scale", DIAGONAL, tuple(scale), norm=name)
        for one in sums:
            yield _translation(one, name)

    def _before_softmax(self, node: fx.Node, path: _Path) -> Iterator[ConservedQuantity]:
        """Yield the translation of the last layer."""
        if path.end.op == "output" and not self.softmax:
            raise _Broken("it is the last, and its outputs are not said to go into a softmax")
        if self._kind(node) is not nn.Linear or not path.direct:
            raise _Broken("it is the last, but its outputs are not the logits themselves")
        units = self._module(node).out_features
        if path.end.op != "output":
            self._require_over_units(path.end, units)
        for parameter in self._own(node):
            self._require_free([one := Weights(parameter, units)])
            yield _translation(one, "softmax")

    def _follow(self, node: fx.Node) -> _Path:
        """Return the way to the next layer, or say where it ends."""
        linear, flattened, here = True, False, node
        own = self._kind(node)
        # A pool of more axes than the layer has would pool over its units.
        pools = own.__name__[-2:] if own in (*_CONV, nn.BatchNorm2d, nn.BatchNorm3d) else ""
        while True:
            users = [user for user in here.users if not _asks_shape(user)]
            if len(users) != 1:
                raise _Broken(f"its output goes to {len(users)} places")
            after = users[0]
            kind, told = self._kind(after), self._told(after)
            if after.args[:1] != (here,):
                raise _Broken(f"it goes into {told} together with something else")
            if after.op == "output" or kind in (*_LAYERS, *_NORMS, *_SOFTMAX):
                return _Path(after, here is node, linear, flattened)
            if kind in _FLATTEN:
                self._require_flat(after)
                flattened = True
            elif kind not in _LINEAR_OPS | _HOMOGENEOUS_OPS:
                raise _Broken(f"{told} follows, which does not commute with a rescaling")
            elif _mixes(kind, pools):
                raise _Broken(f"{told} follows, which may mix its units")
            elif kind not in _LINEAR_OPS:
                linear = False
            here = after

    def _require_over_units(self, node: fx.Node, units: int) -> None:
        """Raise unless a softmax is over the last axis, or over the second of two."""
        if node.op == "call_module":
            axis = self._module(node).dim
        else:
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        # The shape is not known: probabilities that the model returns have two axes.
        last = units > 1 and all(user.op == "output" for user in node.users)
        if axis != -1 and not (axis == 1 and last):
            raise _Broken(f"the softmax {self._told(node)} is not over its units")

    def _require_flat(self, node: fx.Node) -> None:
        """Raise unless a node flattens all axes but the first."""
        kind = self._kind(node)
        if kind is nn.Flatten:
            module = self._module(node)
            flat = bool((module.start_dim, module.end_dim) == (1, -1))
        elif kind in ("view", "reshape"):
            sizes = node.args[1:]
            flat = len(sizes) == 2 and bool(sizes[1] == -1) and _is_batch(sizes[0])
        else:
            given = [*node.args[1:], *node.kwargs.values()]
            flat = {*node.kwargs} <= {"start_dim", "end_dim"} and given in ([1], [1, -1])
        if not flat:
            raise _Broken(f"{self._told(node)} follows, which may move its units")

    def _require_own(self, node: fx.Node) -> None:
        """Raise unless a layer is used once, and its parameters are plain and nobody else's."""
        layer, name = self._module(node), str(node.target)
        if type(layer) not in (*_LAYERS, *_NORMS):
            raise _Broken(f"{name} is a {type(layer).__name__}, not a plain layer of torch")
        if self.calls[name] > 1:
            raise _Broken(f"{name} is called {self.calls[name]} times")
        own = dict(layer.named_parameters(prefix=name, recurse=False))
        if any(id(p) in self.shared for p in own.values()) or own.keys() & self.fetched:
            raise _Broken(f"the weights of {name} are used elsewhere too")
        if f"{name}.weight" not in own:
            raise _Broken(f"the weights of {name} are not parameters of its own")

    def _require_free(self, weights: list[Weights]) -> None:
        """Raise if one of the parameters does not learn."""
        for one in weights:
            module, _, leaf = one.parameter.rpartition(".")
            if not getattr(self.modules[module], leaf).requires_grad:
                raise _Broken(f"{one.parameter} is frozen")

    def _own(self, node: fx.Node) -> list[str]:
        """Return the names of the weight and, if there is one, the bias of a layer."""
        name = str(node.target)
        return [key for key, _ in self._module(node).named_parameters(name, recurse=False)]

    def _module(self, node: fx.Node) -> Any:
        return self.modules[str(node.target)]

    def _kind(self, node: fx.Node) -> Any:
        """Return the class of a module, or the function or method that is called."""
        return type(self._module(node)) if node.op == "call_module" else node.target

    def _name(self, node: fx.Node) -> str:
        return canonical_name(str(node.target))

    def _told(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return f"{node.target} ({type(self._module(node)).__name__})"
        return str(getattr(node.target, "__name__", node.target))


def _translation(weights: Weights, before: str) -> ConservedQuantity:
    title = f"{canonical_name(weights.parameter)} before {before}"
    return ConservedQuantity(title, "translation", SUM, (weights,))


def _shared(model: nn.Module) -> set[int]:
    """Return the ids of parameters that several modules own."""
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return {key for key, count in owners.items() if count > 1}


def _mixes(kind: Any, pools: str) -> bool:
    """Tell whether something pools over other axes than those of a layer, such as "2d"."""
    name = getattr(kind, "__name__", "").lower()
    return "pool" in name and not (pools and name.endswith(pools))


def _asks_shape(node: fx.Node) -> bool:
    """Tell whether a node only looks at the shape of what it is given."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.op == "call_function" and node.target is getattr and node.args[1] == "shape"


def _is_batch(size: Any) -> bool:
    """Tell whether an argument is the length of the first axis of a tensor."""
    if not isinstance(size, fx.Node):
        return False
    if size.op == "call_method" and size.target == "size":
        return size.args[1:] == (0,)
    return size.target is operator.getitem and size.args[1:] == (0,)


def _known(model: nn.Module) -> Iterator[ConservedQuantity]:
    """Yield what holds within modules of torch, however often they are called."""
    shared = _shared(model)
    for name, module in model.named_modules():
        if not all(p.requires_grad and id(p) not in shared for p in module.parameters()):
            continue
        dot = f"{name}." if name else ""
        if type(module) is nn.MultiheadAttention:
            if module.in_proj_weight is not None and module.bias_k is None:
                yield from _heads(name, dot, module)
        elif isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            bends = module.activation
            if bends in (F.relu, torch.relu) or isinstance(bends, nn.ReLU):
                first, second, units = f"{dot}linear1", f"{dot}linear2", module.linear1.out_features
                own = [key for key, _ in module.linear1.named_parameters(first)]
                out = Weights(f"{second}.weight", units, incoming=False, sign=-1)
                weights = (*(Weights(key, units) for key in own), out)
                title = f"{canonical_name(first)} to {canonical_name(second)}"
                yield ConservedQuantity(title, "rescaling", DIAGONAL, weights)


def _heads(name: str, dot: str, module: nn.MultiheadAttention) -> Iterator[ConservedQuantity]:
    """Yield the two balances of each head."""
    whole, d = module.embed_dim, module.head_dim
    kinds = ("weight",) if module.in_proj_bias is None else ("weight", "bias")

    def into(block: int, head: int, sign: int = 1) -> Iterator[Weights]:
        part = (block * whole + head * d, d)
        for kind in kinds:
            yield Weights(f"{dot}in_proj_{kind}", d, sign=sign, part=part)

    for head in range(module.num_heads):
        title = f"{canonical_name(name)} head {head}"
        keys = (*into(0, head), *into(1, head, -1))
        yield ConservedQuantity(f"{title} queries to keys", "attention", MATRIX, keys)
        columns = (head * d, d)
        out = Weights(f"{dot}out_proj.weight", d, incoming=False, sign=-1, part=columns)
        values = (*into(2, head), out)
        yield ConservedQuantity(f"{title} values to output", "attention", MATRIX, values)
