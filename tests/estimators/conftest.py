import numpy as np
import pytest
from sklearn.base import clone

import geomprobe as gp
from geomprobe.estimators import (
    BettiCurve,
    PersistenceImage,
    PersistenceLandscape,
    Silhouette,
    TotalPersistence,
)

#: One of each transformer of diagrams, and how many features a homology dimension it gives.
WIDTHS = {
    gp.PersistenceEntropy(): 1,
    TotalPersistence(2.0): 1,
    BettiCurve(7): 7,
    PersistenceLandscape(2, 7): 14,
    Silhouette(0.5, 7): 7,
    PersistenceImage(5): 25,
}


@pytest.fixture(params=WIDTHS, ids=lambda one: type(one).__name__)
def transformer(request):
    return clone(request.param)


@pytest.fixture
def width(transformer):
    widths = {type(one): width for one, width in WIDTHS.items()}
    return widths[type(transformer)]


@pytest.fixture(scope="session")
def shapes():
    """Noisy circles, and three clusters on one or discs of their size, with 20 to 30 points."""

    def made(count, against="clusters", seed=0):
        rng = np.random.default_rng(seed)
        clouds, labels = [], np.arange(count) % 2
        for label in labels:
            n = rng.integers(20, 31)
            angle, radius = rng.uniform(0, 2 * np.pi, n), np.ones(n)
            if not label and against == "clusters":
                angle = 2 * np.pi * (rng.uniform() + rng.integers(0, 3, n) / 3)
            elif not label:
                radius = np.sqrt(2 * rng.uniform(0, 1, n))
            points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            clouds.append(points + rng.normal(0, 0.1, points.shape))
        return clouds, labels

    return made


@pytest.fixture(scope="session")
def diagrams(shapes):
    return gp.RipsPersistence().fit_transform(shapes(6)[0])
