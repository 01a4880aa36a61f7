import contextlib
import warnings
from unittest import SkipTest

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from torch import nn

from geomprobe.estimators import ActivationCloud
from geomprobe.exceptions import LayerSelectionError, SkippedLayerWarning

DIGITS = load_digits()
X, Y = DIGITS.data[:200] / 16, DIGITS.target[:200]


def network():
    torch.manual_seed(0)
    layers = [nn.Linear(64, 12), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(12, 3)]
    return nn.Sequential(*layers)


def test_activations_of_each_sample_in_order():
    model = network().train()
    features = ActivationCloud(model, "1").fit_transform(X)
    inputs = torch.from_numpy(X).float()
    assert np.allclose(features, model[0](inputs).relu().detach(), atol=1e-6)
    assert features.dtype == np.float32
    assert model.training


def test_the_model_itself_is_the_default_layer():
    model = network().eval()
    features = ActivationCloud(model).fit_transform(X)
    assert np.allclose(features, model(torch.from_numpy(X).float()).detach(), atol=1e-6)


def test_images_and_pooling():
    model = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU())
    images = X.reshape(-1, 1, 8, 8)
    flat = ActivationCloud(model, "1").fit_transform(images)
    mean = ActivationCloud(model, "1", pool="mean").fit_transform(images)
    assert np.allclose(mean, flat.reshape(-1, 5, 64).mean(axis=2), atol=1e-6)


def test_repeated_calls_are_named_by_number():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    model = Twice()
    second = ActivationCloud(model, "fc#1").fit_transform(X[:, :4])
    assert np.allclose(second, model(torch.from_numpy(X[:, :4]).float()).detach(), atol=1e-6)


def test_pipeline_cross_validation_and_grid_search_over_layers():
    pipeline = make_pipeline(ActivationCloud(network(), "1"), LogisticRegression(max_iter=500))
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.5
    search = GridSearchCV(pipeline, {"activationcloud__layer": ["1", "3"]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"activationcloud__layer": "1"}


def test_clone_keeps_parameters_and_pandas_output_has_names():
    estimator = ActivationCloud(network(), "3", pool="mean")
    twin = clone(estimator)
    assert twin.layer == "3"
    assert twin.pool == "mean"
    assert not hasattr(twin, "layer_")
    frame = twin.set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == ["3_0", "3_1", "3_2"]


def test_bad_layers_and_pools_are_refused():
    with pytest.raises(LayerSelectionError, match="no layer matches 'fc'"):
        ActivationCloud(network(), "fc").fit(X)
    with pytest.raises(LayerSelectionError, match="name exactly one"):
        ActivationCloud(network(), "*").fit(X)
    with pytest.raises(ValueError, match=r"pool must be one of .* got 'positions'"):
        ActivationCloud(network(), "1", pool="positions").fit(X)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        ActivationCloud(network(), "1").transform(X)


def test_a_layer_that_gives_no_cloud_is_refused_with_the_reason():
    class Argmax(nn.Module):
        def forward(self, x):
            return x.argmax(dim=1)

    model = nn.Sequential(nn.Linear(64, 3), Argmax())
    with pytest.warns(SkippedLayerWarning), pytest.raises(LayerSelectionError, match="only int64"):
        ActivationCloud(model, "1").fit(X)


class Floats(nn.Module):
    """Takes samples of any width, as few real models do, and hands them on."""

    def forward(self, x):
        return x.float()


def test_the_contract_of_scikit_learn():
    generate = getattr(
        estimator_checks,
        "estimator_checks_generator",
        lambda estimator: estimator_checks.check_estimator(estimator, generate_only=True),
    )
    passed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in generate(ActivationCloud(Floats())):
            with contextlib.suppress(SkipTest):
                check(estimator)
                passed += 1
    assert passed >= (45 if hasattr(estimator_checks, "estimator_checks_generator") else 33)
