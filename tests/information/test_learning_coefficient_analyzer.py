import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Evidence, Finding, Samples, analyze, load_analyzer
from geomprobe.exceptions import FailedAnalysisWarning
from geomprobe.information import effective_parameters, local_learning_coefficient
from geomprobe.information.analyzers import LearningCoefficient


def regression(n=100):
    torch.manual_seed(0)
    x = torch.randn(n, 4).double()
    y = x.sum(dim=1, keepdim=True) + torch.randn(n, 1).double()
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, Samples(x, y)


def finding_of(model, data, n_train=None, **options):
    given = Evidence(model=model, data=data, loss=F.mse_loss, n_train=n_train, seed=3)
    (finding,) = analyze(given, LearningCoefficient(**options), strict=True)
    return finding


def test_linear_regression_in_closed_form():
    # A Gaussian posterior: half of MacKay's number of well determined parameters.
    model, data = regression()
    x = data.inputs.numpy()
    n_beta = 100 / math.log(100)
    values = np.linalg.eigvalsh(2 * x.T @ x / 100)
    finding = finding_of(model, data, chains=128, draws=300, localization=10.0)
    found = finding.scalars["local_learning_coefficient"]
    expected = effective_parameters(values, 10.0 / n_beta) / 2
    assert abs(found.value - expected) < 3.5 * found.stderr + 0.05 * expected
    share = finding.scalars["per_parameter"]
    assert share.value == pytest.approx(found.value / 2)
    assert share.stderr == pytest.approx(found.stderr / 2)
    # 4 directions of precision n beta h + gamma.
    reach = math.sqrt((1 / (n_beta * values + 10)).sum())
    assert finding.scalars["distance"].value == pytest.approx(reach, rel=0.15)
    assert finding.scalars["r_hat"].value < 1.1
    assert finding.arrays["chain_losses"].shape == (128, 150)
    assert finding.arrays["chain_steps"] == [2]
    excess = finding.arrays["chain_losses"].mean() - finding.arrays["initial_loss"][0]
    assert n_beta * excess == pytest.approx(found.value)
    assert f"of norm {model.weight.norm().item():.3g}" in finding.notes[0]


def test_it_is_the_function_on_the_samples_within_bounds():
    model, data = regression()
    options = {"chains": 3, "draws": 30, "burn_in": 5, "step": 1e-3}
    finding = finding_of(model, data, n_train=500, max_samples=100, **options)
    expected = local_learning_coefficient(model, data, loss=F.mse_loss, seed=3, **options)
    assert finding.scalars["local_learning_coefficient"] == expected.estimate
    assert "not over the 500 training samples" in finding.notes[1]
    few = finding_of(model, data, max_samples=20, **options)
    assert "n = 20 inputs, drawn at random from 100" in few.notes[0]


def test_what_is_undefined_says_why():
    model, data = regression()
    finding = finding_of(model, data, step=1e3, draws=50, burn_in=0)
    for name in LearningCoefficient.readings:
        assert "a chain diverged" in finding.scalars[name].note, name
    with torch.no_grad():
        model.weight.add_(3.0)
    finding = finding_of(model, data, draws=50, burn_in=10)
    for name in ("local_learning_coefficient", "per_parameter"):
        assert "not at a minimum" in finding.scalars[name].note
    assert finding.scalars["distance"].value > 0


def test_without_a_loss_it_fails_with_the_remedy():
    model, data = regression()
    with pytest.warns(FailedAnalysisWarning, match="pass loss="):
        (finding,) = analyze(Evidence(model=model, data=data), LearningCoefficient())
    assert finding.failed
    with pytest.raises(ValueError, match="max_samples must be at least 3"):
        LearningCoefficient(max_samples=2)


def test_the_registry_knows_it_and_findings_survive_saving(tmp_path):
    loaded = load_analyzer("local_learning_coefficient", chains=2)
    assert loaded == LearningCoefficient(chains=2)
    finding = finding_of(*regression(), draws=20, burn_in=5)
    assert set(finding.scalars) == set(LearningCoefficient.readings)
    finding.save(tmp_path / "finding.json")
    assert Finding.load(tmp_path / "finding.json") == finding


def test_the_sensitivity_to_step_and_localization_is_a_grid_about_the_number():
    model, data = regression()
    options = {"step": 1e-3, "localization": 10.0, "draws": 40, "burn_in": 20}
    finding = finding_of(model, data, sensitivity=2.0, **options)
    np.testing.assert_allclose(finding.arrays["grid_steps"], [5e-4, 1e-3, 2e-3])
    np.testing.assert_allclose(finding.arrays["grid_localizations"], [5, 10, 20])
    values = finding.arrays["grid_values"]
    assert values.shape == finding.arrays["grid_stderrs"].shape == (3, 3)
    assert values[1, 1] == finding.scalars["local_learning_coefficient"].value
    assert "grid_values" not in finding_of(model, data, **options).arrays
    with pytest.raises(ValueError, match="a factor above 1, got 1"):
        LearningCoefficient(sensitivity=1.0)
