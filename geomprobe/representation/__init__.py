"""The dimension, the collapse and the likeness of representations."""

from geomprobe.representation.analyzers import RepresentationDimension, RepresentationSimilarity
from geomprobe.representation.gride import GrideScan, gride
from geomprobe.representation.local_pca import local_pca
from geomprobe.representation.nearest_neighbour_likelihood import levina_bickel
from geomprobe.representation.neural_collapse import NeuralCollapse, neural_collapse
from geomprobe.representation.similarity import cka, cka_matrix, procrustes
from geomprobe.representation.spectrum import alpha_req, participation_ratio, rank_me
from geomprobe.representation.two_nn import two_nn

__all__ = [
    "GrideScan",
    "NeuralCollapse",
    "RepresentationDimension",
    "RepresentationSimilarity",
    "alpha_req",
    "cka",
    "cka_matrix",
    "gride",
    "levina_bickel",
    "local_pca",
    "neural_collapse",
    "participation_ratio",
    "procrustes",
    "rank_me",
    "two_nn",
]
