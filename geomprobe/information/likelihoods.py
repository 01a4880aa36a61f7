"""What a model's outputs mean: the likelihood whose Fisher information is asked for.

The Hessian of a likelihood in the outputs, ``H_n = R_n R_n^T``, does not depend on the target for
any likelihood here, so that the factor ``R_n`` gives the expectation over the model's own labels
exactly, without sampling them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@runtime_checkable
class Likelihood(Protocol):
    """How outputs parametrise a distribution of targets.

    One that is hashable and equal by value (a frozen dataclass) lets analyzers share their work.
    """

    def factor(self, outputs: Tensor) -> Tensor:
        """Factor the Fisher information of each sample's outputs.

        Parameters
        ----------
        outputs : Tensor of shape (N, C)
            Outputs of the model.

        Returns
        -------
        Tensor of shape (N, C, K)
            ``R`` with ``R[n] @ R[n].T = E_y[g g^T]``, where g is the gradient of the negative
            log-likelihood in the outputs of sample n and y is drawn from the model.
        """
        ...

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-likelihood of each sample, of shape (N,).

        Raises
        ------
        ValueError
            The targets do not fit the outputs.
        """
        ...


@dataclass(frozen=True)
class Softmax:
    """One of C classes, from logits of shape (N, C).

    Targets are class numbers of shape (N,), or class probabilities of shape (N, C). Normalised
    log-probabilities are logits too.
    """

    def factor(self, outputs: Tensor) -> Tensor:
        """Return R of shape (N, C, C - 1) with ``R R^T = diag(p) - p p^T``.

        With ``s = sqrt(p)``, that matrix is ``diag(s) (I - s s^T) diag(s)``, and the columns but k
        of the Householder reflection that takes e_k to -s are an orthonormal basis of the
        complement of s. With k the most probable class nothing cancels: every entry of R has full
        relative precision, also where the probability of a class rounds to one.
        """
        _require_classes(outputs)
        root = (0.5 * F.log_softmax(outputs, dim=1)).exp()
        n_classes = outputs.shape[1]
        top = root.argmax(dim=1, keepdim=True)
        pivot = torch.zeros_like(root).scatter(1, top, 1.0)
        slope = root / (1 + root.gather(1, top))
        reflection = torch.diag_embed(root) - (root * (root + pivot))[:, :, None] * slope[:, None]
        others = torch.arange(n_classes - 1, device=outputs.device)
        others = others + (others >= top)
        return reflection.gather(2, others[:, None, :].expand(-1, n_classes, -1))

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each sample."""
        _require_classes(outputs)
        n_samples, n_classes = outputs.shape
        if targets.is_floating_point():
            _require_shape(targets, outputs, "class probabilities")
            if not bool(((targets >= 0) & (targets <= 1)).all()):
                raise ValueError("targets of shape (N, C) must be class probabilities in [0, 1]")
            return F.cross_entropy(outputs, targets.to(outputs.dtype), reduction="none")
        if targets.shape != (n_samples,) or targets.dtype == torch.bool:
            raise ValueError(
                f"targets must be class numbers of shape ({n_samples},), got shape "
                f"{tuple(targets.shape)} and dtype {targets.dtype}"
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= n_classes:
            raise ValueError(
                f"targets run from {low} to {high}, but outputs of shape {tuple(outputs.shape)} "
                f"allow class numbers from 0 to {n_classes - 1}"
            )
        return F.cross_entropy(outputs, targets.long(), reduction="none")


@dataclass(frozen=True)
class Gaussian:
    """Real targets: the outputs are the mean of a Gaussian with independent entries.

    Parameters
    ----------
    variance : float
        Variance of each entry. The squared error summed over the outputs of a sample is the
        negative log-likelihood of variance 1/2, up to a constant.
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.variance < float("inf"):
            raise ValueError(f"variance must be positive and finite, got {self.variance}")

    def factor(self, outputs: Tensor) -> Tensor:
        """Return R of shape (N, C, C) with ``R R^T = I / variance``."""
        return torch.diag_embed(torch.full_like(outputs, self.variance**-0.5))

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the Gaussian negative log-likelihood of each sample, constant included."""
        targets = _as_shape(targets, outputs, "real numbers")
        variance = torch.full_like(outputs, self.variance)
        densities = F.gaussian_nll_loss(outputs, targets, variance, full=True, reduction="none")
        return densities.sum(dim=1)


@dataclass(frozen=True)
class Bernoulli:
    """C independent yes-or-no labels, from logits of shape (N, C)."""

    def factor(self, outputs: Tensor) -> Tensor:
        """Return R of shape (N, C, C) with ``R R^T = diag(p (1 - p))``."""
        logs = F.logsigmoid(outputs) + F.logsigmoid(-outputs)
        return torch.diag_embed((0.5 * logs).exp())

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy of each sample, summed over its labels."""
        targets = _as_shape(targets, outputs, "labels in [0, 1]")
        if not bool(((targets >= 0) & (targets <= 1)).all()):
            raise ValueError("targets must be labels in [0, 1]")
        losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return losses.sum(dim=1)


