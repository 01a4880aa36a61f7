"""How far an optimizer goes for each coordinate of the gradient, near its present state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Settings of a group and the state of a parameter, to its step sizes; None before it has moments.
Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], Tensor | float | None]


@dataclass(frozen=True, eq=False)
class StepSizes:
    """An optimizer as heavy ball with a step size a coordinate; made by :func:`step_sizes`.

    Parameters
    ----------
    sizes : float64 tensor of shape (P,), on the CPU
        Over the trainable parameters in the model's order; zero where it moves none, as it moves
        none that has had no gradient yet.
    decay : float64 tensor of shape (P,), on the CPU
        Weight decay that is added to the gradient.
    momentum : float
    nesterov : bool
    rule : str
        Name of the optimizer.
    """

    sizes: Tensor
    decay: Tensor
    momentum: float
    nesterov: bool
    rule: str


def step_sizes(model: nn.Module, optimizer: torch.optim.Optimizer) -> StepSizes:
    r"""Return what an optimizer is near its present state: heavy ball with a size a coordinate.

    .. math::
        v \leftarrow \beta v + \nabla L(\theta) + \delta \theta, \qquad
        \theta \leftarrow \theta - \eta \odot v

    with :math:`\eta` the learning rate for SGD;
    :math:`\eta (1 - \beta_1) / \bigl((1 - \beta_1^t)(\sqrt{\hat{v}_t} + \epsilon)\bigr)` for Adam
    at its present second moments; and :math:`\eta / (\sqrt{v_t} + \epsilon)` for RMSprop.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer
        SGD, Adam, AdamW or RMSprop of ``torch.optim``. AdamW's decay, a shrinking by
        :math:`1 - \eta\delta` a step beside the gradient's, is left out.

    Returns
    -------
    StepSizes

    Raises
    ------
    ValueError
        Another optimizer, one that maximizes, one that has no second moments at all, momenta that
        differ between groups, or one that moves no trainable parameter of the model.

    References
    ----------
    Cohen, J. M. et al. (2022). Adaptive gradient methods at the edge of stability.
    arXiv:2207.14484, section 2, for Adam's preconditioner and threshold.
    """
    rule = type(optimizer)
    if rule not in _RULES:
        known = ", ".join(one.__name__ for one in _RULES)
        raise ValueError(f"the steps of {rule.__name__} are not known; known are {known}")
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    sizes, decay, momenta, stepped = [], [], set(), False
    for parameter in (one for one in model.parameters() if one.requires_grad):
        size, extra = torch.zeros((), dtype=torch.float64, device="cpu"), 0.0
        if (group := groups.get(parameter)) is not None:
            if group.get("maximize", False):
                raise ValueError(f"{rule.__name__} maximizes: give the loss with the other sign")
            if (found := _RULES[rule](group, optimizer.state.get(parameter, {}))) is not None:
                size, stepped = torch.as_tensor(found, dtype=torch.float64, device="cpu"), True
            momenta.add((_momentum(group), bool(group.get("nesterov", False))))
            apart = rule is torch.optim.AdamW or group.get("decoupled_weight_decay", False)
            extra = 0.0 if apart else float(group["weight_decay"])
        sizes.append(size.expand(parameter.shape).reshape(-1))
        decay.append(torch.full_like(sizes[-1], extra))
    if not momenta:
        raise ValueError(f"{rule.__name__} moves none of the model's trainable parameters")
    if not stepped:
        raise ValueError("the optimizer has no second moments yet: let it take a step first")
    if len(momenta) > 1:
        raise ValueError(f"groups of {rule.__name__} have different momenta: {sorted(momenta)}")
    ((momentum, nesterov),) = momenta
    return StepSizes(torch.cat(sizes), torch.cat(decay), momentum, nesterov, rule.__name__)


def _momentum(group: Mapping[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group["momentum"])


def _sgd(group: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    kept = 1 - float(group["dampening"]) if group["momentum"] else 1.0
    return float(group["lr"]) * kept


def _adam(group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor | None:
    if not (steps := float(state.get("step", 0))):
        return None
    first, second = map(float, group["betas"])
    square = _doubled(state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"])
    root = (square / (1 - second**steps)).sqrt() + float(group["eps"])
    sizes: Tensor = float(group["lr"]) * (1 - first) / (1 - first**steps) / root
    return sizes


def _rms_prop(group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor | None:
    if not float(state.get("step", 0)):
        return None
    square = _doubled(state["square_avg"])
    if group["centered"]:
        square = square - _doubled(state["grad_avg"]).square()
    sizes: Tensor = float(group["lr"]) / (square.sqrt() + float(group["eps"]))
    return sizes


def _doubled(moment: Tensor) -> Tensor:
    return moment.cpu().double()


_RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.RMSprop: _rms_prop,
}
