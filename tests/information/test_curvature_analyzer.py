import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Evidence, Finding, Samples, analyze, load_analyzer
from geomprobe.exceptions import FailedAnalysisWarning
from geomprobe.information import Curvature, curvature, effective_parameters, tic
from geomprobe.information.analyzers import LossCurvature


def finding_of(model, data, loss=F.mse_loss, n_train=None, seed=0, **options):
    given = Evidence(model=model, data=data, loss=loss, n_train=n_train, seed=seed)
    (finding,) = analyze(given, LossCurvature(**options), strict=True)
    return finding


def regression(n=60, scales=(3.0, 1.0, 0.5, 0.2)):
    x = torch.randn(n, len(scales)).double() * torch.tensor(scales).double()
    model = nn.Linear(len(scales), 1, bias=False).double()
    y = x.sum(dim=1, keepdim=True) + torch.randn(n, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, Samples(x, y)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_linear_regression_in_closed_form():
    # The Hessian of the mean squared error is 2 X^T X / N.
    model, data = regression()
    x = data.inputs.numpy()
    values = np.linalg.eigvalsh(2 * x.T @ x / 60)[::-1]
    finding = finding_of(model, data, n_train=50, draws=20)
    scalars = finding.scalars
    assert scalars["largest_eigenvalue"].value == pytest.approx(values[0])
    assert scalars["smallest_eigenvalue"].value == pytest.approx(values[-1])
    assert scalars["trace"].value == pytest.approx(values.sum())
    assert scalars["trace"].exact
    assert scalars["index"].value == scalars["negative_share"].value == 0
    counted = scalars["effective_parameters"]
    assert counted.value == pytest.approx(effective_parameters(values, 1 / 50))
    assert counted.note == "at z = 0.02, one over the number of training samples"
    np.testing.assert_allclose(finding.arrays["hessian_largest"], values)
    grid, density = finding.arrays["hessian_grid"], finding.arrays["hessian_density"]
    assert ((density[1:] + density[:-1]) / 2 * np.diff(grid)).sum() == pytest.approx(1, abs=0.02)
    expected = tic(model, data, loss=F.mse_loss, damping=values[0] / 100)
    for name in ("c_over_f", "c_over_h", "penalty"):
        assert scalars[name].value == pytest.approx(getattr(expected, name).value), name
    assert "Hessian of the mean loss over N = 60 inputs, in 4 trainable" in finding.notes[0]


def test_the_error_of_an_eigenvalue_is_that_of_normal_inputs():
    # Anderson (1963): that of a simple eigenvalue of a covariance is its value times sqrt(2 / n).
    found = [
        finding_of(*regression(n=200), draws=2, steps=2, seed=seed).scalars["largest_eigenvalue"]
        for seed in range(12)
    ]
    ratios = [one.stderr / (one.value * math.sqrt(2 / 200)) for one in found]
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


class Saddle(nn.Module):
    """A loss that is a quadratic form of the parameters."""

    def __init__(self, curvatures):
        super().__init__()
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)
        self.w = nn.Parameter(torch.zeros(len(curvatures), dtype=torch.float64))

    def forward(self, x):
        return ((self.curvatures * self.w**2).sum() / 2).expand(len(x))


def test_a_saddle_is_counted():
    curvatures = np.array([-2.0, -1.0, *[3.0] * 6])
    finding = finding_of(
        Saddle(curvatures),
        Samples(torch.zeros(8, 1), torch.zeros(8)),
        loss=lambda outputs, _: outputs.mean(),
        k=3,
    )
    scalars = finding.scalars
    assert scalars["smallest_eigenvalue"].value == pytest.approx(-2)
    assert scalars["smallest_eigenvalue"].stderr == pytest.approx(0, abs=1e-12)
    assert scalars["index"].value == 2
    # Random signs see every direction of a diagonal matrix alike.
    assert scalars["negative_share"].value == pytest.approx(3 / 21)
    np.testing.assert_allclose(finding.arrays["hessian_largest"], [3, 3, 3])
    # No likelihood is known of such a loss.
    assert "known are cross_entropy" in scalars["penalty"].note


