"""Margins of a classifier, and how they grow as a homogeneous model trains on."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.dynamics.time_blocks import block_jackknife, t_interval
from geomprobe.evidence import Samples, forward, require_samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.hooks.precise import in_precision
from geomprobe.hooks.selection import unwrap
from geomprobe.jacobians import trainable_parameters
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLOCKS = 5
_FEWEST = 2 * _BLOCKS


def margins(model: nn.Module, data: Samples) -> Array:
    r"""Return the margin of each sample: positive where it is classified rightly.

    .. math::
        m_n = f_{y_n}(x_n) - \max_{j \ne y_n} f_j(x_n)

    Parameters
    ----------
    model : torch.nn.Module
        With logits of shape (N, C), or of shape (N,) or (N, 1) for two classes, whose margin is
        the logit of the right sign. Looked at in evaluation mode.
    data : Samples
        Targets are class numbers; for one logit 0 and 1, or -1 and 1.

    Returns
    -------
    array of shape (N,)

    Raises
    ------
    ValueError
        No samples, outputs of another shape, targets that do not fit them.
    TypeError
        Data that are no samples of tensors.
    """
    require_samples(data, targets=True)
    assert data.targets is not None
    targets, parameter = data.targets, next(model.parameters(), None)
    if parameter is not None:
        data = data.to(parameter.device)
    with quiet(model), torch.no_grad():
        outputs = forward(model, data.inputs)
    return margins_of(outputs, targets)


def margins_of(outputs: Tensor, targets: Tensor) -> Array:
    """Return the margin of each row of logits; see :func:`margins`."""
    logits, labels = outputs.detach().double().cpu(), targets.detach().cpu()
    if logits.ndim not in (1, 2) or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be of shape (N, C), or (N,) for two classes, and targets of shape (N,); "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    single = logits.ndim == 1 or logits.shape[1] == 1
    known = set(np.unique(labels.numpy()).astype(float).tolist())
    if single:
        if not (known <= {0.0, 1.0} or known <= {-1.0, 1.0}):
            raise ValueError(f"targets of one logit are 0 and 1, or -1 and 1, got {sorted(known)}")
        signs = torch.where(labels > 0, 1.0, -1.0).double()
        found: Array = (signs * logits.reshape(-1)).numpy()
        return found
    if not known <= set(map(float, range(logits.shape[1]))):
        raise ValueError(
            f"targets must be class numbers below {logits.shape[1]}, got {sorted(known)[:10]}"
        )
    right = torch.nn.functional.one_hot(labels.long(), logits.shape[1]).bool()
    others = logits.masked_fill(right, -math.inf).amax(dim=1)
    found = (logits[right] - others).numpy()
    if undefined := int(np.isnan(found).sum()):
        raise ValueError(
            f"the logits of {undefined} of {len(found)} samples are not numbers: leave such "
            "samples out, or mend the model"
        )
    return found


def homogeneity_degree(model: nn.Module, data: Samples, *, tolerance: float = 1e-3) -> float:
    r"""Measure the degree L of a model that is positively homogeneous in its parameters.

    .. math::
        f(s \theta; x) = s^L f(\theta; x), \qquad s > 0

    Parameters
    ----------
    model : torch.nn.Module
        A copy is looked at, in evaluation mode and in double precision.
    data : Samples
        Inputs.
    tolerance : float
        Of differences, relative to the largest output.

    Returns
    -------
    float
        From s = 2, and confirmed at s = 1/2 and 5/4: the number of layers, for a network of layers
        without biases and with ReLU between.

    Raises
    ------
    ValueError
        The model is not homogeneous; the message says by how much. Biases in any layer but the
        first, normalisation with eps, skip connections of unlike depth, and smooth activations
        make it so.
    TypeError
        Data that are no samples of tensors.
    """
    own, inputs = _double(model, data)
    at_one = _outputs(own, inputs, 1.0)
    size = float(at_one.abs().max())
    if not math.isfinite(size) or not size:
        raise ValueError("all outputs are zero or not finite, and scale as anything")
    twice = _outputs(own, inputs, 2.0)
    ratio = float((twice * at_one).sum() / (at_one * at_one).sum())
    degree = math.log2(ratio) if ratio > 0 else math.nan
    for factor in (2.0, 0.5, 1.25):
        scaled = at_one * factor**degree
        off = float((_outputs(own, inputs, factor) - scaled).abs().max())
        if not off <= tolerance * max(size, float(scaled.abs().max())):
            raise ValueError(
                "the model is not homogeneous in its parameters: with all of them times "
                f"{factor:g} its outputs differ by {off:.2g} from a power of that times what they "
                f"were, which are up to {size:.2g}. Biases beyond the first layer, normalisation, "
                "skip connections and smooth activations make it so; there is no normalised margin"
            )
    return degree


@dataclass(frozen=True, eq=False)
class MarginGrowth(ByValue):
    """Margins along training; made by :func:`margin_growth`.

    Parameters
    ----------
    steps : int array of shape (T,)
    smallest : array of shape (T,)
        Smallest margin of the samples, negative where some are wrong.
    norms : array of shape (T,)
        Norm of the parameters.
    normalized : array of shape (T,)
        Smallest margin over the norm to the power of the degree.
    to_last : array of shape (T,)
        Degrees between the parameters and the last ones.
    degree : float
        Of homogeneity.
    slope : Estimate
        Of the smallest margin over log step, at the steps at which all samples are right.
    """

    steps: Array
    smallest: Array
    norms: Array
    normalized: Array
    to_last: Array
    degree: float
    slope: Estimate

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the slope, by Student's t."""
        return t_interval(self.slope, _BLOCKS)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the normalised margin over the step, on a logarithmic axis."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.semilogx(self.steps, self.normalized)
        axes.axhline(0, color="gray", lw=0.5)
        axes.set(xlabel="step", ylabel="normalised margin")
        return axes


