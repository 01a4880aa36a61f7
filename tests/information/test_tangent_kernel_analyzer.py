import math

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Evidence, Finding, Samples, analyze, load_analyzer
from geomprobe.information import ntk, participation_ratio, stable_rank
from geomprobe.information.analyzers import NeuralTangentKernel


def finding_of(model, data, seed=0, **options):
    (finding,) = analyze(
        Evidence(model=model, data=data, seed=seed), NeuralTangentKernel(**options), strict=True
    )
    return finding


def linear(n=24, outputs=3):
    torch.manual_seed(0)
    x = torch.randn(n, 5).double()
    return nn.Linear(5, outputs).double(), Samples(x, torch.arange(n) % 3)


def test_a_linear_model_has_the_kernel_of_its_inputs():
    # Theta = (X X^T + 1) (x) I, whatever the weights: closed form.
    model, data = linear()
    x = data.inputs.numpy()
    kernel = x @ x.T + 1
    spectrum = np.repeat(np.linalg.eigvalsh(kernel)[::-1][:6], 3)
    finding = finding_of(model, data)
    values = {name: estimate.value for name, estimate in finding.scalars.items()}
    assert values["trace"] == pytest.approx(3 * ((x**2).sum(axis=1) + 1).mean())
    assert values["largest_eigenvalue"] == pytest.approx(spectrum[0] / 24)
    assert values["stable_rank"] == pytest.approx(stable_rank(spectrum))
    assert values["participation_ratio"] == pytest.approx(participation_ratio(spectrum))
    assert values["alignment"] == ntk(model, data).alignment(data.targets).value
    np.testing.assert_allclose(finding.arrays["kernel_spectrum"], spectrum / 24)
    # Of rank 6 on 24 inputs: some outputs cannot be learned.
    assert math.isnan(values["condition_number"])
    assert "cannot be learned" in finding.scalars["condition_number"].note
    assert "N = 24 inputs with 3 outputs; 18 trainable parameters" in finding.notes[0]


def test_a_kernel_of_full_rank_has_a_condition_number():
    model, data = linear(n=5, outputs=1)
    x = data.inputs.numpy()
    found = finding_of(model, data).scalars["condition_number"]
    assert found.value == pytest.approx(np.linalg.cond(x @ x.T + 1), rel=1e-9)
    assert found.exact


def test_targets_that_are_the_kernel_lie_in_its_leading_directions():
    # Inputs that are the one-hot targets: K = Y Y^T, so that its C - 1 directions hold all of them.
    targets = torch.arange(24) % 3
    inputs = nn.functional.one_hot(targets).double()
    finding = finding_of(nn.Linear(3, 2, bias=False).double(), Samples(inputs, targets))
    assert finding.scalars["alignment"].value == pytest.approx(1)
    np.testing.assert_allclose(finding.arrays["label_share"], [0.5, *[1] * 23])
    np.testing.assert_allclose(finding.arrays["kernel_share"], [0.5, *[1] * 23])


def test_standard_errors_are_the_spread_over_new_inputs():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    findings = [finding_of(model, Samples(torch.randn(40, 4).double())) for _ in range(30)]
    for name in ("trace", "stable_rank", "participation_ratio"):
        estimates = [finding.scalars[name] for finding in findings]
        spread = np.std([estimate.value for estimate in estimates], ddof=1)
        stderr = math.sqrt(np.mean([estimate.stderr**2 for estimate in estimates]))
        assert 1 / 1.7 < stderr / spread < 1.7, name


def test_without_targets_the_rest_is_there():
    model, data = linear()
    finding = finding_of(model, Samples(data.inputs))
    assert finding.scalars["trace"].value > 0
    assert "there are no targets" in finding.scalars["alignment"].note
    assert set(finding.arrays) == {"kernel_spectrum"}


def test_targets_of_another_number_cost_the_alignment_alone():
    model, data = linear()
    finding = finding_of(model, Samples(data.inputs, torch.zeros(24, 2, 2)))
    assert "targets must have shape" in finding.scalars["alignment"].note
    assert finding.scalars["trace"].value > 0


def test_samples_are_limited():
    model, data = linear()
    finding = finding_of(model, data, max_samples=7)
    assert finding.scalars["trace"].n == 7
    assert "N = 7 inputs, drawn at random from 24" in finding.notes[0]
    assert finding_of(model, data, max_rows=30).scalars["trace"].n == 10
    assert finding_of(model, data, seed=1, max_samples=7) != finding
    with pytest.raises(ValueError, match="max_samples must be at least 1"):
        NeuralTangentKernel(max_samples=0)


def test_outputs_that_do_not_react_have_no_shape():
    class Constant(nn.Linear):
        def forward(self, x):
            return 0 * super().forward(x)

    finding = finding_of(Constant(5, 3).double(), linear()[1])
    assert finding.scalars["trace"].value == 0
    for name in ("stable_rank", "participation_ratio", "alignment", "condition_number"):
        assert math.isnan(finding.scalars[name].value), name
    assert np.isnan(finding.arrays["label_share"]).sum() == 0
    assert np.isnan(finding.arrays["kernel_share"]).all()


def test_one_input_has_no_standard_errors():
    model, data = linear(n=1)
    finding = finding_of(model, data)
    assert math.isnan(finding.scalars["trace"].stderr)
    assert math.isnan(finding.scalars["stable_rank"].stderr)


def test_the_registry_knows_it_and_findings_survive_saving(tmp_path):
    assert load_analyzer("tangent_kernel", max_samples=8) == NeuralTangentKernel(max_samples=8)
    finding = finding_of(*linear())
    assert set(finding.scalars) == set(NeuralTangentKernel.readings)
    finding.save(tmp_path / "finding.json")
    assert Finding.load(tmp_path / "finding.json") == finding
