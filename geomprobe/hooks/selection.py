"""Which modules of a model to observe: by name, glob, regex, type or predicate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from geomprobe.exceptions import LayerSelectionError
from geomprobe.hooks.names import ROOT, names_in, site_of, split_port
from geomprobe.hooks.patterns import matcher, nothing_matches

#: A name or glob, ``"re:..."``, a module class, a module of the model, or a predicate of both.
Pattern = str | type[nn.Module] | nn.Module | Callable[[str, nn.Module], bool]
Layers = Pattern | Iterable[Pattern]

_AUTO_LIMIT = 8
_LAYERS = frozenset(
    f"torch.nn.modules.{kind}"
    for kind in ("conv", "linear", "sparse", "batchnorm", "normalization", "instancenorm", "rnn")
)
_SEQUENCES = (nn.ModuleList, nn.Sequential)
_TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_NO_FORWARD = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True)
class LayerSelection:
    """The outcome of :func:`select_layers`.

    Parameters
    ----------
    selected : mapping of str to Module
        The sites that the patterns match (see :mod:`geomprobe.hooks.names`), in the order of the
        model.
    skipped : mapping of str to str
        Which of these cannot be observed, with the reason.
    aliases : mapping of str to tuple of str
        Further names of selected modules that stand in the model more than once.
    explanation : str
        How the layers were chosen.
    """

    selected: Mapping[str, nn.Module]
    skipped: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    explanation: str = ""

    def module_of(self, key: str) -> nn.Module:
        """Return the module of a site, or of one of its repeated calls."""
        return self.selected[key if key in self.selected else site_of(key)]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What to observe: selected and not skipped."""
        return {name: m for name, m in self.selected.items() if name not in self.skipped}


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module that hooks can observe; refuse what they cannot, with the reason.

    Raises
    ------
    TypeError
        Not a module, or one whose layers never call Python hooks.
    """
    if not isinstance(model, nn.Module):
        got = type(model).__name__
        if isinstance(model, type):
            got = f"the class {model.__name__}: give an instance"
        raise TypeError(f"model must be a torch.nn.Module, got {got}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "a ScriptModule does not call the hooks of its layers; pass the eager model it was "
            "scripted from"
        )
    if any(isinstance(module, nn.DataParallel) for module in model.modules()):
        raise TypeError(
            "DataParallel replicates modules at every call, and hooks on replicas race; pass "
            "model.module, which it wraps, or use DistributedDataParallel"
        )
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return unwrap(model.module)
    if hasattr(model, "_orig_mod"):  # torch.compile's OptimizedModule
        return unwrap(model._orig_mod)  # type: ignore[arg-type]
    return model


def select_layers(
    model: nn.Module, layers: Layers = "auto", *, exclude: Layers = ()
) -> LayerSelection:
    """Choose the modules to observe.

    Parameters
    ----------
    model : torch.nn.Module
        Names are relative to it, without the prefixes of wrappers.
    layers : pattern or iterable of patterns
        A string is an exact name or a glob on dotted names (``*`` crosses dots), or a regular
        expression after ``re:`` (searched); a class selects its instances; a module selects
        itself; a callable gets ``(name, module)``. Several patterns are united. After a string,
        ``#in`` observes the input instead of the output, and ``#out.hidden``, ``#out.0`` or
        ``#in.x`` one part of it. ``"auto"`` takes the outputs of blocks, and outside them those of
        nonlinearities and of the last layer with parameters; with more than eight, eight spread
        evenly over the depth. Blocks are the items of sequences that have children, several modules
        of one class side by side, and transformer layers.
    exclude : pattern or iterable of patterns
        Taken off again, with whatever is observed of these layers.

    Returns
    -------
    LayerSelection

    Raises
    ------
    LayerSelectionError
        A pattern matches nothing, or nothing is left; the message lists near names.
    TypeError
        The model or a pattern is of a kind that cannot be used.
    """
    names, aliases = _named_layers(unwrap(model))
    chosen: set[tuple[str, str]] = set()
    if isinstance(layers, str) and layers == "auto":
        found, explanation = _auto(names)
        chosen = {(name, "") for name in found}
    else:
        for pattern in _listed(layers):
            plain, port = split_port(pattern) if isinstance(pattern, str) else (pattern, "")
            chosen |= {(name, port) for name in _matches(plain, names, aliases)}
        explanation = f"{len(chosen)} layers match {layers!r}"
    for pattern in _listed(exclude):
        excluded = _matches(pattern, names, aliases)
        chosen = {(name, port) for name, port in chosen if name not in excluded}
    if not chosen:
        raise LayerSelectionError(f"exclude={exclude!r} takes off every layer of {layers!r}")
    place = {name: i for i, name in enumerate(names)}
    ordered = sorted(chosen, key=lambda one: (place[one[0]], one[1]))
    return LayerSelection(
        selected={name + port: names[name] for name, port in ordered},
        skipped={
            name + port: reason
            for name, port in ordered
            if (reason := _cannot_be_observed(names[name]))
        },
        aliases={name + port: aliases[name] for name, port in ordered if aliases[name]},
        explanation=explanation,
    )


def _cannot_be_observed(module: nn.Module) -> str:
    if isinstance(module, _NO_FORWARD):
        return f"{type(module).__name__} is a container without a forward of its own"
    if isinstance(module, torch.jit.ScriptModule):
        return "a ScriptModule does not call hooks"
    return ""


def _listed(patterns: Layers) -> list[Pattern]:
    if isinstance(patterns, Iterable) and not isinstance(patterns, str | nn.Module):
        return list(patterns)
    return [patterns]


def _named_layers(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, tuple[str, ...]]]:
    """Return each module once under its first name, and the further names of each."""
    all_names: dict[nn.Module, list[str]] = {}
    canonical = names_in(model)
    for raw, module in model.named_modules(remove_duplicate=False):
        name = canonical(raw)
        if "parametrizations" not in name.split("."):
            all_names.setdefault(module, []).append(name)
    modules = {names[0]: module for module, names in all_names.items()}
    return modules, {names[0]: tuple(names[1:]) for names in all_names.values()}


def _matches(
    pattern: Pattern, names: Mapping[str, nn.Module], aliases: Mapping[str, tuple[str, ...]]
) -> set[str]:
    if isinstance(pattern, str):
        matches = matcher(pattern)
        found = {name for name in names if any(map(matches, (name, *aliases[name])))}
    elif isinstance(pattern, nn.Module):
        found = {name for name, module in names.items() if module is pattern}
    elif isinstance(pattern, type) and issubclass(pattern, nn.Module):
        found = {name for name, module in names.items() if isinstance(module, pattern)}
    elif callable(pattern) and not isinstance(pattern, type):
        found = {name for name, module in names.items() if pattern(name, module)}
    else:
        raise TypeError(
            f"cannot select layers by {pattern!r}: give a name, a glob, 're:...', a module class, "
            "a module of the model, or a callable of (name, module)"
        )
    if not found:
        raise LayerSelectionError(nothing_matches("layer", pattern, list(names)))
    return found


def _auto(names: Mapping[str, nn.Module]) -> tuple[set[str], str]:
    blocks = {name for name in names if _is_block(name, names)}
    outer = {b for b in blocks if not any(b.startswith(f"{other}.") for other in blocks)}
    leaves = {name: m for name, m in names.items() if _is_leaf(m)}
    weighted = [name for name, m in leaves.items() if any(True for _ in m.parameters(False))]
    ends = {name for name, m in leaves.items() if _bends(m)} | set(weighted[-1:])
    inside = {name for name in ends if any(name.startswith(f"{block}.") for block in outer)}
    chosen = outer | (ends - inside)
    rule = "outputs of blocks and nonlinearities, and the last layer with parameters"
    if len(chosen) < 2:
        chosen = outer | set(weighted)
        rule = "layers with parameters (the model has no other blocks or nonlinear modules)"
    if not chosen:
        chosen, rule = set(leaves), "all layers without children (none has parameters)"
    if len(chosen) > _AUTO_LIMIT:
        ordered = [name for name in names if name in chosen]
        last = len(ordered) - 1
        rule += f"; {_AUTO_LIMIT} of {len(ordered)}, spread over the depth"
        chosen = {ordered[round(i * last / (_AUTO_LIMIT - 1))] for i in range(_AUTO_LIMIT)}
    return chosen, f"auto: {rule}"


def _is_block(name: str, names: Mapping[str, nn.Module]) -> bool:
    """Whether a module with children is one item of a sequence, and not itself one of such.

    Or one of several of its class side by side, without such items inside; or a transformer layer.
    """
    module = names[name]
    if name == ROOT or _is_leaf(module) or isinstance(module, _NO_FORWARD):
        return False
    if isinstance(module, nn.Sequential) and _holds_blocks(module):
        return False
    parent = names.get(name.rpartition(".")[0] or ROOT)
    if isinstance(parent, _SEQUENCES) or isinstance(module, _TRANSFORMER_LAYERS):
        return True
    if parent is None or isinstance(module, nn.Sequential):
        return False
    twins = [one for one in parent.children() if type(one) is type(module)]
    return len(twins) > 1 and not any(map(_holds_blocks, module.modules()))


def _holds_blocks(module: nn.Module) -> bool:
    """Whether it is a sequence, of which an item has children."""
    return isinstance(module, _SEQUENCES) and any(
        True for part in module.children() for _ in part.children()
    )


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is a layer, though its class may have added children to one of PyTorch's."""
    is_layer = any(cls.__module__ in _LAYERS for cls in type(module).__mro__)
    return is_layer or not any(True for _ in module.children())


def _bends(module: nn.Module) -> bool:
    is_activation = type(module).__module__ == "torch.nn.modules.activation"
    return (is_activation and not isinstance(module, nn.MultiheadAttention)) or isinstance(
        module, nn.RNNBase
    )
