"""The parts of a report: which analyzers speak of what, in the order in which they are read."""

from __future__ import annotations

#: Analyzers by the title of their part.
TOPICS: dict[str, tuple[str, ...]] = {
    "Topology": (
        "persistent_homology",
        "layer_topology",
        "trajectory_topology",
        "neural_persistence",
    ),
    "Information": ("fisher_information", "tangent_kernel"),
    "Dimension": (
        "effective_dimension",
        "local_learning_coefficient",
        "functional_dimension",
        "representation_dimension",
        "representation_similarity",
    ),
    "Tropical": ("region_density", "region_crossings", "effective_degree"),
    "Landscape": (
        "curvature",
        "critical_point",
        "loss_slice",
        "mode_connectivity",
        "low_loss_curve",
        "connectivity_matrix",
        "margins",
        "gradient_noise",
        "edge_of_stability",
        "training_path",
        "natural_path",
        "conservation",
    ),
}

#: Where analyzers of other packages are.
OTHER = "Others"


def topic_of(analyzer: str) -> str:
    """Return the title of the part that an analyzer belongs to."""
    return next((title for title, names in TOPICS.items() if analyzer in names), OTHER)