def margin_growth(
    model: nn.Module,
    data: Samples,
    states: Iterable[Mapping[str, Tensor]],
    steps: Sequence[int],
) -> MarginGrowth:
    r"""Follow the normalised margin of a homogeneous classifier through training.

    .. math::
        \bar\gamma = \frac{\min_n m_n}{\lVert \theta \rVert^L}

    Parameters
    ----------
    model : torch.nn.Module
        Homogeneous in its parameters; a copy is looked at.
    data : Samples
        The training samples and class numbers.
    states : iterable of dict of str to Tensor
        Parameters by name at two moments or more, such as copies of ``state_dict()`` or what
        :func:`~geomprobe.dynamics.parameter_states` yields.
    steps : sequence of int
        Optimizer step of each, growing, from 1 on.

    Returns
    -------
    MarginGrowth

    Raises
    ------
    ValueError
        A model that is not homogeneous, frozen parameters, steps that do not grow or are not as
        many as states.
    TypeError
        Data that are no samples of tensors.

    Notes
    -----
    With logistic or cross-entropy loss, once all samples are right, gradient flow never lets the
    (smoothed) normalised margin fall (Lyu and Li), and the direction tends to one that is
    stationary for the largest margin: for linear models, the largest (Soudry et al.). But the loss
    falls as 1/t, so that the smallest margin grows as log t, and the direction converges as slowly
    as 1/log t: ten times the training gives one more step of :math:`\ln 10`. No trend says how far
    the limit is. The slope is over log t by least squares, its standard error by leaving out one of
    five stretches of the states; for gradient descent with a constant rate it tends to 1, whatever
    the degree.

    References
    ----------
    Soudry, D., Hoffer, E., Nacson, M. S., Gunasekar, S. and Srebro, N. (2018). The implicit bias of
    gradient descent on separable data. JMLR 19, theorems 3 and 5. Lyu, K. and Li, J. (2020).
    Gradient descent maximizes the margin of homogeneous neural networks. ICLR, theorem 4.1.
    """
    held, marks = list(states), np.asarray(steps)
    if len(held) < 2 or marks.shape != (len(held),) or not (np.diff(marks) > 0).all():
        raise ValueError(
            f"{len(held)} states and {len(marks)} steps; they must be as many, growing"
        )
    if marks[0] < 1:
        raise ValueError(f"steps are counted from 1, for their logarithm, got {marks[0]}")
    model = unwrap(model)
    names = [*trainable_parameters(model)]
    if len(names) < len(dict(model.named_parameters())):
        raise ValueError("some parameters are frozen, and a norm of the others is no scale")
    own, _ = _double(model, data)
    double, smallest, directions = in_precision(data, torch.float64), [], []
    degree = homogeneity_degree(_at(own, held[-1], names), data)
    for state in held:
        _at(own, state, names)
        smallest.append(margins(own, double).min())
        flat = [state[name].detach().cpu().double().ravel() for name in names]
        directions.append(torch.cat(flat).numpy())
    points, least = np.array(directions), np.array(smallest)
    norms = np.linalg.norm(points, axis=1)
    cosines = points @ points[-1] / (norms * norms[-1])
    return MarginGrowth(
        steps=marks,
        smallest=least,
        norms=norms,
        normalized=least / norms**degree,
        to_last=np.degrees(np.arccos(np.clip(cosines, -1, 1))),
        degree=degree,
        slope=_log_slope(marks, least),
    )


def _log_slope(steps: Array, smallest: Array) -> Estimate:
    right = smallest > 0
    x, y = np.log(steps[right]), smallest[right]
    method = "slope of the smallest margin over log step; jackknife over stretches of states"
    if len(x) < _FEWEST:
        reason = f"all samples are right in {len(x)} states, and {_FEWEST} are needed"
        return Estimate.undefined(reason, n=len(x), method=method)

    def slope(kept: Array) -> float:
        return float(np.polyfit(x[kept], y[kept], 1)[0])

    error = block_jackknife(slope, len(x), _BLOCKS)
    return Estimate(slope(np.ones(len(x), dtype=bool)), error, len(x), method=method)


def _double(model: nn.Module, data: Samples) -> tuple[nn.Module, Any]:
    """Return a copy of a model on the CPU in double precision, and inputs for it."""
    require_samples(data)
    with quiet(model):
        own = copy.deepcopy(unwrap(model)).to("cpu").double()
    for module in own.modules():
        module.training = False
    return own, in_precision(data, torch.float64).inputs


def _outputs(model: nn.Module, inputs: Any, factor: float) -> Tensor:
    """Return the outputs with all parameters times a factor."""
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter.mul_(factor)
        answer = forward(scaled, inputs)
    if not isinstance(answer, Tensor):
        raise TypeError(f"outputs are a {type(answer).__name__}, expected one tensor")
    return answer


def _at(model: nn.Module, state: Mapping[str, Tensor], names: Sequence[str]) -> nn.Module:
    """Put parameters into a model."""
    with torch.no_grad():
        for name in names:
            model.get_parameter(name).copy_(state[name])
    return model
