"""The Fisher metric at the outputs of a model, by which changes of its parameters are measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomprobe.evidence import Samples, forward
from geomprobe.jacobians import Parameters
from geomprobe.memory import require_memory


class Factors(Protocol):
    """Whatever factors the Fisher information of outputs, as the likelihoods of information do.

    One that has ``product(outputs, vectors, targets)`` too is asked for that, which takes less.
    """

    def rows(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return K vectors a sample whose outer products add up to it: (N, K, ...)."""
        ...


#: ``"softmax"`` for logits of shape (N, C, ...), ``"euclidean"``, or a likelihood.
Metric = str | Factors


def lowered(
    metric: Metric, outputs: Tensor, moved: Tensor, targets: Tensor | None = None
) -> Tensor:
    """Multiply changes of outputs by the metric of each sample: of their shape.

    Targets that are class numbers tell a likelihood which positions are padding.

    Raises
    ------
    ValueError
        A softmax of one logit, which has no Fisher information.
    MemoryEstimateError
        The rows of a likelihood without ``product`` would not fit.
    """
    if metric == "softmax":
        if outputs.shape[1] < 2:
            raise ValueError(
                f"a softmax of one logit is constant, and outputs of shape {tuple(outputs.shape)} "
                "would move nothing: for yes-or-no logits give metric=information.Bernoulli(), for "
                'real outputs metric="euclidean"'
            )
        chances = outputs.softmax(dim=1)
        return chances * (moved - (chances * moved).sum(dim=1, keepdim=True))
    if metric == "euclidean":
        return moved
    assert not isinstance(metric, str)
    if targets is not None and targets.is_floating_point():
        targets = None
    if _multiplies(metric):
        product: Tensor = metric.product(outputs, moved, targets)  # type: ignore[attr-defined]
        return product
    width = outputs[0].numel()
    require_memory(
        4 * outputs.element_size() * len(outputs) * width**2,
        f"the Fisher information at {width} outputs of {len(outputs)} samples",
        f"Give {type(metric).__name__} a method product(outputs, vectors, targets).",
    )
    rows = metric.rows(outputs, targets).flatten(2)
    flat = moved.flatten(1)
    return torch.einsum("nkc,nk->nc", rows, torch.einsum("nkc,nc->nk", rows, flat)).view_as(moved)


def _multiplies(metric: Factors) -> bool:
    """Whether there is a ``product``, and no subclass has given it other ``rows`` since."""
    for kind in type(metric).__mro__:
        if "product" in vars(kind):
            return True
        if "rows" in vars(kind):
            return False
    return False


def squared(
    metric: Metric, outputs: Tensor, moved: Tensor, targets: Tensor | None = None
) -> Tensor:
    """Return the squared length of changes of outputs, by sample: (N,)."""
    products = (moved * lowered(metric, outputs, moved, targets)).flatten(1).sum(dim=1)
    return products.double().clamp(min=0)


def require_metric(metric: Any) -> None:
    """Raise where a metric is none.

    Raises
    ------
    ValueError
        Another word.
    TypeError
        Nothing with a method ``rows``.
    """
    if isinstance(metric, str):
        if metric not in ("softmax", "euclidean"):
            raise ValueError(
                f'metric must be "softmax", "euclidean" or a likelihood, got {metric!r}'
            )
    elif isinstance(metric, type) or not callable(getattr(metric, "rows", None)):
        raise TypeError(
            f"metric must be a word or a likelihood such as information.Gaussian(), got {metric!r}"
        )


@contextmanager
def _followed() -> Iterator[None]:
    """Leave aside the fused kernels of attention and recurrence that have no forward mode."""
    attention: Any = torch.backends.mha
    recurrence: Any = torch.backends.mkldnn
    before = attention.get_fastpath_enabled(), recurrence.enabled
    try:
        attention.set_fastpath_enabled(False)
        recurrence.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        attention.set_fastpath_enabled(before[0])
        recurrence.enabled = before[1]


def function_of(model: nn.Module, data: Samples) -> Any:
    """Return the outputs on data as a function of parameters by name."""

    def outputs(values: Parameters) -> Tensor:
        def call(*args: Any, **kwargs: Any) -> Any:
            return functional_call(model, values, args, kwargs)

        with _followed():
            answer = forward(call, data.inputs)
        if not isinstance(answer, Tensor) or answer.ndim < 2:
            raise TypeError(
                "outputs must be one tensor of shape (N, C) or of more axes; wrap the model in a "
                f"module that returns such, got {getattr(answer, 'shape', type(answer).__name__)}"
            )
        return answer

    return outputs


def pushed(
    model: nn.Module, data: Samples, at: Parameters, along: Parameters
) -> tuple[Tensor, Tensor]:
    """Return the outputs, and how they change along a direction of the parameters: one JVP."""
    with torch.no_grad():
        outputs, moved = jvp(function_of(model, data), (at,), (along,))  # type: ignore[misc]
    return outputs, moved


def pulled(model: nn.Module, data: Samples, at: Parameters, vectors: Tensor) -> Parameters:
    """Pull vectors at the outputs back to the parameters: one VJP."""
    with torch.no_grad():
        pull_back = vjp(function_of(model, data), at)[1]
        (gradients,) = pull_back(vectors)
    return gradients  # type: ignore[no-any-return]
