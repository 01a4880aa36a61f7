"""Architectures ranked by the regions that they can have, for their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.tropical.bounds import RegionBounds, region_bounds
from geomprobe.tropical.conditioning import condition, tangent_spectrum
from geomprobe.tropical.inputs import flattened, rows_of


@dataclass(frozen=True)
class RankedArchitecture:
    """An architecture with its bounds; made by :func:`rank_architectures`.

    Parameters
    ----------
    name : str
    bounds : RegionBounds
    log10_ntk_condition : Estimate
        Decades between the largest and the smallest eigenvalue of the tangent kernel on the data,
        mean over random networks; undefined without data.
    """

    name: str
    bounds: RegionBounds
    log10_ntk_condition: Estimate


def rank_architectures(
    candidates: Mapping[str, Sequence[int] | nn.Module],
    data: Samples | None = None,
    *,
    draws: int = 3,
    seed: int = 0,
) -> list[RankedArchitecture]:
    """Rank fully connected ReLU networks by expressiveness per parameter.

    Experimental: these are bounds of architectures. They say nothing of a given network, and no
    record shows that they predict how well one learns or generalizes.

    Parameters
    ----------
    candidates : mapping of str to sequence of int or torch.nn.Module
        By name, as of :func:`~geomprobe.tropical.region_bounds`: widths of the inputs, each hidden
        layer and the outputs, or a network of those.
    data : Samples, optional
        Inputs, on which the conditioning of the tangent kernel is measured.
    draws : int
        Networks to draw for that, with He weights and biases from N(0, 0.25).
    seed : int
        Of these.

    Returns
    -------
    list of RankedArchitecture
        By ``bounds.bits_per_parameter``, the largest first: the logarithm of the
        number of regions that some weights are proved to have, over the number of parameters.

    Raises
    ------
    ValueError
        No candidates, widths that are none, data of another dimension than a candidate's inputs,
        no draws.

    References
    ----------
    As of :func:`~geomprobe.tropical.region_bounds`; He, K., Zhang, X., Ren, S. and Sun, J. (2015).
    Delving deep into rectifiers. ICCV.
    """
    if not candidates:
        raise ValueError("there are no candidates; give widths by name, {'deep': (2, 8, 8, 1)}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    bounds = {name: region_bounds(widths) for name, widths in candidates.items()}
    inputs: Any = None
    if data is not None:
        inputs = flattened(rows_of(data)[1])
        for name, one in bounds.items():
            if one.widths[0] != inputs.shape[1]:
                raise ValueError(
                    f"{name!r} takes {one.widths[0]} inputs, and the data have {inputs.shape[1]}"
                )
    ranked = [
        RankedArchitecture(name, one, _conditioning(one.widths, inputs, draws, seed))
        for name, one in bounds.items()
    ]
    return sorted(ranked, key=lambda one: -one.bounds.bits_per_parameter)


def _conditioning(widths: Sequence[int], inputs: Any, draws: int, seed: int) -> Estimate:
    if inputs is None:
        return Estimate.undefined("no data to measure the tangent kernel on: give data=")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        network = _he_network(widths, generator)
        found.append(np.log10(condition(tangent_spectrum(network, Samples(inputs.cpu())))))
    method = f"tangent kernel of {draws} networks with He weights on {len(inputs)} inputs"
    singular = int(np.isinf(found).sum())
    if singular:
        note = f"the kernels of {singular} of {draws} networks are singular to rounding"
        return Estimate(np.inf, n=draws, method=method, note=note)
    stderr = float(np.std(found, ddof=1) / np.sqrt(draws)) if draws > 1 else np.nan
    return Estimate(float(np.mean(found)), stderr, draws, method=method)


def _he_network(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Return a network in double precision, with weights of variance 2 / n and biases of 1 / 4."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layer = _untouched(before, after)
        with torch.no_grad():
            layer.weight.normal_(0, (2 / before) ** 0.5, generator=generator)
            layer.bias.normal_(0, 0.5, generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _untouched(before: int, after: int) -> nn.Linear:
    """Return a layer whose weights are not drawn yet, so that no global stream moves."""
    layer = nn.Linear(before, after, device="meta", dtype=torch.float64)
    return layer.to_empty(device="cpu")
