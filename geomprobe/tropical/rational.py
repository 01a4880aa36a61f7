"""A piecewise-linear network as a difference of two tropical polynomials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.storage import Array
from geomprobe.tropical.branches import hinges
from geomprobe.tropical.inputs import aligned, as_batch
from geomprobe.tropical.polynomials import (
    TooManyTerms,
    TropicalPolynomial,
    largest,
    monomial,
    product,
    scaled,
)
from geomprobe.tropical.recording import record
from geomprobe.tropical.tape import Kink, Still, Tape
from geomprobe.values import ByValue

#: Largest deviation from the network, over its largest output, of a verified form.
ROUNDING = 1e-9


@dataclass(frozen=True)
class _Rational:
    """A difference of two tropical polynomials."""

    positive: TropicalPolynomial
    negative: TropicalPolynomial


# The entries of a quantity in the network, flattened, and its shape.
_Entries = tuple[list[_Rational], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class TropicalForm(ByValue):
    r"""A network as :math:`f_k = P_k - Q_k` with tropical polynomials; of :func:`tropical_form`.

    Parameters
    ----------
    positive, negative : tuple of TropicalPolynomial
        P and Q, one an output, without redundant monomials.
    deviation : float
        Largest difference from the network over its largest output, at random inputs and at the
        vertices of P and Q.
    """

    positive: tuple[TropicalPolynomial, ...]
    negative: tuple[TropicalPolynomial, ...]
    deviation: float

    def __call__(self, x: Array) -> Array:
        """Return the outputs at flattened inputs (n, d), of shape (n, outputs)."""
        pairs = zip(self.positive, self.negative, strict=True)
        outputs: Array = np.stack([p(x) - q(x) for p, q in pairs], axis=1)
        return outputs

    @property
    def verified(self) -> bool:
        """Whether it was seen to equal the network."""
        return self.deviation <= ROUNDING

    @property
    def n_terms(self) -> tuple[tuple[int, int], ...]:
        """Monomials of P and of Q, for each output."""
        return tuple((len(p), len(q)) for p, q in zip(self.positive, self.negative, strict=True))

    def decision_boundary(self, one: int = 0, other: int | None = None) -> TropicalPolynomial:
        r"""Return the polynomial whose tropical hypersurface holds a decision boundary.

        Parameters
        ----------
        one, other : int
            Two outputs; with one alone the boundary is where it is zero.

        Returns
        -------
        TropicalPolynomial
            :math:`\max(P_i + Q_j, P_j + Q_i)`. The boundary is where both are the largest: a part
            of the places where two monomials are; of two inputs :meth:`boundary_segments` gives it.

        Raises
        ------
        ValueError
            No such outputs, or twice the same.

        References
        ----------
        Zhang, L., Naitzat, G. and Lim, L.-H. (2018). Tropical geometry of deep neural networks.
        ICML, proposition 6.1.
        """
        return largest(self._sides(one, other))

    def boundary_segments(
        self, one: int = 0, other: int | None = None, *, box: tuple[float, float] = (-1.0, 1.0)
    ) -> Array:
        """Return where two outputs of a network with two inputs are equal, or one is zero.

        Parameters
        ----------
        one, other : int
            As of :meth:`decision_boundary`.
        box : pair of float
            Least and largest value of both inputs.

        Returns
        -------
        float64 array of shape (n, 2, 2)
            Both ends of each segment within the box, exact to rounding. A cell on which the outputs
            are equal throughout has none.

        Raises
        ------
        ValueError
            Another number of inputs; an empty box; what :meth:`decision_boundary` refuses.
        """
        first, second = self._sides(one, other)
        both = TropicalPolynomial(
            np.concatenate([first.slopes, second.slopes]),
            np.concatenate([first.constants, second.constants]),
        )
        ends, pairs = both.hypersurface(box)
        above = pairs < len(first)
        segments: Array = ends[above[:, 0] != above[:, 1]]
        return segments

    def _sides(self, one: int, other: int | None) -> list[TropicalPolynomial]:
        """Return the two polynomials that are equal on a decision boundary."""
        outputs = len(self.positive)
        for index in (one, one if other is None else other):
            if not 0 <= index < outputs:
                raise ValueError(f"no output {index}: there are {outputs}, from 0 on")
        if one == other:
            raise ValueError(
                f"output {one} has no boundary with itself; give another, or one alone"
            )
        p, q = self.positive[one], self.negative[one]
        if other is None:
            return [p, q]
        r, s = self.positive[other], self.negative[other]
        most = len(p) * len(s) + len(r) * len(q)
        return [product([p, s], most), product([r, q], most)]


def tropical_form(
    model: nn.Module, sample: Any, *, max_terms: int = 4000, seed: int = 0
) -> TropicalForm:
    r"""Write a small piecewise-linear network as a difference of two tropical polynomials.

    .. math::
        f(x) = \max_i (a_i \cdot x + c_i) - \max_j (b_j \cdot x + e_j)

    Parameters
    ----------
    model : torch.nn.Module
        As for :func:`~geomprobe.tropical.linear_pieces`; left as it was.
    sample : tensor
        One input, without the axis of the batch; it says only of what shape inputs are.
    max_terms : int
        Monomials that a polynomial may have, before the redundant ones are removed. Their number
        grows with the neurons to the power of the inputs.
    seed : int
        Of the inputs at which the form is compared with the network.

    Returns
    -------
    TropicalForm
        The pair is not unique: it is what the passage through the layers makes. Its monomials are
        no count of linear regions.

    Raises
    ------
    ValueError
        What :func:`~geomprobe.tropical.linear_pieces` refuses; a polynomial with more monomials
        than ``max_terms``, with where and how many.

    Notes
    -----
    Weights are split into :math:`W^+ - W^-`, and
    :math:`\max(p - q, 0) = \max(p, q) - q`. After every sum redundant monomials are removed: see
    :class:`~geomprobe.tropical.TropicalPolynomial`.

    References
    ----------
    Zhang, L., Naitzat, G. and Lim, L.-H. (2018). Tropical geometry of deep neural networks. ICML.
    """
    if max_terms < 1:
        raise ValueError(f"max_terms must be at least 1, got {max_terms}")
    parts = aligned([sample], ["sample"])
    if len(parts) != 1:
        raise ValueError(f"the input holds {len(parts)} tensors that move, expected one")
    tape = record(model, as_batch(sample))
    rationals = _through(tape, parts[0], max_terms)
    form = TropicalForm(
        tuple(rational.positive for rational in rationals),
        tuple(rational.negative for rational in rationals),
        math.nan,
    )
    return TropicalForm(form.positive, form.negative, _deviation(form, tape, parts[0], seed))


def _through(tape: Tape, sample: torch.Tensor, max_terms: int) -> list[_Rational]:
    """Carry the entries of an input, (1, *shape), through the operations of a network."""
    shape = sample.shape[1:]
    axes = np.eye(math.prod(shape))
    constant = monomial(0 * axes[0], 0.0)
    entries = [_Rational(monomial(axis, 0.0), constant) for axis in axes]
    held: dict[int, _Entries] = {tape.inputs[0]: (entries, tuple(shape))}
    where = "the input"
    for step in tape.steps:
        given = [held[slot] for slot in step.inputs]
        try:
            if step.kink is not None:
                where = step.kink.name
                made = [(_bent(step.kink, given, max_terms, sample.device), step.kink.shape)]
            else:
                made = _affine(step.function, given, max_terms, sample.device)
        except TooManyTerms as error:
            raise ValueError(
                f"a tropical polynomial at {where} has {error} monomials or more, over max_terms = "
                f"{max_terms}. The form is for small networks: linear_pieces and "
                "slice_regions take large ones"
            ) from None
        held |= {s: m for s, m in zip(step.outputs, made, strict=False) if s is not None}
    return held[tape.output][0]


def _affine(
    function: Any, given: Sequence[_Entries], max_terms: int, device: torch.device
) -> list[_Entries]:
    """Apply an affine operation, which is known by what it does to the axes."""
    rationals = [rational for entries, _ in given for rational in entries]
    basis = torch.eye(len(rationals) + 1, dtype=torch.float64, device=device)[:, 1:]
    columns = torch.split(basis, [len(entries) for entries, _ in given], dim=1)
    rows = [part.reshape(-1, *s) for part, (_, s) in zip(columns, given, strict=True)]
    outputs = function(*rows)
    made = []
    for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
        images = output.flatten(1).cpu().numpy()
        weights, biases = (images[1:] - images[0]).T, images[0]
        entries = [
            _combined(rationals, row, float(bias), max_terms)
            for row, bias in zip(weights, biases, strict=True)
        ]
        made.append((entries, tuple(output.shape[1:])))
    return made


def _combined(
    rationals: Sequence[_Rational], weights: Array, bias: float, max_terms: int
) -> _Rational:
    """Return a linear combination. A monomial stays on its side whatever the sign of its weight."""
    used = [int(index) for index in np.flatnonzero(weights)]
    if len(used) == 1 and weights[used[0]] == 1 and bias == 0:
        return rationals[used[0]]
    constant = monomial(np.zeros(rationals[0].positive.slopes.shape[1]), 0.0)
    sides = [monomial(constant.slopes[0], bias)], [constant]
    for index in used:
        weight, rational = float(weights[index]), rationals[index]
        for side, part in enumerate((rational.positive, rational.negative)):
            across = weight < 0 and len(part) > 1
            sides[side ^ across].append(scaled(part, abs(weight) if across else weight))
    return _Rational(product(sides[0], max_terms), product(sides[1], max_terms))


def _bent(
    kink: Kink, given: Sequence[_Entries], max_terms: int, device: torch.device
) -> list[_Rational]:
    if kink.bend.windows is None:
        return _hinged(kink, given[0][0], max_terms, device)
    ((candidates, (units, k)),) = _affine(kink.bend.windows, given, max_terms, device)
    found = []
    for unit in range(units):
        distinct = {id(rational): rational for rational in candidates[unit * k : (unit + 1) * k]}
        found.append(_largest_of(list(distinct.values()), max_terms))
    return found if kink.bend.sign > 0 else [_Rational(r.negative, r.positive) for r in found]


def _largest_of(rationals: Sequence[_Rational], max_terms: int) -> _Rational:
    """Return max_i (p_i - q_i) = max_i (p_i + sum of the other q) - sum of all q."""
    negatives = [rational.negative for rational in rationals]
    raised = [
        product([rational.positive, *negatives[:i], *negatives[i + 1 :]], max_terms)
        for i, rational in enumerate(rationals)
    ]
    return _Rational(largest(raised), product(negatives, max_terms))


def _hinged(
    kink: Kink, rationals: Sequence[_Rational], max_terms: int, device: torch.device
) -> list[_Rational]:
    """Apply a piecewise-linear function to each entry, as a sum of hinges max(u - t, 0)."""
    at, slopes = hinges(kink, torch.zeros(0, dtype=torch.float64, device=device))
    base = at[:1] if len(at) else torch.zeros_like(slopes)
    values = kink.function(base.reshape(1, *kink.shape)).flatten(1)
    biases = (values - slopes[:1] * base)[0].tolist()
    weights = torch.cat([slopes[:1], slopes.diff(dim=0)]).cpu().numpy()
    bent = []
    for j, rational in enumerate(rationals):
        parts = [rational, *(_hinge(rational, float(t)) for t in at[:, j])]
        bent.append(_combined(parts, weights[:, j], biases[j], max_terms))
    return bent


def _hinge(rational: _Rational, threshold: float) -> _Rational:
    """Return max(p - q - t, 0) = max(p - t, q) - q."""
    p, q = rational.positive, rational.negative
    lowered = TropicalPolynomial(p.slopes, p.constants - threshold)
    return _Rational(largest([lowered, q]), q)


def _deviation(form: TropicalForm, tape: Tape, sample: torch.Tensor, seed: int) -> float:
    """Compare a form and a network at random inputs, and at the vertices of P and Q."""
    rng = np.random.default_rng(seed)
    d = sample[0].numel()
    random = [scale * rng.standard_normal((64, d)) for scale in (0.1, 1.0, 10.0)]
    inside = [polynomial.vertices for polynomial in (*form.positive, *form.negative)]
    points = np.concatenate([*random, *inside])
    rows = torch.from_numpy(points).to(sample.device).reshape(-1, *sample.shape[1:])
    outputs = tape.run(Still(), rows).cpu().numpy()
    scale = np.abs(outputs).max(axis=1) + np.abs(points).max(axis=1)
    return float((np.abs(form(points) - outputs).max(axis=1) / scale).max())
