"""Measures of how classes lie, and of how predictions hold between and beside training samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.diagnostics.trained import Augment, classes_of, outputs_of
from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.points import as_points


def davies_bouldin(X: Any, labels: Any) -> Estimate:
    r"""Return the Davies-Bouldin index of classes: small where they are tight and far apart.

    The mean over classes of :math:`\max_{j \ne i} (s_i + s_j) / |c_i - c_j|`, for centroids c and
    mean distances s from them.

    Parameters
    ----------
    X : array of shape (n, d)
    labels : array of shape (n,)

    Returns
    -------
    Estimate
        NaN with the reason for fewer than two classes.

    References
    ----------
    Davies, D. L. and Bouldin, D. W. (1979). A cluster separation measure. IEEE PAMI 1. As a measure
    of generalization: Natekar, P. and Sharma, M. (2020). Representation based complexity measures
    for predicting generalization in deep learning. arXiv:2012.02775.
    """
    from sklearn.metrics import davies_bouldin_score

    points = as_points(X)
    if not 1 < len(np.unique(labels)) < len(points):
        reason = "the index needs two classes or more, and more samples than classes"
        return Estimate.undefined(reason, n=len(points))
    return Estimate(float(davies_bouldin_score(points, labels)), exact=True, n=len(points))


def mixup_error(
    model: nn.Module, data: Samples, *, pairs: int = 2000, random_state: int = 0
) -> Estimate:
    """Return how often the midpoint of two samples of one class is not given that class.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        Training inputs, one tensor, and classes.
    pairs : int
        Of different samples of one class; classes as frequent as among the samples.
    random_state : int
        Seed of the pairs.

    Returns
    -------
    Estimate
        NaN with the reason where no class has two samples.

    References
    ----------
    Natekar, P. and Sharma, M. (2020). Representation based complexity measures for predicting
    generalization in deep learning. arXiv:2012.02775. With the Davies-Bouldin index as a factor,
    the winner of the competition on predicting generalization at NeurIPS 2020.
    """
    inputs, classes = _tensors(data)
    same = classes.cpu().numpy()
    counts = np.bincount(same)[same]
    if counts.max() < 2:
        return Estimate.undefined("no class has two samples", n=len(data))
    generator = np.random.default_rng(random_state)
    first = generator.choice(np.flatnonzero(counts > 1), pairs)
    # Some other sample of the class: as many places further on as a number below its size says.
    order = np.argsort(same, kind="stable")
    place = np.argsort(order)
    start = np.searchsorted(same[order], same[first])
    step = generator.integers(1, counts[first])
    second = order[start + (place[first] - start + step) % counts[first]]
    one, other = torch.from_numpy(first), torch.from_numpy(second)
    middle = Samples((inputs[one] + inputs[other]) / 2)
    wrong = outputs_of(model, middle).argmax(1) != classes[one]
    return _share(wrong, f"midpoints of {pairs} pairs")


def noise_error(
    model: nn.Module, data: Samples, *, share: float = 0.5, random_state: int = 0
) -> Estimate:
    """Return the error on training samples with Gaussian noise on them.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        Training inputs, one tensor, and classes.
    share : float
        Standard deviation of the noise, as a share of that of the inputs about their mean.
    random_state : int
        Seed of the noise.
    """
    inputs, classes = _tensors(data)
    generator = torch.Generator().manual_seed(random_state)
    noise = torch.randn(inputs.shape, generator=generator, device="cpu").to(inputs)
    scale = float((inputs - inputs.mean(dim=0)).square().mean().sqrt())
    wrong = outputs_of(model, Samples(inputs + share * scale * noise)).argmax(1) != classes
    return _share(wrong, f"noise of {share:g} standard deviations")


def augmentation_error(
    model: nn.Module, data: Samples, augment: Augment, *, draws: int = 4, random_state: int = 0
) -> Estimate:
    """Return how often an augmented training sample is not given its class.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        Training inputs, one tensor, and classes.
    augment : callable
        ``augment(inputs, generator)``.
    draws : int
        Augmentations of each sample.
    random_state : int
        Seed of the generator.

    References
    ----------
    Aithal, S. K., Kashyap, D. and Subramanyam, N. (2021). Robustness to augmentations as a
    generalization metric. arXiv:2101.06459: the second in the same competition, which weighs
    augmentations of images by hand.
    """
    inputs, classes = _tensors(data)
    generator = torch.Generator().manual_seed(random_state)
    wrong = [
        outputs_of(model, Samples(augment(inputs, generator))).argmax(1) != classes
        for _ in range(draws)
    ]
    return _share(torch.stack(wrong).double().mean(dim=0), f"{draws} augmentations of each sample")


def _tensors(data: Samples) -> tuple[Tensor, Tensor]:
    if not isinstance(data.inputs, Tensor):
        raise ValueError(f"expected inputs of one tensor, to be changed, got {type(data.inputs)}")
    return data.inputs, classes_of(data)


def _share(wrong: Tensor, method: str) -> Estimate:
    each = wrong.double()
    n = len(each)
    return Estimate(float(each.mean()), float(each.std()) / n**0.5, n=n, method=method)
