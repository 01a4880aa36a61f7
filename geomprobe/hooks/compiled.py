"""Compiled code calls no hooks: find it in a model, and have it run eagerly for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from geomprobe.hooks.names import canonical_name


def compiled_parts(model: nn.Module) -> list[str]:
    """Name the modules of a model that are compiled: wholly, or some function of theirs."""
    named = dict(model.named_modules())
    kinds = {kind for kind in set(map(type, named.values())) if _has_compiled_method(kind)}
    return [
        canonical_name(name)
        for name, module in named.items()
        if hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        or type(module) in kinds
        or any(map(_is_compiled, vars(module).values()))
    ]


def _has_compiled_method(kind: type) -> bool:
    return any(_is_compiled(value) for base in kind.__mro__ for value in vars(base).values())


def _is_compiled(value: object) -> bool:
    """Whether it is what ``torch.compile`` makes of a function."""
    made = getattr(value, "__dict__", {})
    return "_torchdynamo_orig_callable" in made and not made.get("_torchdynamo_disable")


def may_be_compiled() -> bool:
    """Whether anything in this process may be compiled."""
    return "torch._dynamo" in sys.modules


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


@contextmanager
def eagerly() -> Iterator[None]:
    """Run all compiled code of the process eagerly within, where there may be any and it can be."""
    if not (may_be_compiled() and hasattr(torch.compiler, "set_stance")):
        yield
        return
    eager_stance.hold()
    try:
        yield
    finally:
        eager_stance.release()
