"""How many regions a ReLU architecture can have: bounds, of which a given network knows nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb, prod

import numpy as np
from torch import nn

#: These compute nothing, in evaluation mode.
_NOTHING = (nn.Flatten, nn.Dropout, nn.Identity)


@dataclass(frozen=True)
class RegionBounds:
    """Bounds of the number of regions that a ReLU architecture can have; of :func:`region_bounds`.

    They bound the largest number over all weights. Of a network with given weights they say
    nothing: at initialization it has a vanishing share of the largest number.

    Parameters
    ----------
    widths : tuple of int
        Inputs, hidden units of each layer, outputs.
    montufar : int
        Linear regions that some weights have, the fully folded ones of Montúfar et al. (2014).
    serra, effective, raghu : int
        Activation regions that no weights exceed: by Serra et al. (2018); by Montúfar (2017); by
        the argument of Raghu et al. (2017). Each is at most the next.
    n_parameters : int
        Weights and biases.
    """

    widths: tuple[int, ...]
    montufar: int
    serra: int
    effective: int
    raghu: int
    n_parameters: int

    @property
    def largest(self) -> tuple[int, int]:
        """What is known of the largest number: at least, and at most."""
        return self.montufar, self.serra

    @property
    def exact(self) -> bool:
        """Whether it is known, as for one hidden layer (Zaslavsky)."""
        return self.montufar == self.serra

    @property
    def bits_per_parameter(self) -> float:
        """Binary logarithm of the number of regions that some weights have, over parameters."""
        return _bits(self.montufar) / self.n_parameters


def zaslavsky(n: int, d: int) -> int:
    r"""Return into how many cells n hyperplanes in general position cut R^d.

    .. math::
        \sum_{i \le d} \binom{n}{i}

    References
    ----------
    Zaslavsky, T. (1975). Facing up to arrangements. Memoirs of the AMS 154.
    """
    if n < 0 or d < 0:
        raise ValueError(f"numbers of hyperplanes and dimensions cannot be negative: {n}, {d}")
    return sum(comb(n, i) for i in range(min(n, d) + 1))


def region_bounds(architecture: Sequence[int] | nn.Module) -> RegionBounds:
    r"""Bound the number of regions that a fully connected ReLU network can have.

    Parameters
    ----------
    architecture : sequence of int, or torch.nn.Module
        Widths :math:`n_0, n_1, \ldots, n_L` and the number of outputs: inputs, units of each of L
        hidden layers, outputs; every layer has biases. Or a sequence of ``Linear`` and ``ReLU``
        modules in turn, of which only these are read. Where some lack biases, ``montufar`` may be
        out of reach; the others hold.

    Returns
    -------
    RegionBounds

    Raises
    ------
    ValueError
        Fewer than three widths, or one that is not a positive whole number; another module.

    Notes
    -----
    All numbers are exact.

    - ``montufar`` :math:`= \max_{m} \prod_{l < L} \lfloor n_l / m \rfloor^m \sum_{j \le m}
      \binom{n_L}{j}` over :math:`m \le \min(n_0, \ldots, n_{L-1})`: theorem 4, for networks that
      look at m of their inputs, whose regions are prisms over those in :math:`R^m`.
    - ``serra`` :math:`= \sum_J \prod_l \binom{n_l}{j_l}` with :math:`0 \le j_l \le \min(n_0,
      n_1 - j_1, \ldots, n_{l-1} - j_{l-1}, n_l)`: theorem 1.
    - ``effective`` :math:`= \prod_l \sum_{j \le m_l} \binom{n_l}{j}`, with :math:`m_l = \min(n_0,
      \ldots, n_{l-1})`.
    - ``raghu`` :math:`= \prod_l \sum_{j \le n_0} \binom{n_l}{j} = O(k^{n_0 L})` for width k:
      theorem 1, with the sum from its proof in place of its order.

    References
    ----------
    Montúfar, G., Pascanu, R., Cho, K. and Bengio, Y. (2014). On the number of linear regions of
    deep neural networks. NeurIPS. Montúfar, G. (2017). Notes on the number of linear regions of
    deep neural networks. SampTA. Raghu, M. et al. (2017). On the expressive power of deep neural
    networks. ICML. Serra, T., Tjandraatmadja, C. and Ramalingam, S. (2018). Bounding and counting
    linear regions of deep neural networks. ICML.
    """
    given, unbiased = (
        _widths(architecture) if isinstance(architecture, nn.Module) else (tuple(architecture), 0)
    )
    whole = all(isinstance(width, int | np.integer) and width > 0 for width in given)
    if len(given) < 3 or not whole:
        raise ValueError(
            "widths must be those of the inputs, of one hidden layer or more, and of the outputs, "
            f"all positive whole numbers, got {given}"
        )
    widths = inputs, *hidden, _ = [int(width) for width in given]
    narrowest = [min(inputs, *hidden[:layer]) if layer else inputs for layer in range(len(hidden))]
    return RegionBounds(
        tuple(widths),
        max(_folded(hidden, m) for m in range(1, narrowest[-1] + 1)),
        _serra(hidden, inputs),
        prod(zaslavsky(n, m) for n, m in zip(hidden, narrowest, strict=True)),
        prod(zaslavsky(n, inputs) for n in hidden),
        sum((before + 1) * after for before, after in pairwise(widths)) - unbiased,
    )


def _widths(model: nn.Module) -> tuple[tuple[int, ...], int]:
    """Return the widths of linear layers with a ReLU between any two, and how many biases lack."""
    steps = [step for step in _steps(model) if not isinstance(step, _NOTHING)]
    linear = [step for step in steps[::2] if isinstance(step, nn.Linear)]
    bends = [step for step in steps[1::2] if isinstance(step, nn.ReLU)]
    if len(linear) + len(bends) != len(steps) or len(linear) != len(bends) + 1:
        raise ValueError(
            f"bounds are of fully connected ReLU networks, and the {type(model).__name__} is no "
            "Sequential of Linear modules with a ReLU between any two; give widths"
        )
    unbiased = sum(one.out_features for one in linear if one.bias is None)
    return (linear[0].in_features, *(one.out_features for one in linear)), unbiased


def _steps(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is nn.Sequential:
        for part in model:
            yield from _steps(part)
    else:
        yield model


def _folded(hidden: Sequence[int], m: int) -> int:
    folds: list[int] = [(n // m) ** m for n in hidden[:-1]]
    return prod(folds) * zaslavsky(hidden[-1], m)


def _serra(hidden: Sequence[int], inputs: int) -> int:
    most = min(inputs, max(hidden))
    # From the last layer back: regions of an image, by the dimension that it may have.
    regions = [1] * (most + 1)
    for n in reversed(hidden):
        choose = [comb(n, j) for j in range(min(most, n) + 1)]
        regions = [
            sum(c * regions[min(d, n - j)] for j, c in enumerate(choose[: d + 1]))
            for d in range(most + 1)
        ]
    return regions[-1]


def _bits(count: int) -> float:
    """Return the binary logarithm of a whole number of any size."""
    shift = max(0, count.bit_length() - 60)
    return float(np.log2(count >> shift)) + shift
