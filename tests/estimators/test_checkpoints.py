"""Checkpoints as samples: what comes out is what the functions give, in pipelines and searches."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torch import nn

import geomprobe as gp
from geomprobe.estimators import (
    CheckpointClouds,
    FisherFeatures,
    IntrinsicDimension,
    TotalPersistence,
)
from geomprobe.information import effective_dimension, fisher_gram, stable_rank

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def network(seed=0, scale=1.0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight *= scale
    return model


@pytest.fixture
def models():
    return [network(seed, 1.0 + seed % 2) for seed in range(4)]


def test_clouds_are_those_of_each_model_however_it_is_given(models, tmp_path):
    paths = []
    for number, model in enumerate(models):
        paths.append(tmp_path / f"{number}.safetensors")
        save_file(model.state_dict(), paths[-1])
    skeleton = network(9)
    before = copy.deepcopy(skeleton.state_dict())
    transformer = CheckpointClouds(skeleton, X, "1")
    expected = [torch.tanh(model[0](torch.tensor(X))).detach().numpy() for model in models]
    for given in (models, [model.state_dict() for model in models], paths, map(str, paths)):
        given = list(given)
        for cloud, wanted in zip(transformer.fit_transform(given), expected, strict=True):
            np.testing.assert_allclose(cloud, wanted, rtol=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in skeleton.state_dict().items())
    assert skeleton.training


def test_fisher_features_are_those_of_the_functions(models):
    made = FisherFeatures(network(9), X, n_train=1000).fit(models)
    found = made.transform(models)
    assert list(made.get_feature_names_out()) == [
        "fisher_trace",
        "fisher_largest",
        "fisher_stable_rank",
        "fisher_participation_ratio",
        "effective_dimension",
    ]
    gram = fisher_gram(
        copy.deepcopy(models[1]).eval(),
        gp.Samples(torch.tensor(X)),
        loss=nn.functional.cross_entropy,
    )
    eigenvalues = gram.spectrum()
    assert found[1, 0] == pytest.approx(gram.trace())
    assert found[1, 2] == pytest.approx(stable_rank(eigenvalues))
    expected = effective_dimension(eigenvalues, 1000, n_parameters=gram.n_parameters)
    assert found[1, 4] == pytest.approx(expected)
    empirical = FisherFeatures(network(9), (X, np.arange(40) % 3), kind="empirical")
    assert empirical.fit_transform(models).shape == (4, 4)


def test_a_pipeline_searches_over_layers(models):
    """First layers of odd checkpoints are twice as large, which tanh bends."""
    pipeline = make_pipeline(
        CheckpointClouds(network(9), X), gp.RipsPersistence(max_dim=0), gp.PersistenceEntropy()
    )
    assert pipeline.fit_transform(models).shape == (4, 1)
    search = GridSearchCV(
        make_pipeline(CheckpointClouds(network(9), X), IntrinsicDimension(), LogisticRegression()),
        {"checkpointclouds__layer": ["0", "1"]},
        cv=2,
    )
    states = [model.state_dict() for model in models]
    assert search.fit(states, [0, 1, 0, 1]).best_params_["checkpointclouds__layer"] in {"0", "1"}


def test_topology_and_fisher_information_are_features_of_one_pipeline():
    """First layers of odd checkpoints are four times as large, which both kinds of features see."""
    states = [network(seed, 1.0 + 3.0 * (seed % 2)).state_dict() for seed in range(8)]
    topology = make_pipeline(
        CheckpointClouds(network(9), X, "1"), gp.RipsPersistence(max_dim=1), TotalPersistence()
    )
    fisher = FisherFeatures(network(9), X)
    union = make_union(topology, fisher)
    apart = [topology.fit_transform(states), fisher.fit_transform(states)]
    np.testing.assert_array_equal(union.fit_transform(states), np.hstack(apart))
    classifier = make_pipeline(union, StandardScaler(), LogisticRegression())
    scores = cross_val_score(classifier, states, [0, 1] * 4, cv=2, error_score="raise")
    assert scores.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("make", [CheckpointClouds, FisherFeatures])
def test_parameters_are_stored_cloned_and_pickled(make):
    model = network()
    made = make(model, X)
    assert made.model is model
    assert made.data is X
    copied = clone(made)
    assert copied.get_params().keys() == made.get_params().keys()
    assert pickle.loads(pickle.dumps(made)).get_params().keys() == made.get_params().keys()


def test_what_is_no_list_of_checkpoints_is_refused_and_a_failure_names_it(models):
    transformer = CheckpointClouds(network(), X)
    for one in ("a.safetensors", models[0], models[0].state_dict(), iter(models)):
        with pytest.raises(TypeError, match=r"for one pass \[checkpoint\]"):
            transformer.fit(one)
    with pytest.raises(ValueError, match="holds no checkpoints"):
        transformer.transform([])
    with pytest.raises(TypeError, match="checkpoint 1: a checkpoint is the path of"):
        transformer.transform([models[0], 3])
    with pytest.raises(RuntimeError, match=r"(?s)checkpoint 1: .*size mismatch"):
        transformer.transform([models[0], nn.Sequential(nn.Linear(4, 8)).state_dict()])
