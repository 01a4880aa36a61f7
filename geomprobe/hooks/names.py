"""Names: one for a module, whatever has wrapped the model, and one for each thing to observe there.

A *site* is a layer and what of it is observed: ``"fc"`` is the output of ``fc``, ``"fc#in"`` its
input, ``"h#out.hidden"`` one part of an output. A *key* is a site in one of its calls: the second
call of ``relu`` in one forward pass is ``"relu#1"``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

#: The name of the model itself among its layers.
ROOT = "(root)"

_WRAPPERS = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
_PORT = re.compile(r"#(?:in|out)(?:\..+)?$")


def canonical_name(name: str) -> str:
    """Strip from a dotted module name what compile, FSDP and checkpoint wrappers have put in it.

    The model itself, whose name in ``named_modules()`` is empty, is called ``"(root)"``. The prefix
    ``module.`` of DistributedDataParallel is an ordinary attribute name too, and so is taken off
    where the wrapper is known, in :func:`~geomprobe.hooks.select_layers`.
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or ROOT


def names_in(model: nn.Module) -> Callable[[str], str]:
    """Return what makes canonical names of those in a model, also below a part that is in DDP."""
    parallel = [
        f"{name}.module"
        for name, module in model.named_modules()
        if isinstance(module, nn.parallel.DistributedDataParallel)
    ]

    def canonical(name: str) -> str:
        for prefix in reversed(parallel):  # The innermost first.
            if name == prefix or name.startswith(f"{prefix}."):
                name = prefix.removesuffix(".module") + name[len(prefix) :]
        return canonical_name(name)

    return canonical


def split_port(site: str) -> tuple[str, str]:
    """Split ``"h#out.hidden"`` into ``"h"`` and ``"#out.hidden"``; no port is an empty one."""
    found = _PORT.search(site)
    if found is None:
        return site, ""
    port = found[0]
    return site[: found.start()], "" if port == "#out" else port


def key_of(site: str, call: int) -> str:
    """Name a site in one of its calls within a forward pass."""
    return f"{site}#{call}" if call else site


def site_of(key: str) -> str:
    """Take the call off a key again."""
    return re.sub(r"#\d+$", "", key)
