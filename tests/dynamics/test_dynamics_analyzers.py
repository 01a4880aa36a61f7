"""The analyzers of dynamics, alone, in audits and in monitors."""

import pickle

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import geomprobe as gp
from geomprobe import Evidence, Samples, Trajectory
from geomprobe.auditing.html import render
from geomprobe.dynamics import (
    ClassMargins,
    Conservation,
    GradientNoiseScale,
    TrainingPath,
    conserved_quantities,
    gradient_identities,
    gradient_noise,
    path_statistics,
    walk_variances,
)
from geomprobe.evidence import Earlier


def small(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 3))


X = torch.randn(40, 4, generator=torch.Generator().manual_seed(5))
Y = torch.arange(40) % 3
NAMES = ["0 to 3", "3.weight before softmax", "3.bias before softmax"]


def evidence(**options):
    given = {"model": small(), "data": Samples(X, Y), "loss": F.cross_entropy, "seed": 3}
    return Evidence(**{**given, **options})


def path(points):
    return Trajectory(points, np.arange(len(points)), np.zeros(len(points)))


def test_the_path_is_that_of_the_function():
    trajectory = path(np.cumsum(np.random.default_rng(0).normal(size=(80, 6)), axis=0))
    (finding,) = TrainingPath()(Evidence(trajectory=trajectory))
    found = path_statistics(trajectory)
    assert {n: one for n, one in finding.scalars.items() if n in found.scalars} == found.scalars
    assert set(finding.scalars) == set(TrainingPath.readings)
    np.testing.assert_array_equal(finding.arrays["walk_explained_variance"], walk_variances(80, 6))
    assert finding.scalars["walk_tortuosity"].value == pytest.approx(79**0.5)


@pytest.mark.parametrize("points", [np.ones((50, 3)), np.full((50, 3), np.nan), np.ones((2, 3))])
def test_a_path_that_is_none_fails_with_the_reason(points):
    (finding,) = TrainingPath()(Evidence(trajectory=path(points)))
    assert "3 finite points" in finding.failed


def test_conservation_is_that_of_the_functions():
    before = small(1)
    given = evidence(earlier=Earlier(before.state_dict(), 10), step=30)
    *each, whole = Conservation()(given)
    quantities = conserved_quantities(given.model, softmax=True)
    residuals = gradient_identities(given.model, given.data, given.loss, quantities)
    assert [one.subject for one in each] == NAMES == list(residuals)
    for finding, one in zip(each, quantities, strict=True):
        assert finding.scalars["identity"].value == residuals[one.name].residual < 1e-6
        change = one.evaluate(given.model.state_dict()) - one.evaluate(before.state_dict())
        drift = float(change.norm()) / one.size(before.state_dict())
        assert finding.scalars["drift"].value == pytest.approx(drift)
        assert finding.scalars["drift_per_step"].value == pytest.approx(drift / 20)
        assert set(finding.scalars) <= set(Conservation.readings)
    assert whole.scalars["conserved"].value == 9 + 9 + 1
    assert whole.scalars["drift"].value == max(one.scalars["drift"].value for one in each)


def test_what_is_missing_is_told():
    *each, whole = Conservation()(evidence(loss=None))
    assert [one.subject for one in each] == NAMES[:1]
    assert "pass loss=" in each[0].scalars["identity"].note
    assert "no earlier state" in whole.scalars["drift"].note
    assert any("softmax" in note for note in whole.notes)
    (whole,) = Conservation()(evidence(model=nn.Sequential(nn.Linear(4, 3), nn.Tanh())))
    assert whole.scalars["conserved"].value == 0
    assert "no symmetry" in whole.scalars["identity"].note
    # The mean squared error sees a shift of all outputs.
    one_hot = F.one_hot(Y, 3).float()
    *each, _ = Conservation()(evidence(data=Samples(X, one_hot), loss=F.mse_loss))
    assert [one.subject for one in each] == NAMES[:1]