_LIKELIHOOD_OF: tuple[tuple[object, Likelihood], ...] = (
    (F.cross_entropy, Softmax()),
    (nn.CrossEntropyLoss, Softmax()),
    (F.nll_loss, Softmax()),
    (nn.NLLLoss, Softmax()),
    (F.mse_loss, Gaussian(variance=0.5)),
    (nn.MSELoss, Gaussian(variance=0.5)),
    (F.binary_cross_entropy_with_logits, Bernoulli()),
    (nn.BCEWithLogitsLoss, Bernoulli()),
)


def likelihood_of(loss: Any) -> Likelihood:
    """Return the likelihood that a loss stands for.

    Parameters
    ----------
    loss : callable
        ``F.cross_entropy``, ``F.nll_loss`` (of log-probabilities), ``F.mse_loss``,
        ``F.binary_cross_entropy_with_logits``, an instance of the module of one of them, or a
        ``functools.partial`` of one of them.

    Returns
    -------
    Likelihood
        The squared error becomes a :class:`Gaussian` of variance 1/2, whether it averages or sums.
        Reduction, class weights and label smoothing say how the model was trained, not what its
        outputs mean: they change nothing.

    Raises
    ------
    ValueError
        The loss is none of these; a subclass of one is none either, since it may compute anything.
    """
    function = loss
    while isinstance(function, functools.partial):
        function = function.func
    for known, likelihood in _LIKELIHOOD_OF:
        if (type(function) if isinstance(known, type) else function) is known:
            return likelihood
    known_losses = (
        "cross_entropy, nll_loss, mse_loss and binary_cross_entropy_with_logits of "
        "torch.nn.functional, or an instance of the module of one of them"
    )
    if not callable(loss) or isinstance(loss, type):
        raise ValueError(
            f"loss must be a function or an instance, got {loss!r}; known are {known_losses}"
        )
    name = getattr(loss, "__name__", None) or type(loss).__name__
    raise ValueError(
        f"the loss {name!r} does not say what the outputs mean; known are {known_losses}. For "
        "another loss give the analyzers a likelihood, for example "
        "analyzers=[FisherInformation(likelihood=Softmax())], both from geomprobe.information"
    )


def _require_classes(outputs: Tensor) -> None:
    if outputs.shape[1] < 2:
        raise ValueError(
            "a softmax over one class is constant; outputs must have shape (N, C) with C of at "
            "least 2. For one yes-or-no logit use Bernoulli()"
        )


def _require_shape(targets: Tensor, outputs: Tensor, what: str) -> None:
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets must be {what} of the outputs' shape {tuple(outputs.shape)}, "
            f"got shape {tuple(targets.shape)}"
        )


def _as_shape(targets: Tensor, outputs: Tensor, what: str) -> Tensor:
    """Return finite targets in the outputs' dtype; (N,) and (N, 1) mean the same."""
    if outputs.shape[1] == 1 and targets.shape == outputs.shape[:1]:
        targets = targets[:, None]
    _require_shape(targets, outputs, what)
    targets = targets.to(outputs.dtype)
    if not bool(torch.isfinite(targets).all()):
        raise ValueError("targets hold NaN or infinity")
    return targets
