"""What the passes of this wing take for data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomprobe.evidence import Samples, leading_size


def require_samples(data: Any) -> None:
    """Raise unless data are samples of tensors.

    Raises
    ------
    TypeError
        Something else, such as a loader; inputs without a tensor; targets that are none.
    """
    if not isinstance(data, Samples):
        raise TypeError(
            f"data must be Samples(inputs, targets) of tensors, got {type(data).__name__}; of a "
            "loader take the batches of a pass, joined by torch.cat"
        )
    if leading_size(data.inputs) is None:
        raise TypeError(
            f"the inputs must be tensors with the samples first, got {type(data.inputs).__name__}; "
            "torch.as_tensor makes one of an array"
        )
    if data.targets is not None and not isinstance(data.targets, Tensor):
        raise TypeError(
            f"the targets must be a tensor, got {type(data.targets).__name__}; torch.as_tensor "
            "makes one of an array"
        )