def test_parameters_that_are_not_finite_are_told():
    model = small()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    found, *_ = Conservation()(evidence(model=model, earlier=Earlier(small().state_dict(), 0)))
    assert "not finite" in found.scalars["drift"].note
    assert "not finite" in found.scalars["identity"].note


def test_more_samples_are_thinned():
    *_, whole = Conservation(max_samples=10)(evidence())
    assert "A uniform sample of 10 of 40 inputs." in whole.notes
    with pytest.raises(ValueError, match="at least 2"):
        Conservation(max_samples=1)


def test_an_audit_runs_it_if_asked():
    report = gp.audit(
        small(), (X, Y), loss=F.cross_entropy, analyzers="conservation", progress=False
    )
    assert [one.failed for one in report.findings] == [None] * 4
    assert "0 to 3" in render(report)
    for name in ("training_path", "conservation", "gradient_noise", "margins"):
        assert not gp.load_analyzer(name).by_default


def test_a_monitor_follows_both():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = gp.Monitor(
        model,
        (X, Y),
        every="25 steps",
        budget=None,
        analyzers=["training_path", "conservation"],
        loss=F.cross_entropy,
        trajectory=64,
        optimizer=optimizer,
        workers=0,
    )
    with monitor:
        for _ in range(50):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            monitor.step()
    first, second = monitor.history
    assert not any(one.failed for record in (first, second) for one in record.findings)
    drift = {one.subject: one.scalars["drift"].value for one in second.findings[1:]}
    # Dropout and mini-batches break no law: what is left is of second order in the steps.
    assert 0 < drift["0 to 3"] < 0.05
    assert drift["3.bias before softmax"] < 1e-5
    assert second.findings[0].analyzer == "training_path"


def test_a_worker_gets_all_that_is_needed():
    given = evidence(earlier=Earlier(small(1).state_dict(), 1), step=2)
    sent, analyzer = pickle.loads(cloudpickle.dumps((given, Conservation())))
    assert [one.scalars for one in analyzer(sent)] == [one.scalars for one in Conservation()(given)]


def test_the_noise_is_that_of_the_function_on_a_sample():
    given = evidence()
    (finding,) = GradientNoiseScale(max_samples=30)(given)
    data, note = given.at_most(30)
    expected = gradient_noise(given.model, data, loss=F.cross_entropy)
    assert finding.scalars == {
        "noise_scale": expected.scale,
        "noise_trace": expected.trace,
        "gradient_square": expected.square,
    }
    assert finding.notes == (note,) == ("A uniform sample of 30 of 40 inputs.",)
    spectrum = finding.arrays["noise_spectrum"]
    assert spectrum.sum() == pytest.approx(expected.trace.value)
    assert len(spectrum) <= 29
    (failed,) = GradientNoiseScale()(evidence(loss=None))
    assert "pass loss=" in failed.failed
    with pytest.raises(ValueError, match="max_samples must be at least 4"):
        GradientNoiseScale(max_samples=3)


def test_margins_of_a_linear_classifier_in_closed_form():
    model = nn.Linear(4, 3, bias=False)
    (finding,) = ClassMargins()(evidence(model=model, loss=None))
    logits = (X @ model.weight.T).detach().double().numpy()
    right = np.eye(3, dtype=bool)[Y]
    found = np.sort(logits[right] - np.where(right, -np.inf, logits).max(axis=1))
    np.testing.assert_allclose(finding.arrays["margins"], found, rtol=1e-5)
    scalars = finding.scalars
    assert set(scalars) == set(ClassMargins.readings)
    assert scalars["median_margin"].value == pytest.approx(np.median(found), rel=1e-5)
    assert scalars["share_wrong"].value == (found <= 0).mean()
    # Homogeneous of degree 1: over the norm of the weights.
    norm = float(model.weight.detach().norm())
    assert scalars["normalized_margin"].value == pytest.approx(found[0] / norm, rel=1e-4)
    (other,) = ClassMargins(max_samples=20)(evidence())
    assert "not homogeneous" in other.scalars["normalized_margin"].note
    assert other.scalars["smallest_margin"].n == 20
