"""One name for a module, whatever has wrapped the model."""

from __future__ import annotations

#: The name of the model itself among its layers.
ROOT = "(root)"

_WRAPPERS = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)


def canonical_name(name: str) -> str:
    """Strip from a dotted module name what compile, FSDP and checkpoint wrappers have put in it.

    The model itself, whose name in ``named_modules()`` is empty, is called ``"(root)"``. The prefix
    ``module.`` of DistributedDataParallel is an ordinary attribute name too, and so is taken off
    where the wrapper is known, in :func:`~geomprobe.hooks.select_layers`.
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or ROOT
