"""Optimizer updates as maps of positions and momenta, and what they do to phase space."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jacfwd

from geomprobe.memory import require_memory

#: From positions and momenta of shape (n,) to those one step on.
Update = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
#: From positions of shape (n,) to a number.
Potential = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SymplecticDefect:
    r"""What an update does to the symplectic form; made by :func:`symplectic_defect`.

    Parameters
    ----------
    factor : float
        c, by which the form is scaled best: 1 for a symplectic map.
    defect : float
        Largest entry of :math:`J^T \Omega J - c\, \Omega` in absolute value.
    determinant : float
        Of J: by which volumes are multiplied. It is :math:`c^n` where the defect is zero.
    """

    factor: float
    defect: float
    determinant: float


def symplectic_defect(update: Update, position: Tensor, momentum: Tensor) -> SymplecticDefect:
    r"""Measure how far one step of an optimizer is from conformally symplectic.

    .. math::
        J^T \Omega J = c\, \Omega, \qquad \Omega (q, p) = (p, -q)

    Parameters
    ----------
    update : callable
        From positions and momenta to those one step on, by operations that torch differentiates.
    position, momentum : Tensor of shape (n,)

    Returns
    -------
    SymplecticDefect
        The leapfrog and the symplectic Euler step have c = 1, and heavy-ball momentum
        :math:`\beta` has :math:`c = \beta`: phase space shrinks by :math:`\beta^n` a step,
        whatever the loss. Gradient steps whose size or direction depends on the past otherwise, as
        those of Adam, have no c.

    Raises
    ------
    ValueError
        Shapes that differ, or an update that is not finite there.

    Notes
    -----
    O(n^2) memory and O(n^3) time: J is formed.

    References
    ----------
    Hairer, E., Lubich, C. and Wanner, G. (2006). Geometric Numerical Integration, chapter VI. For
    momentum: França, G., Sulam, J., Robinson, D. P. and Vidal, R. (2020). Conformal symplectic and
    relativistic optimization. NeurIPS.
    """
    if position.ndim != 1 or position.shape != momentum.shape:
        raise ValueError(
            "position and momentum must be vectors of one length, got shapes "
            f"{tuple(position.shape)} and {tuple(momentum.shape)}"
        )
    n = len(position)
    require_memory(
        8 * 16 * n * n, f"the Jacobian of an update of {n} parameters", "Give a smaller model."
    )

    def whole(state: Tensor) -> Tensor:
        return torch.cat(update(state[:n], state[n:]))

    state = torch.cat([position, momentum]).detach().double()
    jacobian: Tensor = jacfwd(whole)(state)
    if not bool(torch.isfinite(jacobian).all()):
        raise ValueError("the update or its derivative is not finite at this state")
    form = torch.zeros(2 * n, 2 * n, dtype=torch.float64, device="cpu")
    form[:n, n:], form[n:, :n] = torch.eye(n, device="cpu"), -torch.eye(n, device="cpu")
    moved = jacobian.T @ form @ jacobian
    factor = float((moved * form).sum()) / (2 * n)
    defect = float((moved - factor * form).abs().max())
    return SymplecticDefect(factor, defect, float(torch.linalg.det(jacobian)))


def heavy_ball(loss: Potential, lr: float, momentum: float) -> Update:
    r"""Return the step of SGD with momentum as a map of phase space.

    .. math::
        p' = \beta p - h \nabla L(q), \qquad q' = q + h p', \qquad h = \sqrt{\eta}

    Parameters
    ----------
    loss : callable
        L, of positions.
    lr : float
        :math:`\eta`.
    momentum : float
        :math:`\beta`.

    Returns
    -------
    callable
        Equal to torch.optim.SGD, whose velocity v is :math:`-p / h`.

    References
    ----------
    Polyak, B. T. (1964). Some methods of speeding up the convergence of iteration methods.
    """
    h = _step(lr)

    def update(q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        p = momentum * p - h * grad(loss)(q)
        return q + h * p, p

    return update


def symplectic_euler(loss: Potential, lr: float) -> Update:
    """Return heavy-ball momentum without friction, with steps of time of the root of ``lr``."""
    return heavy_ball(loss, lr, 1.0)


def leapfrog(loss: Potential, lr: float) -> Update:
    """Return the leapfrog (Störmer-Verlet) step, with steps of time of the root of ``lr``."""
    h = _step(lr)

    def update(q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        p = p - h / 2 * grad(loss)(q)
        q = q + h * p
        return q, p - h / 2 * grad(loss)(q)

    return update


def modified_energy(update: Update, position: Tensor, momentum: Tensor, lr: float) -> Tensor:
    r"""Return the energy that a step of heavy-ball kind multiplies by exactly its factor c.

    .. math::
        \tilde H = \frac{p \cdot q' - q \cdot p'}{2 h}, \qquad h = \sqrt{\eta}

    Parameters
    ----------
    update : callable
    position, momentum : Tensor of shape (n,)
        q and p, with the minimum of the loss at 0.
    lr : float

    Returns
    -------
    Tensor
        A number. For a quadratic loss and a conformally symplectic step it becomes exactly c times
        itself, as :math:`z^T \Omega J z` does under every linear map J with
        :math:`J^T \Omega J = c\, \Omega`. Of the symplectic Euler step with curvature a it is
        :math:`(p^2 + a q^2 - h a q p) / 2`, so that the energy stays within :math:`O(h)` for ever;
        with momentum it falls by :math:`\beta` a step, and amplitudes by :math:`\sqrt\beta` where
        they oscillate. For other losses it is exact only near the minimum.
    """
    q, p = update(position, momentum)
    return (momentum.dot(q) - position.dot(p)) / (2 * _step(lr))


def _step(lr: float) -> float:
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, got {lr}")
    return math.sqrt(lr)
