"""Training as a path: its shape, what it conserves, its phase space, and where it tends to."""

from geomprobe.dynamics.analyzers import (
    ClassMargins,
    Conservation,
    GradientNoiseScale,
    TrainingPath,
)
from geomprobe.dynamics.conservation_count import ConservationCount, count_conserved, n_conserved
from geomprobe.dynamics.diffusion import Diffusion, diffusion
from geomprobe.dynamics.drift import (
    ConservationDrift,
    conservation_drift,
    drift_order,
    parameter_states,
)
from geomprobe.dynamics.gradient_noise import (
    GradientNoise,
    gradient_noise,
    noise_of_batches,
    noise_of_gradients,
)
from geomprobe.dynamics.identities import GradientIdentity, gradient_identities
from geomprobe.dynamics.margins import (
    MarginGrowth,
    homogeneity_degree,
    margin_growth,
    margins,
)
from geomprobe.dynamics.max_margin import MaxMargin, max_margin, minimum_norm, tangent_features
from geomprobe.dynamics.natural_angle import NaturalAngle, natural_angle
from geomprobe.dynamics.natural_length import NaturalLength, natural_length
from geomprobe.dynamics.path_norm import path_norm
from geomprobe.dynamics.path_statistics import PathStatistics, compare_paths, path_statistics
from geomprobe.dynamics.phase_space import (
    SymplecticDefect,
    heavy_ball,
    leapfrog,
    modified_energy,
    symplectic_defect,
    symplectic_euler,
)
from geomprobe.dynamics.quantities import ConservedQuantities, ConservedQuantity
from geomprobe.dynamics.stability import stability_ratio
from geomprobe.dynamics.step_sizes import StepSizes, step_sizes
from geomprobe.dynamics.structure import conserved_quantities
from geomprobe.dynamics.training_energy import TrainingEnergy, training_energy
from geomprobe.random_walk import walk_components, walk_participation, walk_variances

__all__ = [
    "ClassMargins",
    "Conservation",
    "ConservationCount",
    "ConservationDrift",
    "ConservedQuantities",
    "ConservedQuantity",
    "Diffusion",
    "GradientIdentity",
    "GradientNoise",
    "GradientNoiseScale",
    "MarginGrowth",
    "MaxMargin",
    "NaturalAngle",
    "NaturalLength",
    "PathStatistics",
    "StepSizes",
    "SymplecticDefect",
    "TrainingEnergy",
    "TrainingPath",
    "compare_paths",
    "conservation_drift",
    "conserved_quantities",
    "count_conserved",
    "diffusion",
    "drift_order",
    "gradient_identities",
    "gradient_noise",
    "heavy_ball",
    "homogeneity_degree",
    "leapfrog",
    "margin_growth",
    "margins",
    "max_margin",
    "minimum_norm",
    "modified_energy",
    "n_conserved",
    "natural_angle",
    "natural_length",
    "noise_of_batches",
    "noise_of_gradients",
    "parameter_states",
    "path_norm",
    "path_statistics",
    "stability_ratio",
    "step_sizes",
    "symplectic_defect",
    "symplectic_euler",
    "tangent_features",
    "training_energy",
    "walk_components",
    "walk_participation",
    "walk_variances",
]
