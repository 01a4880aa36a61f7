"""What a model's outputs mean: the likelihood whose Fisher information is asked for.

The Hessian of a likelihood in the outputs, ``H_n = R_n R_n^T``, does not depend on the target for
any likelihood here, so that the columns of ``R_n`` give the expectation over the model's own labels
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
    Outputs have shape (N, ...), with the samples first.
    """

    def rows(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Factor the Fisher information of each sample's outputs.

        Parameters
        ----------
        outputs : Tensor of shape (N, ...)
            Outputs of the model.
        targets : Tensor, optional
            They say no more than which positions are padding, and how far off the outputs are.

        Returns
        -------
        Tensor of shape (N, K, ...)
            K vectors a sample whose outer products add up to ``E_y[g g^T]``, where g is the
            gradient of the negative log-likelihood in the outputs of the sample and y is drawn from
            the model.
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

    def sample(
        self, outputs: Tensor, generator: torch.Generator, targets: Tensor | None = None
    ) -> Tensor:
        """Draw targets from the model; padding in the targets stays padding."""
        ...


@dataclass(frozen=True)
class Softmax:
    """One of C classes, from logits; with several positions a sample, one at each of them.

    Normalised log-probabilities are logits too. Targets are class numbers, of the outputs' shape
    without the axis of the classes, or class probabilities of the outputs' shape.

    Parameters
    ----------
    axis : int
        Axis of the classes: 1, as ``torch.nn.functional.cross_entropy`` has it, or -1 for outputs
        of shape (N, T, C) as of most language models.
    ignore_index : int
        Class number of positions that are padding.

    Notes
    -----
    The positions of a sample are independent given its outputs, so that its information is the sum
    of theirs at the outputs. At the parameters gradients of all positions add up first: positions
    are not examples.
    """

    axis: int = 1
    ignore_index: int = -100

    def rows(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return rows whose outer products add up to ``diag(p) - p p^T`` at each position.

        C - 1 a position.
        """
        logits = self._by_position(outputs)
        n, t, c = logits.shape
        factors = _softmax_factor(logits.flatten(0, 1)).view(n, t, c, c - 1)
        if (counted := self._counted(outputs, targets)) is not None:
            factors = factors * counted.reshape(n, -1)[:, :, None, None]
        rows = logits.new_zeros(n, t, c - 1, t, c)
        here = torch.arange(t, device=logits.device)
        rows[:, here, :, here] = factors.permute(1, 0, 3, 2)
        others = outputs.movedim(self.axis, -1).shape[1:]
        return rows.view(n, t * (c - 1), *others).movedim(-1, self.axis % outputs.ndim + 1)

    def product(self, outputs: Tensor, vectors: Tensor, targets: Tensor | None = None) -> Tensor:
        """Multiply vectors of the outputs' shape by what the rows add up to, without the rows."""
        chances = self._by_position(outputs).softmax(dim=2)
        along = self._by_position(vectors)
        product = chances * (along - (chances * along).sum(dim=2, keepdim=True))
        if (counted := self._counted(outputs, targets)) is not None:
            product = product.masked_fill(~counted.reshape(len(outputs), -1, 1), 0.0)
        by_position = outputs.movedim(self.axis, -1).shape
        return product.reshape(by_position).movedim(-1, self.axis)

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each sample, summed over its positions."""
        logits = self._by_position(outputs)
        n, t = logits.shape[:2]
        if targets.is_floating_point():
            _require_shape(targets, outputs, "class probabilities")
            if not bool(((targets >= 0) & (targets <= 1)).all()):
                raise ValueError(
                    "targets of the outputs' shape must be class probabilities in [0, 1]"
                )
            given = self._by_position(targets.to(outputs.dtype)).flatten(0, 1)
        else:
            given = self._classes(outputs, targets).flatten()
        losses = F.cross_entropy(
            logits.flatten(0, 1), given, reduction="none", ignore_index=self.ignore_index
        )
        return losses.view(n, t).sum(dim=1)

    def sample(
        self, outputs: Tensor, generator: torch.Generator, targets: Tensor | None = None
    ) -> Tensor:
        """Draw class numbers."""
        chances = self._by_position(outputs).softmax(dim=2).flatten(0, 1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        drawn = drawn.view(outputs.movedim(self.axis, -1).shape[:-1])
        if targets is None or targets.is_floating_point():
            return drawn
        return torch.where(targets == self.ignore_index, self.ignore_index, drawn)

    def _by_position(self, outputs: Tensor) -> Tensor:
        """Return outputs as (N, T, C), or refuse them."""
        axes = outputs.ndim
        if axes < 2 or not -axes < self.axis < axes or self.axis == 0:
            raise ValueError(
                f"outputs have shape {tuple(outputs.shape)}, expected logits of shape (N, C), or "
                f"of more axes with the classes along axis {self.axis}; wrap the model, or say "
                "Softmax(axis=-1)"
            )
        if outputs.shape[self.axis] < 2:
            raise ValueError(
                f"a softmax over one class is constant; outputs of shape {tuple(outputs.shape)} "
                f"have the classes along axis {self.axis}, and there must be at least 2. For "
                "yes-or-no logits use Bernoulli()"
            )
        logits = outputs.movedim(self.axis, -1)
        return logits.reshape(len(outputs), -1, logits.shape[-1])

    def _counted(self, outputs: Tensor, targets: Tensor | None) -> Tensor | None:
        """Return which positions are no padding; None where the targets do not tell."""
        if targets is None or targets.is_floating_point():
            return None
        self._require_positions(outputs, targets)
        return targets != self.ignore_index

    def _require_positions(self, outputs: Tensor, targets: Tensor) -> None:
        expected = outputs.movedim(self.axis, -1).shape[:-1]
        if targets.shape != expected:
            raise ValueError(
                f"targets must be class numbers of shape {tuple(expected)}, got shape "
                f"{tuple(targets.shape)} and dtype {targets.dtype}: outputs of shape "
                f"{tuple(outputs.shape)} have the classes along axis {self.axis}, or say "
                "Softmax(axis=-1)"
            )

    def _classes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self._require_positions(outputs, targets)
        if targets.dtype == torch.bool:
            raise ValueError(f"targets must be class numbers, got dtype {targets.dtype}")
        counted = targets[targets != self.ignore_index]
        low, high = (int(counted.min()), int(counted.max())) if counted.numel() else (0, 0)
        if low < 0 or high >= outputs.shape[self.axis]:
            raise ValueError(
                f"targets run from {low} to {high}, but outputs of shape {tuple(outputs.shape)} "
                f"allow class numbers from 0 to {outputs.shape[self.axis] - 1}, and "
                f"{self.ignore_index} for padding"
            )
        return targets.long()


@dataclass(frozen=True)
class Gaussian:
    """Real targets: the outputs are the mean of a Gaussian with independent entries.

    Parameters
    ----------
    variance : float, optional
        Variance of each entry; by default 1. The squared error summed over the outputs of a sample
        is the negative log-likelihood of variance 1/2, up to a constant. None stands for the mean
        squared difference of outputs and targets, its most likely value.
    """

    variance: float | None = 1.0

    def __post_init__(self) -> None:
        if self.variance is not None and not 0 < self.variance < float("inf"):
            raise ValueError(f"variance must be positive and finite, got {self.variance}")

    def rows(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return rows whose outer products add up to ``I / variance``."""
        deviation = self._variance(outputs, targets) ** 0.5
        return _diagonal(torch.full_like(outputs, 1 / deviation))

    def product(self, outputs: Tensor, vectors: Tensor, targets: Tensor | None = None) -> Tensor:
        """Multiply vectors of the outputs' shape by what the rows add up to, without the rows."""
        return vectors / self._variance(outputs, targets)

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the Gaussian negative log-likelihood of each sample, constant included."""
        targets = _as_shape(targets, outputs, "real numbers")
        variance = torch.full_like(outputs, self._variance(outputs.detach(), targets))
        densities = F.gaussian_nll_loss(outputs, targets, variance, full=True, reduction="none")
        return _summed(densities)

    def sample(
        self, outputs: Tensor, generator: torch.Generator, targets: Tensor | None = None
    ) -> Tensor:
        """Draw real numbers."""
        noise = torch.empty_like(outputs).normal_(generator=generator)
        drawn: Tensor = outputs + self._variance(outputs, targets) ** 0.5 * noise
        return drawn

    def _variance(self, outputs: Tensor, targets: Tensor | None) -> float:
        if self.variance is not None:
            return self.variance
        if targets is None:
            raise ValueError(
                "Gaussian(variance=None) estimates the variance from targets, and there are none"
            )
        targets = _as_shape(targets, outputs, "real numbers")
        variance = float((outputs - targets).square().mean())
        if not variance > 0:
            raise ValueError("outputs and targets are equal: there is no variance to estimate")
        return variance


@dataclass(frozen=True)
class Bernoulli:
    """Independent yes-or-no labels, one an output, from logits."""

    def rows(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return rows whose outer products add up to ``diag(p (1 - p))``."""
        logs = F.logsigmoid(outputs) + F.logsigmoid(-outputs)
        return _diagonal((0.5 * logs).exp())

    def product(self, outputs: Tensor, vectors: Tensor, targets: Tensor | None = None) -> Tensor:
        """Multiply vectors of the outputs' shape by what the rows add up to, without the rows."""
        return vectors * (F.logsigmoid(outputs) + F.logsigmoid(-outputs)).exp()

    def negative_log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy of each sample, summed over its labels."""
        targets = _as_shape(targets, outputs, "labels in [0, 1]")
        if not bool(((targets >= 0) & (targets <= 1)).all()):
            raise ValueError("targets must be labels in [0, 1]")
        losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return _summed(losses)

    def sample(
        self, outputs: Tensor, generator: torch.Generator, targets: Tensor | None = None
    ) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(outputs.sigmoid(), generator=generator)


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
        outputs mean: they change nothing. An ``ignore_index`` is kept.

    Raises
    ------
    ValueError
        The loss is none of these; a subclass of one is none either, since it may compute anything.
    """
    function, padding = loss, None
    while isinstance(function, functools.partial):
        padding = function.keywords.get("ignore_index", padding) if padding is None else padding
        function = function.func
    padding = getattr(function, "ignore_index", padding)
    for known, likelihood in _LIKELIHOOD_OF:
        if (type(function) if isinstance(known, type) else function) is known:
            return likelihood if padding is None else Softmax(ignore_index=padding)
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


def _softmax_factor(logits: Tensor) -> Tensor:
    """Return R of shape (N, C, C - 1) with ``R R^T = diag(p) - p p^T``.

    With ``s = sqrt(p)``, that matrix is ``diag(s) (I - s s^T) diag(s)``, and the columns but k of
    the Householder reflection that takes e_k to -s are an orthonormal basis of the complement of s.
    With k the most probable class nothing cancels: every entry of R has full relative precision,
    also where the probability of a class rounds to one.
    """
    root = (0.5 * F.log_softmax(logits, dim=1)).exp()
    n_classes = logits.shape[1]
    top = root.argmax(dim=1, keepdim=True)
    pivot = torch.zeros_like(root).scatter(1, top, 1.0)
    slope = root / (1 + root.gather(1, top))
    reflection = torch.diag_embed(root) - (root * (root + pivot))[:, :, None] * slope[:, None]
    others = torch.arange(n_classes - 1, device=logits.device)
    others = others + (others >= top)
    return reflection.gather(2, others[:, None, :].expand(-1, n_classes, -1))


def _diagonal(entries: Tensor) -> Tensor:
    """Return one row an entry of each sample, of shape (N, K, ...)."""
    flat = entries.reshape(len(entries), -1)
    return torch.diag_embed(flat).view(*flat.shape, *entries.shape[1:])


def _summed(losses: Tensor) -> Tensor:
    return losses.reshape(len(losses), -1).sum(dim=1)


def _require_shape(targets: Tensor, outputs: Tensor, what: str) -> None:
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets must be {what} of the outputs' shape {tuple(outputs.shape)}, "
            f"got shape {tuple(targets.shape)}"
        )


def _as_shape(targets: Tensor, outputs: Tensor, what: str) -> Tensor:
    """Return finite targets in the outputs' dtype; (N,) and (N, 1) mean the same."""
    if {targets.shape, outputs.shape} == {(len(outputs),), (len(outputs), 1)}:
        targets = targets.reshape(outputs.shape)
    _require_shape(targets, outputs, what)
    targets = targets.to(outputs.dtype)
    if not bool(torch.isfinite(targets).all()):
        raise ValueError("targets hold NaN or infinity")
    return targets
