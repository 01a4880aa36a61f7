"""The optimizer that steps, out of what a training framework wraps it in."""

from __future__ import annotations

from typing import Any

# Both hold it as the attribute ``optimizer``.
_WRAPPERS = {
    ("accelerate", "AcceleratedOptimizer"),
    ("lightning", "LightningOptimizer"),
    ("pytorch_lightning", "LightningOptimizer"),
}


def unwrap_optimizer(optimizer: Any) -> Any:
    """Return the optimizer itself, or None where there is none; refuse what is no optimizer.

    Raises
    ------
    TypeError
        It has no ``param_groups``.
    """
    if optimizer is None:
        return None
    if isinstance(optimizer, type) or not hasattr(optimizer, "param_groups"):
        raise TypeError(
            f"optimizer must have param_groups, as those of torch.optim, got {optimizer!r}"
        )
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(optimizer).__mro__}
    return unwrap_optimizer(optimizer.optimizer) if bases & _WRAPPERS else optimizer
