"""How densely a piecewise-linear model bends around data, and how far data move in its complex."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import nn

from geomprobe.evidence import Evidence, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks import quiet
from geomprobe.tropical.boundary_distance import distances_on
from geomprobe.tropical.limits import NoRegions
from geomprobe.tropical.local_complexity import DIRECTIONS, complexity_on
from geomprobe.tropical.patterns import activation_patterns, moves_between, patterns_on
from geomprobe.tropical.recording import record_on


@dataclass(frozen=True)
class RegionDensity:
    """How densely a model of ReLU type bends around data, without enumerating its regions.

    Parameters
    ----------
    radius : float, optional
        Of the neighbourhoods in which bends are counted, in the units of the inputs; by default 5 %
        of the root mean square distance of the inputs from their mean.
    directions : int
        Random directions of each neighbourhood.
    wall_directions : int
        In inputs of more dimensions, distances are those in random subspaces of so many, and
        nothing is certified.
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about the model and one about each module that bends; of a model that is not
    piecewise linear all numbers are undefined, with the reason. Arrays:
    ``boundary_distances`` and, if all directions were looked at, ``certified_radii``, sorted; of
    the model only.
    """

    radius: float | None = None
    directions: int = DIRECTIONS
    wall_directions: int = 64
    max_samples: int = 128

    name: ClassVar[str] = "region_density"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "How many regions the network has in all, or how well it does: bends are counted near "
        "these inputs."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "local_complexity": "Units that bend within a small neighbourhood of an input, on average: "
        "the density of linear regions around the data; it changes with the radius.",
        "pattern_entropy": "Entropy in bits of which activation region an input lies in: at most "
        "log2 of the number of inputs, and near it where each has a region of its own.",
        "distinct_patterns": "How many activation regions the inputs lie in.",
        "unit_entropy": "Entropy in bits of the branch that a unit is on, mean over units: 0 where "
        "each keeps to one branch, 1 where each halves the inputs; more where maxima are taken.",
        "dead_units": "Share of the units that have slope 0 at every input.",
        "boundary_distance": "Median distance from an input to the nearest wall of its activation "
        "region: so far the model is the same affine map in all directions.",
        "certified_radius": "Median radius within which the largest output is proved to stay the "
        "largest, by the affine map of the region alone: a lower bound of robustness.",
    }

    def __post_init__(self) -> None:
        require_counts(
            1,
            directions=self.directions,
            wall_directions=self.wall_directions,
            max_samples=self.max_samples,
        )
        if self.radius is not None and not 0 < self.radius < np.inf:
            raise ValueError(f"radius must be positive and finite, got {self.radius}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model and one about each module that bends."""
        assert evidence.model is not None
        model, (data, note) = evidence.model, evidence.at_most(self.max_samples)
        try:
            recorded = record_on(model, data)
        except NoRegions as reason:
            yield _undefined(self.name, self.readings, reason)
            return
        patterns = patterns_on(recorded)
        near = complexity_on(recorded, self.radius, self.directions, evidence.seed)
        walls = distances_on(recorded, self.wall_directions, evidence.seed)
        scalars = {
            "local_complexity": near.total,
            "pattern_entropy": patterns.entropy(),
            "distinct_patterns": Estimate(patterns.n_patterns, n=len(data), exact=True),
            "unit_entropy": patterns.unit_entropy(),
            "dead_units": patterns.dead_units,
            "boundary_distance": walls.median(),
            "certified_radius": walls.median("certified"),
        }
        arrays = {"boundary_distances": np.sort(walls.distances)}
        if walls.directions == walls.dimension:
            arrays["certified_radii"] = np.sort(walls.certified)
        notes = [note, f"Neighbourhoods have radius {near.radius:.3g}."]
        yield Finding(self.name, "model", scalars, arrays, tuple(filter(None, notes)))
        for bend, complexity in near.by_bend().items():
            yield Finding(
                self.name,
                bend,
                {
                    "local_complexity": complexity,
                    "pattern_entropy": patterns.entropy(bend),
                    "unit_entropy": patterns.unit_entropy(bend),
                    "dead_units": Estimate(patterns.dead[bend], n=len(data), exact=True),
                },
            )


@dataclass(frozen=True)
class RegionCrossings:
    """How far data have moved in the complex of a model since it was last observed.

    Parameters
    ----------
    reference : torch.nn.Module, optional
        A state of the model to compare with, such as a copy made before the training. By default
        the model at the observation before, or, at the first one, when the monitor was made.
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about the model and one about each module that bends. In an audit a
    ``reference`` is needed.
    """

    reference: nn.Module | None = field(default=None, repr=False)
    max_samples: int = 512

    name: ClassVar[str] = "region_crossings"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Whether the movement helped: walls between two states are counted, and units that "
        "change back are not seen."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "units_changed": "Units that are on another branch than before, mean over inputs: as many "
        "walls or more were crossed between the two states.",
        "share_changed": "The same as a share of all units.",
        "inputs_moved": "Share of the inputs that lie in another activation region than before.",
        "changed_per_step": "Units that are on another branch, over optimizer steps: how fast "
        "the training moves the data through the complex; units that change back are not counted.",
    }

    def __post_init__(self) -> None:
        require_counts(1, max_samples=self.max_samples)

    @property
    def looks_back(self) -> bool:
        """Whether it needs the model at the observation before."""
        return self.reference is None

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model and one about each module that bends."""
        assert evidence.model is not None
        model, (data, note) = evidence.model, evidence.at_most(self.max_samples)
        earlier, before, steps = evidence.earlier, self.reference, 0
        if before is None:
            if earlier is None:
                reason = "there is no earlier state to compare with: give reference=, or a monitor"
                yield Finding(self.name, "model", failed=reason)
                return
            with quiet(model):
                before = copy.deepcopy(model)
            before.load_state_dict(earlier.state)
            steps = (evidence.step or 0) - earlier.step
        try:
            after = activation_patterns(model, data)
        except NoRegions as reason:
            yield _undefined(self.name, self.readings, reason)
            return
        found = moves_between(activation_patterns(before, data), after)
        scalars = {
            "units_changed": found.crossings,
            "share_changed": found.share,
            "inputs_moved": found.moved,
        }
        if steps > 0:
            total, method = found.crossings, f"{found.crossings.method}, over {steps} steps"
            scalars["changed_per_step"] = Estimate(
                total.value / steps, total.stderr / steps, total.n, method=method
            )
        yield Finding(self.name, "model", scalars, notes=(note,) if note else ())
        for bend, share in found.by_bend().items():
            yield Finding(self.name, bend, {"share_changed": share})


def _undefined(name: str, readings: Mapping[str, str], reason: Exception) -> Finding:
    """Return the finding about a model that has no regions."""
    scalars = {scalar: Estimate.undefined(str(reason)) for scalar in readings}
    return Finding(name, "model", scalars)
