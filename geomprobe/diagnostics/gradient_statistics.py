"""Measures of gradients by sample: Fisher traces, gradient noise, and the Fisher-Rao norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.fisher_trace import mean_over_inputs, sample_traces
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.information.takeuchi import paired_ratio


@dataclass(frozen=True)
class GradientStatistics:
    r"""What gradients by sample say; made by :func:`gradient_statistics`.

    Parameters
    ----------
    fisher_trace : Estimate
        Tr F of the true Fisher information.
    moment_trace : Estimate
        Tr C of the uncentred second moment of the gradients at the labels, the empirical Fisher.
    noise : Estimate
        :math:`\operatorname{tr} C - |\bar g|^2`: the trace of the covariance of those gradients.
    ratio : Estimate
        Tr C / Tr F.
    fisher_rao : Estimate
        :math:`\theta^T F \theta`.
    """

    fisher_trace: Estimate
    moment_trace: Estimate
    noise: Estimate
    ratio: Estimate
    fisher_rao: Estimate


def gradient_statistics(model: nn.Module, data: Samples) -> GradientStatistics:
    """Take the gradients of the cross-entropy of each sample, and of the model's own labels.

    Parameters
    ----------
    model : torch.nn.Module
        A classifier in evaluation mode, left as it was.
    data : Samples
        Inputs and classes.

    Raises
    ------
    ValueError
        What :func:`~geomprobe.information.fisher_trace` refuses.

    Notes
    -----
    By :func:`~geomprobe.information.fisher_trace`: no gradient of a sample is formed where a layer
    has a rule. The Fisher-Rao norm takes one product of the Jacobian with the parameters; for ReLU
    networks of L layers without biases it is L^2 times the mean square of the derivative by the
    outputs along themselves (Liang et al., theorem 3.1, for the labels that F is taken over).

    References
    ----------
    Jiang, Y. et al. (2020). Fantastic generalization measures and where to find them. ICLR
    (gradient noise). Thomas, V. et al. (2020). On the interplay between noise and curvature and its
    effect on optimization and generalization. AISTATS. Liang, T., Poggio, T., Rakhlin, A. and
    Stokes, J. (2019). Fisher-Rao metric, geometry, and complexity of neural networks. AISTATS.
    """
    true, empirical = (_setting(model, data, kind) for kind in ("true", "empirical"))
    of_f, of_c = (sample_traces(one).cpu().numpy() for one in (true, empirical))
    moment = mean_over_inputs(of_c)
    n = len(data)
    rows = _rows(empirical)
    mean = rows.into_parameters(torch.ones(n, dtype=torch.float64, device="cpu") / n**0.5)
    square = sum(float(part.double().square().sum()) for part in mean.values())
    noise = Estimate(
        max(0.0, moment.value - square),
        moment.stderr,
        n,
        method=f"{moment.method}; of the second moment",
    )
    projected = _rows(true).into_rows(_rows(true).parameters())
    return GradientStatistics(
        mean_over_inputs(of_f),
        moment,
        noise,
        paired_ratio(of_c, of_f),
        mean_over_inputs(n * projected.reshape(n, -1).square().sum(dim=1).cpu().numpy()),
    )


def _setting(model: nn.Module, data: Samples, kind: str) -> Setting:
    return setting_of(
        model,
        data,
        kind=kind,
        likelihood=None,
        loss=functional.cross_entropy,
        draws=1,
        seed=0,
        batch_size=None,
        memory_share=0.5,
    )


def _rows(setting: Setting) -> FisherRows:
    return FisherRows(
        setting.model,
        tuple(setting.parameters),
        setting.data,
        setting.cotangents,
        LARGEST_BATCH,
    )