def test_counts_over_z_fall_from_all_directions_to_none():
    model, data = regression()
    finding = finding_of(model, data, z=0.5)
    curve = finding.arrays["effective_parameters_curve"]
    assert (np.diff(curve) < 0).all()
    assert curve[0] == pytest.approx(4, rel=0.05)
    assert curve[-1] < 0.2
    assert finding.arrays["z"][12] == pytest.approx(0.5)
    assert finding.scalars["effective_parameters"].value == pytest.approx(curve[12])
    assert "at z = 0.5, as asked for" in finding.scalars["effective_parameters"].note


def test_effective_parameters_are_those_of_the_dense_gauss_newton_matrix(monkeypatch):
    model = nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, 3))
    data = Samples(torch.randn(60, 8), torch.randint(3, (60,)))
    options = {"loss": F.cross_entropy, "n_train": 1000, "draws": 12, "steps": 60}
    values = np.linalg.eigvalsh(curvature(model, data, loss=F.cross_entropy, kind="ggn").dense())
    exact = finding_of(model, data, **options).scalars["effective_parameters"]
    assert exact.value == pytest.approx(effective_parameters(values, 1e-3), abs=exact.stderr)
    assert 0 < exact.stderr < 0.05
    assert exact.note == "at z = 0.001, one over the number of training samples"
    monkeypatch.setattr("geomprobe.information.analyzers.curvature._MOST_EXACT", 0)
    found = finding_of(model, data, **options)
    by_products = found.scalars["effective_parameters"]
    assert abs(by_products.value - exact.value) < 3 * by_products.stderr
    assert by_products.stderr < 0.1 * exact.value
    few = finding_of(model, data, **options | {"steps": 3}).scalars["effective_parameters"]
    assert math.isnan(few.value)
    assert "3 steps do not tell eigenvalues" in few.note


def test_a_network_under_training_has_no_penalty_and_says_why():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    data = Samples(torch.randn(30, 4), torch.randint(3, (30,)))
    finding = finding_of(model, data, loss=F.cross_entropy, max_samples=20, damping=1e-4)
    assert finding.scalars["index"].value > 0
    assert "not at a minimum" in finding.scalars["penalty"].note
    assert finding.scalars["c_over_f"].value > 0
    assert "N = 20 inputs, drawn at random from 30" in finding.notes[0]
    assert "samples kept: give n_train" in finding.scalars["effective_parameters"].note


def test_without_a_loss_or_targets_it_fails_with_the_remedy():
    model, data = regression()
    with pytest.warns(FailedAnalysisWarning, match="pass loss="):
        (finding,) = analyze(Evidence(model=model, data=data), LossCurvature())
    assert finding.failed
    given = Evidence(model=model, data=Samples(data.inputs), loss=F.mse_loss)
    with pytest.warns(FailedAnalysisWarning, match="targets are needed"):
        list(analyze(given, LossCurvature()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"draws": 1}, "draws must be at least 2"),
        ({"steps": 1}, "steps must be at least 2"),
        ({"max_samples": 0}, "max_samples must be at least 1"),
        ({"z": 0.0}, "z must be positive"),
        ({"damping": math.inf}, "damping must be positive and finite"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        LossCurvature(**options)


def test_the_registry_knows_it_and_findings_survive_saving(tmp_path):
    assert load_analyzer("curvature", k=3) == LossCurvature(k=3)
    finding = finding_of(*regression())
    assert set(finding.scalars) == set(LossCurvature.readings)
    finding.save(tmp_path / "finding.json")
    assert Finding.load(tmp_path / "finding.json") == finding


def test_the_hessian_of_a_small_model_is_formed_once(monkeypatch):
    model, data = regression()
    formed = []
    dense = Curvature.dense

    def counted(self):
        formed.append(self.kind)
        return dense(self)

    monkeypatch.setattr(Curvature, "dense", counted)
    finding = finding_of(model, data)
    assert sorted(formed) == ["ggn", "hessian"]
    assert finding.scalars["penalty"].note.startswith("at a damping")
    with pytest.raises(ValueError, match=r"has shape \(4, 4\), got \(3, 3\)"):
        tic(model, data, loss=F.mse_loss, damping=1.0, hessian=torch.eye(3))
