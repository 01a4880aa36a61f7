"""Neural persistence: how the weights of a layer connect its neurons, from large to small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array


def neural_persistence(
    weight: Any,
    p: float = 2.0,
    *,
    largest: float | None = None,
    normalize: bool = True,
    essential: bool = False,
) -> float:
    """Return the neural persistence of one layer.

    Inputs and outputs of the layer are the vertices of a complete bipartite graph, all there from
    the start, at 1. Its edges, the weights by ``|w|`` / ``largest``, come in from the largest to
    the smallest, down to 0. Each of the n - 1 edges that join two components at w' ends a bar, of
    length 1 - w'. Neural persistence is the p-norm of these lengths: small where weights as large
    as the largest reach every neuron, large where few weights stand out.

    Parameters
    ----------
    weight : array of shape (n_out, n_in, ...)
        Further axes count as inputs: of a convolution, one input is one place of the kernel in one
        channel.
    p : float
        At least 1; ``inf`` gives the longest bar.
    largest : float, optional
        Largest absolute weight of the network, by default of this layer.
    normalize : bool
        Whether to divide by (n - 1)^(1/p), for n vertices: the result then lies in [0, 1].
    essential : bool
        Whether to count the component that remains as one more bar, from 1 to 0. The code published
        with the paper does; its definition and its bound do not.

    Raises
    ------
    ValueError
        Not a real array of two axes or more, an empty one, NaN or infinity, all weights 0, or some
        weight above ``largest``.
    MemoryEstimateError
        The absolute weights would not fit.

    Notes
    -----
    A maximum spanning tree by Prim's algorithm, on the matrix as it is: O((n_out + n_in)^2) time,
    and memory for its absolute values. A weight of 0 is an edge at 0, so that the graph is always
    connected in the end.

    References
    ----------
    Rieck, B., Togninalli, M., Bock, C., Moor, M., Horn, M., Gumbsch, T. and Borgwardt, K. (2019).
    Neural persistence: a complexity measure for deep neural networks using algebraic topology.
    ICLR, Definitions 2 and 3, Algorithm 1.
    """
    if not p >= 1:
        raise ValueError(f"p must be at least 1, got {p}")
    return _norm(_magnitudes(weight, largest), p, normalize, essential)


@dataclass(frozen=True)
class ShuffledControl:
    """Neural persistence of a layer, beside that of the same weights in random places.

    Parameters
    ----------
    value : float
        That of the layer as it is.
    shuffled : tuple of float
        Those of random permutations of all its weights.
    """

    value: float
    shuffled: tuple[float, ...]

    @property
    def mean(self) -> float:
        """What the weights give wherever they are."""
        return float(np.mean(self.shuffled))

    @property
    def spread(self) -> float:
        """Standard deviation over permutations."""
        return float(np.std(self.shuffled, ddof=1))

    @property
    def difference(self) -> float:
        """What the places of the weights add."""
        return self.value - self.mean


def shuffled_control(
    weight: Any,
    p: float = 2.0,
    *,
    largest: float | None = None,
    shuffles: int = 10,
    seed: int | tuple[int, ...] = 0,
) -> ShuffledControl:
    """Compare a layer's neural persistence with that of its weights in random places.

    A layer whose value is that of its shuffled weights says no more by it than their histogram
    does, as Girrbach et al. found of the later layers of deep networks.

    Parameters
    ----------
    weight, p, largest
        As for :func:`neural_persistence`, always normalized.
    shuffles : int
        Number of random permutations, at least 2.
    seed : int or tuple of int
        Seed of the permutations.

    References
    ----------
    Girrbach, L., Christensen, A., Winther, O., Akata, Z. and Koepke, A. S. (2023). Addressing
    caveats of neural persistence with deep graph persistence. TMLR.
    """
    if shuffles < 2:
        raise ValueError(f"shuffles must be at least 2, got {shuffles}")
    if not p >= 1:
        raise ValueError(f"p must be at least 1, got {p}")
    magnitudes = _magnitudes(weight, largest)
    value = _norm(magnitudes, p)
    generator = np.random.default_rng(seed)
    shuffled = []
    for _ in range(shuffles):
        generator.shuffle(magnitudes.reshape(-1))
        shuffled.append(_norm(magnitudes, p))
    return ShuffledControl(value, tuple(shuffled))


def _norm(magnitudes: Array, p: float, normalize: bool = True, essential: bool = False) -> float:
    lengths = 1 - _joining_weights(magnitudes)
    norm = float(np.linalg.norm(np.append(lengths, 1.0) if essential else lengths, p))
    return norm / len(lengths) ** (1 / p) if normalize else norm


def _magnitudes(weight: Any, largest: float | None) -> Array:
    """Return ``|w|`` / largest as a contiguous matrix of its own."""
    given = np.asarray(weight)
    if given.ndim < 2 or not given.size or given.dtype.kind not in "fiu":
        raise ValueError(
            "weight must be a real array of shape (n_out, n_in, ...) that is not empty, got shape "
            f"{given.shape} and dtype {given.dtype}"
        )
    single = given.dtype in (np.float16, np.float32)
    require_memory(
        2 * given.size * (4 if single else 8),
        f"The neural persistence of a layer of shape {given.shape}",
        "Leave this layer out.",
    )
    magnitudes = np.abs(given.astype(np.float32 if single else np.float64, order="C"))
    top = float(magnitudes.max())
    if not np.isfinite(top):
        raise ValueError("weight holds NaN or infinity")
    scale = top if largest is None else float(largest)
    if not 0 < scale < np.inf or top > scale:
        raise ValueError(
            f"largest must be the largest absolute weight, positive and finite, got {scale:g} "
            f"where that of this layer is {top:g}"
        )
    magnitudes /= scale
    return magnitudes.reshape(len(given), -1)


def _joining_weights(matrix: Array) -> Array:
    """Return the weights of a maximum spanning tree of the complete bipartite graph of a matrix."""
    rows, columns = matrix.shape
    # The heaviest edge from the tree to each vertex outside; -1 once it is inside.
    to_row, to_column = np.full(rows, -np.inf), matrix[0].astype(np.float64)
    to_row[0] = -1
    row_outside, column_outside = np.ones(rows, bool), np.ones(columns, bool)
    row_outside[0] = False
    weights = np.empty(rows + columns - 1)
    for i in range(len(weights)):
        row, column = to_row.argmax(), to_column.argmax()
        if to_column[column] >= to_row[row]:
            weights[i], to_column[column] = to_column[column], -1
            column_outside[column] = False
            np.maximum(to_row, matrix[:, column], out=to_row, where=row_outside)
        else:
            weights[i], to_row[row] = to_row[row], -1
            row_outside[row] = False
            np.maximum(to_column, matrix[row], out=to_column, where=column_outside)
    return weights
