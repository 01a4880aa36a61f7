"""What the reproductions share: a claim is numbers that a rule wants within bounds."""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sklearn
import torch
from torch import Tensor, nn

import geomprobe as gp

FOUND, NOT_FOUND, OPEN = "found again", "not found", "inconclusive"


@dataclass(frozen=True)
class Check:
    """One number, its standard error, and the bounds that the claim puts on it.

    The bounds are written into the script before it is run. The claim is found again where the
    whole 95 % interval lies within them, not found where it lies outside, and open otherwise.

    Parameters
    ----------
    what : str
        In words.
    value, stderr : float
        An exact number has standard error 0.
    at_least, at_most : float

    Raises
    ------
    ValueError
        No number.
    """

    what: str
    value: float
    stderr: float = 0.0
    at_least: float = -math.inf
    at_most: float = math.inf

    def __post_init__(self) -> None:
        if math.isnan(self.value) or math.isnan(self.stderr):
            raise ValueError(f"{self.what} is {self.value} with standard error {self.stderr}")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.value - 1.96 * self.stderr, self.value + 1.96 * self.stderr

    @property
    def verdict(self) -> str:
        """What the rule says."""
        low, high = self.interval
        if self.at_least <= low and high <= self.at_most:
            return FOUND
        return NOT_FOUND if high < self.at_least or low > self.at_most else OPEN


def verdict(checks: Sequence[Check]) -> str:
    """Return what all checks say together: the claim stands if each stands, and falls with one."""
    found = {check.verdict for check in checks}
    return NOT_FOUND if NOT_FOUND in found else OPEN if OPEN in found else FOUND


def mean(values: Any) -> tuple[float, float]:
    """Return the mean over seeds and its standard error."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers)))


def slope(x: Any, y: Any) -> tuple[float, float]:
    """Return the log-log slope of y, of shape (seeds, x), in x: mean over seeds, its error."""
    return mean([np.polyfit(np.log(x), np.log(row), 1)[0] for row in np.atleast_2d(y)])


def train_together(
    models: Sequence[nn.Module], x: Tensor, y: Tensor, *, steps: int, lr: float, batch: int = 0
) -> None:
    """Train networks of one architecture at once, by Adam with a falling step size.

    Parameters
    ----------
    models : sequence of torch.nn.Module
    x, y : Tensor
        Inputs and classes of each network, of shape (models, n, ...) and (models, n).
    steps : int
    lr : float
    batch : int
        Samples of a step, drawn for each network anew; by default all.
    """
    parameters, _ = torch.func.stack_module_state(list(models))
    each = torch.arange(len(models))[:, None]

    def loss(values: dict[str, Tensor], inputs: Tensor, classes: Tensor) -> Tensor:
        outputs = torch.func.functional_call(models[0], values, (inputs,))
        return nn.functional.cross_entropy(outputs, classes)

    losses = torch.func.vmap(loss)
    optimizer = torch.optim.Adam(parameters.values(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        inputs, classes = x, y
        if batch:
            rows = torch.randint(x.shape[1], (len(models), batch))
            inputs, classes = x[each, rows], y[each, rows]
        optimizer.zero_grad()
        losses(parameters, inputs, classes).sum().backward()
        optimizer.step()
        schedule.step()
    for k, model in enumerate(models):
        model.load_state_dict({name: value[k].detach() for name, value in parameters.items()})


class Missing(Exception):
    """Data or a model that this machine does not have; the message says how to get it."""


def example(name: str) -> ModuleType:
    """Return an example as a module, for its data and its model.

    Raises
    ------
    Missing
        What it imports is not installed.
    """
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise Missing(f"{error.name} is not installed: see examples/{name}.py") from error


def reproduce(measure: Callable[[bool], tuple[list[Check], Any]]) -> None:
    """Run a reproduction from the command line: print what came out, and write figure and JSON.

    Parameters
    ----------
    measure : callable
        ``measure(smoke)`` returns checks and a matplotlib figure. With ``smoke`` it is as small as
        can be: a test that all runs, whose numbers say nothing. Where it raises :class:`Missing`
        nothing is written, so that what another machine has found stays.
    """
    script = Path(sys.argv[0])
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--smoke", action="store_true", help="seconds; the numbers say nothing")
    parser.add_argument("--output", type=Path, default=Path("reproductions"), help="folder")
    asked = parser.parse_args()
    started = time.perf_counter()
    try:
        checks, figure = measure(asked.smoke)
    except Missing as reason:
        print(f"{script.stem}: skipped, {reason}")
        return
    seconds = time.perf_counter() - started
    asked.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(asked.output / f"{script.stem}.png", dpi=110, bbox_inches="tight")
    document = {
        "verdict": verdict(checks),
        "checks": [
            {
                "what": check.what,
                "value": float(check.value),
                "interval": [float(end) for end in check.interval],
                "at_least": None if math.isinf(check.at_least) else check.at_least,
                "at_most": None if math.isinf(check.at_most) else check.at_most,
                "verdict": check.verdict,
            }
            for check in checks
        ],
        "smoke": asked.smoke,
        "seconds": round(seconds),
        "versions": {
            "geomprobe": gp.__version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    (asked.output / f"{script.stem}.json").write_text(text, encoding="utf-8")
    for check in checks:
        print(f"{check.verdict:13} {check.value:10.4g}  {check.what}")
    print(f"{script.stem}: {document['verdict']}, after {seconds:.0f} s")
