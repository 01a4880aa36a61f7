"""Compiled code calls no hooks: find it in a model, and have it run eagerly for a while."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from geomprobe.hooks.names import canonical_name


def compiled_parts(model: nn.Module) -> list[str]:
    """Name the modules of a model that ``torch.compile`` or ``Module.compile`` has compiled."""
    return [
        canonical_name(name)
        for name, module in model.named_modules()
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
    ]


class _EagerStance:
    """Held by any number of holders at once, in whatever order they let go."""

    def __init__(self) -> None:
        self._holders = 0
        self._stance: Any = None

    def hold(self) -> None:
        """Run compiled functions eagerly from now on.

        Raises
        ------
        TypeError
            This PyTorch cannot.
        """
        if not hasattr(torch.compiler, "set_stance"):
            raise TypeError(
                f"the model is compiled, and PyTorch {torch.__version__} cannot run it eagerly for "
                "a while (2.6 or later can); pass the model as it was before torch.compile, and "
                "call that one"
            )
        if not self._holders:
            self._stance = torch.compiler.set_stance("force_eager")
        self._holders += 1

    def release(self) -> None:
        """Let go; with the last holder compiled functions run compiled again."""
        self._holders -= 1
        if not self._holders:
            self._stance.__exit__(None, None, None)


eager_stance = _EagerStance()
