"""The local learning coefficient of singular learning theory, by Langevin dynamics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.information.curvature import Curvature
from geomprobe.information.eigenpairs import top_eigenpairs
from geomprobe.information.langevin import langevin_chains
from geomprobe.information.objective import Objective, objective_of
from geomprobe.storage import Array
from geomprobe.values import ByValue

#: A split R-hat above this is said beside the number, and so is a larger share of bias.
LARGEST_R_HAT = 1.1
LARGEST_BIAS = 0.1

_LONGEST_BURN_IN = 5000
_NOISE_DRAWS = 16


def local_learning_coefficient(
    model: nn.Module,
    data: Samples,
    *,
    loss: Loss,
    step: float | None = None,
    localization: float = 100.0,
    n_beta: float | None = None,
    chains: int = 4,
    burn_in: int | None = None,
    draws: int = 1000,
    batch_size: int | None = None,
    seed: int = 0,
) -> LocalLearningCoefficient:
    r"""Estimate the local learning coefficient at a model's present parameters.

    .. math::
        \hat\lambda = n\beta \left( E[L_n(w)] - L_n(w^*) \right), \qquad
        w \sim \exp\left( -n\beta L_n(w) - \frac{\gamma}{2} |w - w^*|^2 \right), \qquad
        \beta = \frac{1}{\ln n}

    Parameters
    ----------
    model : torch.nn.Module
        At a minimum w* of its loss. Looked at in evaluation mode, and left as it was; parameters
        with ``requires_grad=False`` are constants.
    data : Samples
        The n training samples.
    loss : callable
        The negative log-likelihood, as the mean over the samples of a batch.
    step : float, optional
        Epsilon of the sampler. By default a fifth of one over the largest curvature of the sampled
        density: the bias of discretisation is then at most 5 % in any direction of a quadratic.
    localization : float
        Gamma, which keeps the chains near w*: at a distance of about the root of p / gamma in a
        flat valley of p parameters. A direction of curvature h counts as
        ``n beta h / (n beta h + gamma)`` of its half.
    n_beta : float, optional
        In place of n / ln n.
    chains : int
        All start at w*.
    burn_in : int, optional
        Steps before the loss is averaged. By default as many as bring the flattest direction to
        within 5 % of its variance, ``3 / (step * localization)``, and at most 5,000.
    draws : int
        Steps of each chain over which it is averaged.
    batch_size : int, optional
        Samples of a step; by default at most 256. It has no part in n beta.
    seed : int

    Returns
    -------
    LocalLearningCoefficient

    Raises
    ------
    ValueError
        A parameter outside its range, fewer than two chains or 20 draws, fewer than three samples,
        or what :func:`~geomprobe.information.curvature` refuses.

    Notes
    -----
    ``chains * (burn_in + draws)`` gradients of batches, all chains at once by ``torch.func.vmap``
    where that can follow the model, and as many losses again while averaging. O(chains * p) memory.
    After Ctrl-C the draws that were done are used.

    References
    ----------
    Lau, E., Furman, Z., Wang, G., Murfet, D. and Wei, S. (2023). The local learning coefficient: a
    singularity-aware complexity measure. arXiv:2308.12108. Watanabe, S. (2013). A widely applicable
    Bayesian information criterion. JMLR 14.
    """
    if chains < 2 or draws < 20 or (burn_in is not None and burn_in < 0):
        raise ValueError(
            "expected at least 2 chains and 20 draws, and a burn_in that is not negative; got "
            f"{chains}, {draws} and {burn_in}"
        )
    if not 0 <= localization < math.inf:
        raise ValueError(f"localization must be finite and not negative, got {localization}")
    for name, value in (("step", step), ("n_beta", n_beta)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if len(data) < 3 and n_beta is None:
        raise ValueError(f"n / ln n needs at least 3 samples, got {len(data)}; or give n_beta")
    objective = objective_of(model, data, loss, batch_size=batch_size)
    n_beta = len(data) / math.log(len(data)) if n_beta is None else n_beta
    if step is None:
        step = _stable_step(Curvature(objective, "hessian"), n_beta, localization, seed)
    if burn_in is None:
        relaxation = 3 / max(step * localization, np.finfo(float).tiny)
        burn_in = math.ceil(min(relaxation, _LONGEST_BURN_IN))
    gains, distances = langevin_chains(
        objective,
        chains=chains,
        burn_in=burn_in,
        draws=draws,
        step=step,
        n_beta=n_beta,
        localization=localization,
        batch_size=objective.batch_size,
        seed=seed,
    )
    slope, noise = _slope_and_noise(objective, seed)
    return LocalLearningCoefficient(
        objective.mean(),
        gains,
        distances,
        n_beta,
        step,
        localization,
        burn_in,
        objective.dimension,
        float(torch.linalg.vector_norm(objective.start)),
        slope,
        noise,
    )


def _stable_step(hessian: Curvature, n_beta: float, localization: float, seed: int) -> float:
    sharpest = abs(top_eigenpairs(hessian, which="magnitude", tol=0.1, seed=seed).values[0])
    stiffest = float(n_beta * sharpest + localization)
    if not stiffest > 0:
        raise ValueError(
            "the loss has no curvature here and nothing holds the chains, so that no step follows: "
            "give a step, or a localization above 0"
        )
    return 0.2 / stiffest


def _slope_and_noise(objective: Objective, seed: int) -> tuple[float, float]:
    """Return squared norms: of the gradient at w*, and of what a batch adds to it, on average."""
    gradient = objective.gradient()
    slope = float(gradient.double().square().sum())
    if objective.batch_size >= len(objective.data):
        return slope, 0.0
    generator = torch.Generator().manual_seed(seed)
    size = (_NOISE_DRAWS, objective.batch_size)
    rows = torch.randint(len(objective.data), size, generator=generator, device="cpu")
    added = [objective.gradient(objective.data.take(some)) - gradient for some in rows]
    return slope, float(torch.stack(added).double().square().sum()) / _NOISE_DRAWS


@dataclass(frozen=True, eq=False)
class LocalLearningCoefficient(ByValue):
    """Chains of losses, and what they say.

    Parameters
    ----------
    initial_loss : float
        L_n(w*), over all data.
    gains : float64 array of shape (chains, draws)
        Losses above that at w*, on the batch of each draw.
    distances : float64 array of shape (chains, draws)
        From w*.
    n_beta, step, localization : float
        As they were used.
    burn_in : int
        Steps before the draws.
    n_parameters : int
        Twice the largest coefficient that there can be.
    norm : float
        ``|w*|``.
    squared_slope, batch_noise : float
        Squared norm of the gradient of L_n at w*, and mean squared norm of what a batch adds to it.
    """

    initial_loss: float
    gains: Array
    distances: Array
    n_beta: float
    step: float
    localization: float
    burn_in: int
    n_parameters: int
    norm: float
    squared_slope: float
    batch_noise: float

    @property
    def estimate(self) -> Estimate:
        """The coefficient; its standard error is the spread of the half chains.

        NaN with a reason where a chain diverged, or the mean is below the loss at w*. A note says
        where the chains disagree or still drift, and where the number is biased by more than a
        tenth of it or larger than it can be.
        """
        chains, draws = self.gains.shape
        method = (
            f"SGLD, {chains} chains of {draws} draws after {self.burn_in} steps, step "
            f"{self.step:.3g}, gamma {self.localization:.3g}, n beta {self.n_beta:.4g}; standard "
            "error over half chains"
        )

        def undefined(reason: str) -> Estimate:
            return Estimate.undefined(reason, n=self.gains.size, method=method)

        if not np.isfinite(self.gains).all():
            return undefined("a chain diverged: take a smaller step or more localization")
        halves = self.n_beta * self._halves().mean(axis=1)
        value = float(halves.mean())
        if value < 0:
            return undefined(
                f"negative ({value:.3g}): the chains found lower losses than at the parameters, "
                "which are not at a minimum. Train further, or take more localization"
            )
        stderr = float(halves.std(ddof=1) / len(halves) ** 0.5)
        note = "; ".join(self._doubts(value))
        return Estimate(value, stderr, self.gains.size, method=method, note=note)

    @property
    def slope_bias(self) -> float:
        r"""At most how much too small the value is, since w* is not at a minimum.

        The chains run down the slope: by :math:`(n\beta)^2 |\nabla L_n(w^*)|^2 / \gamma` in flat
        directions, and half of it in curved ones. NaN without localization.
        """
        if self.localization == 0:
            return math.nan
        return self.n_beta**2 * self.squared_slope / self.localization

    @property
    def batch_bias(self) -> float:
        r"""At most how much too large the value is, since batches shake the chains.

        :math:`\epsilon (n\beta)^2 / 8` times the variance of a batch's gradient, in a quadratic.
        """
        return self.step * self.n_beta**2 * self.batch_noise / 8

    @property
    def r_hat(self) -> float:
        """Split R-hat of the losses: 1 where the chains agree.

        References
        ----------
        Gelman, A. et al. (2013). Bayesian data analysis, 3rd edition, section 11.4.
        """
        halves = self._halves()
        draws = halves.shape[1]
        within = halves.var(axis=1, ddof=1).mean()
        between = halves.mean(axis=1).var(ddof=1)
        if within == 0:
            return 1.0 if between == 0 else math.inf
        return float(math.sqrt((draws - 1) / draws + between / within))

    @property
    def drift(self) -> float:
        """Rise of the mean loss from the first halves to the second, in its standard errors."""
        first, second = np.split(self._halves().mean(axis=1), 2)
        rises = second - first
        error = rises.std(ddof=1) / len(rises) ** 0.5
        return float(rises.mean() / error) if error > 0 else 0.0

    def _halves(self) -> Array:
        half = self.gains.shape[1] // 2
        halves: Array = np.concatenate([self.gains[:, :half], self.gains[:, -half:]])
        return halves

    def _doubts(self, value: float) -> Iterator[str]:
        from scipy.stats import t

        if self.r_hat > LARGEST_R_HAT:
            yield f"the chains disagree (R-hat {self.r_hat:.2f}): take more draws"
        if abs(self.drift) > t.ppf(0.995, len(self.gains) - 1):
            yield f"the losses still drift ({self.drift:.1f} errors): take more burn-in"
        if self.slope_bias > LARGEST_BIAS * value:
            yield (
                f"too small by up to {self.slope_bias:.2g}, since the parameters are not at a "
                "minimum: train further, or take more localization"
            )
        if self.batch_bias > LARGEST_BIAS * value:
            yield (
                f"too large by up to {self.batch_bias:.2g}, by the noise of batches: take larger "
                "ones, or a smaller step"
            )
        if value > self.n_parameters / 2:
            yield (
                f"more than half the number of parameters, {self.n_parameters / 2:g}, which it "
                "cannot be: take a smaller step"
            )

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses of each chain, smoothed over 20 draws, and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        width = min(20, self.gains.shape[1])
        for chain in self.gains:
            smooth = np.convolve(chain, np.full(width, 1 / width), mode="valid")
            ax.plot(self.initial_loss + smooth, linewidth=1)
        ax.axhline(self.initial_loss, color="0.4", linestyle="--", label="at the parameters")
        ax.set(xlabel="draw", ylabel="loss", title=f"coefficient {self.estimate}")
        ax.legend()
        return ax


@dataclass(frozen=True, eq=False)
class LearningCoefficientGrid(ByValue):
    """A local learning coefficient at several settings of its sampler.

    Parameters
    ----------
    steps : array of shape (s,)
    localizations : array of shape (g,)
    values, stderrs, r_hats : arrays of shape (s, g)
        NaN where there is no value.
    """

    steps: Array
    localizations: Array
    values: Array
    stderrs: Array
    r_hats: Array

    def plot(self, ax: Any = None) -> Any:
        """Draw the coefficient against the step, a line a localization, and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        for gamma, values, errors in zip(
            self.localizations, self.values.T, self.stderrs.T, strict=True
        ):
            ax.errorbar(self.steps, values, errors, marker="o", markersize=3, label=f"{gamma:.3g}")
        ax.set(xlabel="step", ylabel="local learning coefficient", xscale="log")
        ax.legend(title="localization")
        return ax


def learning_coefficient_grid(
    model: nn.Module,
    data: Samples,
    *,
    loss: Loss,
    steps: Sequence[float],
    localizations: Sequence[float],
    **options: Any,
) -> LearningCoefficientGrid:
    """Estimate a local learning coefficient at every pair of a step and a localization.

    A number to believe lies where it hardly changes with the step.

    Parameters
    ----------
    model, data, loss, **options
        As for :func:`local_learning_coefficient`, whose errors are raised.
    steps, localizations : sequences of float
    """
    if not len(steps) or not len(localizations):
        raise ValueError("steps and localizations must hold at least one number each")
    found = [
        [
            local_learning_coefficient(
                model, data, loss=loss, step=step, localization=gamma, **options
            )
            for gamma in localizations
        ]
        for step in steps
    ]

    def table(read: Any) -> Array:
        return np.array([[read(one) for one in row] for row in found])

    return LearningCoefficientGrid(
        np.array(steps, dtype=np.float64),
        np.array(localizations, dtype=np.float64),
        table(lambda one: one.estimate.value),
        table(lambda one: one.estimate.stderr),
        table(lambda one: one.r_hat),
    )
