"""A small network, data, and an analyzer with a closed form."""

import torch
from torch import nn

import geomprobe as gp

X, Y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2


class Spread:
    """Standard deviation of each cloud: an analyzer with a closed form."""

    name = "spread"
    needs = frozenset({"activations"})
    readings = {"sd": "How far the points spread."}

    def __call__(self, evidence):
        for layer, cloud in evidence.clouds.items():
            estimate = gp.Estimate(cloud.points.std(), exact=True, n=len(cloud), method="numpy")
            yield gp.Finding(self.name, layer, {"sd": estimate})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


#: Options of a monitor that observes at once, whatever it costs, one layer.
AT_ONCE = dict(analyzers=Spread(), workers=0, budget=None, layers="0")


def spread(model, layer="0"):
    """What the analyzer says of the model as it is now."""
    monitor = gp.Monitor(model, X, **{**AT_ONCE, "layers": layer})
    return monitor.observe()[0].scalars["sd"].value


class Clock:
    """The step of the observation, as a number that only grows."""

    name = "clock"
    needs = frozenset()
    readings = {"step": "When it is."}

    def __call__(self, evidence):
        yield gp.Finding(self.name, "model", {"step": gp.Estimate(evidence.step, exact=True)})


TIME = "geom/clock/model/step"


def facts(monitor):
    """What an interrupted and an uninterrupted run must have in common."""
    return [(record.step, record.epoch, record.values) for record in monitor.history]
