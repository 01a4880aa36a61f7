import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Evidence, Finding, Samples, analyze, load_analyzer
from geomprobe.exceptions import FailedAnalysisWarning
from geomprobe.information import (
    Gaussian,
    Softmax,
    effective_dimension,
    fisher_gram,
    global_effective_dimension,
    parameter_draws,
    participation_ratio,
    smallest_valid_n,
    stable_rank,
)
from geomprobe.information.analyzers import EffectiveDimension, FisherInformation

BOTH = [FisherInformation(), EffectiveDimension()]


class Counted(nn.Module):
    """Counts its forward passes, inside a list, which a visit does not put back."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        return self.inner(x)


def network():
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def evidence(n=20, **changes):
    torch.manual_seed(0)
    facts = {
        "model": network(),
        "data": Samples(torch.randn(n, 5).double(), torch.randint(3, (n,))),
        "loss": F.cross_entropy,
        "n_train": 1797,
    }
    return Evidence(**(facts | changes))


def only(analyzer, given):
    (finding,) = analyze(given, analyzer, strict=True)
    return finding


# --- Fisher information -------------------------------------------------------------------------


def test_numbers_are_those_of_the_two_gram_matrices():
    given = evidence()
    finding = only(FisherInformation(), given)
    true = fisher_gram(given.model, given.data, likelihood=Softmax())
    empirical = fisher_gram(given.model, given.data, kind="empirical", likelihood=Softmax())
    spectrum = true.spectrum()
    values = {name: estimate.value for name, estimate in finding.scalars.items()}
    assert values == {
        "trace": true.trace(),
        "largest_eigenvalue": spectrum[0],
        "stable_rank": stable_rank(spectrum),
        "participation_ratio": participation_ratio(spectrum),
        "empirical_trace": empirical.trace(),
        "empirical_largest_eigenvalue": empirical.spectrum()[0],
    }
    np.testing.assert_array_equal(finding.arrays["spectrum"], spectrum)
    np.testing.assert_array_equal(finding.arrays["empirical_spectrum"], empirical.spectrum())
    spread = np.std(true.sample_traces(), ddof=1) / math.sqrt(20)
    assert finding.scalars["trace"].stderr == pytest.approx(spread)
    assert all(estimate.stderr > 0 for estimate in finding.scalars.values())
    notes = " ".join(finding.notes)
    assert "N = 20 inputs; 75 trainable parameters; layer by layer" in notes
    assert "another matrix than the true Fisher" in notes


def test_standard_errors_are_the_spread_over_new_data():
    # Against the truth: 60 fresh data sets from the same source.
    torch.manual_seed(1)
    model = network()
    findings = [
        only(
            FisherInformation(kinds=("true",)),
            Evidence(model=model, data=Samples(torch.randn(32, 5).double()), loss=F.cross_entropy),
        )
        for _ in range(60)
    ]
    # The spread of 60 has a relative error of 9 %: the bounds are four of those. The half-samples
    # exaggerate for a largest eigenvalue that is not far from the second, as documented.
    bounds = {"trace": 1.36, "stable_rank": 1.36, "participation_ratio": 1.36}
    for name, bound in (bounds | {"largest_eigenvalue": 2.0}).items():
        estimates = [finding.scalars[name] for finding in findings]
        spread = np.std([estimate.value for estimate in estimates], ddof=1)
        stderr = math.sqrt(np.mean([estimate.stderr**2 for estimate in estimates]))
        assert 1 / 1.36 < stderr / spread < bound, name


def test_without_targets_the_empirical_part_is_left_out_and_said():
    given = evidence()
    given = evidence(data=Samples(given.data.inputs))
    finding = only(FisherInformation(), given)
    assert finding.failed is None
    assert np.isnan(finding.scalars["empirical_trace"].value)
    assert "needs the targets" in finding.scalars["empirical_trace"].note
    assert "empirical_spectrum" not in finding.arrays
    assert any("left out: the empirical Fisher needs the targets" in note for note in finding.notes)


def test_targets_that_do_not_fit_cost_only_the_empirical_part():
    given = evidence(data=Samples(torch.randn(6, 5).double(), torch.full((6,), 9)))
    finding = only(FisherInformation(), given)
    assert finding.scalars["trace"].value > 0
    assert any("allow class numbers from 0 to 2" in note for note in finding.notes)
    assert "allow class numbers" in finding.scalars["empirical_largest_eigenvalue"].note
    with pytest.raises(ValueError, match="class numbers"):
        only(FisherInformation(kinds=("empirical",)), given)


def test_kinds_can_be_chosen():
    finding = only(FisherInformation(kinds=("empirical",)), evidence())
    assert set(finding.scalars) == {"empirical_trace", "empirical_largest_eigenvalue"}
    assert set(finding.arrays) == {"empirical_spectrum"}


def test_the_spectrum_kept_is_what_lies_above_rounding(monkeypatch):
    # F = 2 E[x x^T] (x) I with x of 4 inputs and the constant: rank 5 * 20 (closed form).
    model = nn.Linear(4, 20).double()
    data = Samples(torch.randn(10, 4).double())
    given = Evidence(model=model, data=data, loss=F.mse_loss)
    spectrum = only(FisherInformation(kinds=("true",)), given).arrays["spectrum"]
    assert spectrum.shape == (100,)
    assert (np.diff(spectrum) <= 0).all()
    monkeypatch.setattr("geomprobe.information.analyzers.fisher_information._LONGEST_SPECTRUM", 64)
    cut = only(FisherInformation(kinds=("true",)), given).arrays["spectrum"]
    assert np.array_equal(cut, spectrum[:64])


class Shifted(nn.Module):
    """A layer that has a rule, and a parameter that has none."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(5))
        self.layer = nn.Linear(5, 20)

    def forward(self, x):
        return self.layer(x + self.shift)

    def reset_parameters(self):
        nn.init.normal_(self.shift)


@pytest.mark.parametrize(
    ("limits", "samples"),
    [
        ({"max_samples": 7}, 7),
        ({"max_rows": 60}, 3),
        ({"max_rows": 5}, 1),
        ({"max_gigabytes": 4 * 5 * 20 * 2.5 / 2**30}, 2),
    ],
)
def test_samples_are_limited_by_rows_and_memory(limits, samples):
    # 20 outputs, so 20 rows a sample, each of 5 raw parameters in 4 bytes.
    given = Evidence(
        model=Shifted(), data=Samples(torch.randn(10, 5)), loss=F.mse_loss, n_train=100
    )
    for analyzer in (FisherInformation, EffectiveDimension):
        finding = only(analyzer(**limits), given)
        name = "trace" if analyzer is FisherInformation else "local"
        assert finding.scalars[name].n == samples
        assert f"N = {samples} inputs, drawn at random from 10" in finding.notes[0]


@pytest.mark.parametrize("analyzer", BOTH)
def test_a_likelihood_can_stand_in_for_the_loss(analyzer):
    given = evidence(loss=None)
    finding = only(type(analyzer)(likelihood=Softmax()), given)
    assert finding.failed is None
    assert finding.scalars == only(analyzer, evidence()).scalars
    other = only(type(analyzer)(likelihood=Gaussian()), given)
    assert other.scalars != finding.scalars


# --- effective dimension ------------------------------------------------------------------------


def test_numbers_and_curves_are_those_of_the_formula():
    given = evidence()
    finding = only(EffectiveDimension(gamma=0.8, draws=3), given)
    gram = fisher_gram(given.model, given.data, likelihood=Softmax())
    spectra = [
        fisher_gram(one, given.data, likelihood=Softmax()).spectrum()
        for one in parameter_draws(given.model, 3, seed=given.seed)
    ]
    facts = {"n_parameters": 75, "gamma": 0.8}
    n = finding.arrays["n"]
    local = effective_dimension(gram.spectrum(), 1797, **facts)
    assert finding.scalars["local"].value == pytest.approx(local)
    assert finding.scalars["local_normalized"].value == pytest.approx(local / 75)
    stderr = finding.scalars["local"].stderr
    assert finding.scalars["local_normalized"].stderr == pytest.approx(stderr / 75)
    assert finding.scalars["global"].value == pytest.approx(
        global_effective_dimension(spectra, 1797, **facts)
    )
    np.testing.assert_allclose(
        finding.arrays["local_curve"], effective_dimension(gram.spectrum(), n, **facts)
    )
    np.testing.assert_allclose(
        finding.arrays["global_curve"], global_effective_dimension(spectra, n, **facts)
    )
    assert n[0] == smallest_valid_n(0.8)
    assert n[-1] == 10**6
    assert finding.arrays["local_curve_stderr"].shape == n.shape
    assert "3 draws of the parameters from each module" in finding.scalars["global"].method
    notes = " ".join(finding.notes)
    assert "n = 1797 (training samples), gamma = 0.8, kappa = 30.5318" in notes
    assert "not converged in the number of inputs, N = 20" in notes
    assert f"d = 75 over tr F = {gram.trace():.6g} for the local form." in notes
    mean_trace = np.mean([one.sum() for one in spectra])
    assert f"mean tr F of {mean_trace:.6g} for the global form, of 3 draws." in notes


def test_it_grows_with_the_number_of_inputs_as_the_note_says():
    values = [
        only(EffectiveDimension(draws=0), evidence(n)).scalars["local"].value for n in (4, 8, 16)
    ]
    assert values[0] < values[1] < values[2]


def test_global_standard_error_is_the_jackknife_over_draws():
    given = evidence()
    finding = only(EffectiveDimension(draws=4), given)
    spectra = [
        fisher_gram(one, given.data, likelihood=Softmax()).spectrum()
        for one in parameter_draws(given.model, 4, seed=given.seed)
    ]
    without = np.array(
        [
            global_effective_dimension(spectra[:i] + spectra[i + 1 :], 1797, n_parameters=75)
            for i in range(4)
        ]
    )
    # Efron and Tibshirani (1993), equation 11.5.
    expected = math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    assert finding.scalars["global"].stderr == pytest.approx(expected)


def test_one_draw_has_no_standard_error():
    finding = only(EffectiveDimension(draws=1), evidence())
    assert math.isnan(finding.scalars["global"].stderr)
    assert finding.scalars["global"].value > 0


def test_no_draws_leave_the_global_part_out():
    finding = only(EffectiveDimension(draws=0), evidence())
    assert set(finding.scalars) == {"local", "local_limit", "local_normalized"}
    assert "global_curve" not in finding.arrays


def test_draws_from_a_small_ball_give_the_local_form():
    finding = only(EffectiveDimension(radius=1e-7), evidence())
    value = finding.scalars["local"].value
    assert finding.scalars["global"].value == pytest.approx(value, rel=1e-6)
    assert "ball of radius 1e-07" in finding.scalars["global"].method


@pytest.mark.parametrize("n", [2, 18])
def test_too_small_n_is_undefined_with_the_reason_and_keeps_the_curve(n):
    finding = only(EffectiveDimension(), evidence(n_train=n))
    for name in ("local", "local_normalized", "global"):
        assert math.isnan(finding.scalars[name].value)
        assert "smallest n that works with this gamma is 19" in finding.scalars[name].note
    assert np.isfinite(finding.arrays["local_curve"]).all()


def test_n_is_taken_from_the_analyzer_then_training_then_data():
    assert any(
        "n = 500 (as asked for)" in m for m in only(EffectiveDimension(n=500), evidence()).notes
    )
    notes = only(EffectiveDimension(), evidence(n_train=None)).notes
    assert any("n = 20 (the samples kept: give n_train" in note for note in notes)


def test_a_model_whose_initialisation_is_unknown_has_no_global_form_but_a_local_one():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 3).double())

        def forward(self, x):
            return x @ self.weight

    finding = only(EffectiveDimension(), evidence(model=Raw()))
    assert finding.scalars["local"].value > 0
    assert math.isnan(finding.scalars["global"].value)
    assert "no reset_parameters() in (root) (Raw)" in finding.scalars["global"].note


# --- both ---------------------------------------------------------------------------------------


def test_the_registry_knows_both():
    assert load_analyzer("fisher_information", max_samples=8) == FisherInformation(max_samples=8)
    assert load_analyzer("effective_dimension", draws=0) == EffectiveDimension(draws=0)


def test_both_share_one_gram():
    given = evidence(model=Counted(network()))
    only(FisherInformation(kinds=("true",)), given)
    calls = len(given.model.calls)
    assert calls > 0
    only(EffectiveDimension(draws=0), given)
    assert len(given.model.calls) == calls


@pytest.mark.parametrize("analyzer", BOTH)
def test_findings_survive_saving(analyzer, tmp_path):
    finding = only(analyzer, evidence())
    finding.save(tmp_path / "finding.json")
    assert Finding.load(tmp_path / "finding.json") == finding


@pytest.mark.parametrize("analyzer", BOTH)
def test_every_scalar_has_a_reading_a_method_and_n(analyzer):
    finding = only(analyzer, evidence())
    assert set(finding.scalars) == set(analyzer.readings)
    assert all(estimate.method and estimate.n for estimate in finding.scalars.values())


@pytest.mark.parametrize("analyzer", BOTH)
def test_same_seed_same_finding(analyzer):
    small = type(analyzer)(max_samples=7)
    first, again, other = (only(small, evidence(seed=seed)) for seed in (0, 0, 1))
    assert first.scalars == again.scalars
    assert first.scalars != other.scalars
    assert any("N = 7 inputs, drawn at random from 20" in note for note in first.notes)


@pytest.mark.parametrize("analyzer", BOTH)
def test_without_loss_and_likelihood_it_fails_with_the_remedy(analyzer):
    with pytest.warns(FailedAnalysisWarning, match="pass loss="):
        finding = only(analyzer, evidence(loss=None))
    assert "FisherInformation(likelihood=Softmax())" in finding.failed


@pytest.mark.parametrize("analyzer", BOTH)
def test_an_unknown_loss_fails_with_the_remedy(analyzer):
    with pytest.warns(FailedAnalysisWarning, match="give the analyzers a likelihood"):
        (finding,) = analyze(evidence(loss=F.l1_loss), analyzer)
    assert "known are cross_entropy" in finding.failed


@pytest.mark.parametrize("analyzer", BOTH)
def test_one_sample_gives_numbers_without_standard_errors(analyzer):
    finding = only(analyzer, evidence(1, loss=functools.partial(F.cross_entropy, reduction="sum")))
    scalars = {name: one for name, one in finding.scalars.items() if name != "local_limit"}
    assert all(estimate.value > 0 for estimate in scalars.values())
    for name, estimate in finding.scalars.items():
        assert math.isnan(estimate.stderr) == (name != "global")


@pytest.mark.parametrize("analyzer", BOTH)
def test_a_model_whose_outputs_do_not_react_has_undefined_shape(analyzer):
    class Constant(nn.Linear):
        def forward(self, x):
            return torch.zeros(len(x), 3, dtype=x.dtype) + 0 * super().forward(x)

    finding = only(analyzer, evidence(40, model=Constant(5, 3).double()))
    undefined = {name for name, estimate in finding.scalars.items() if math.isnan(estimate.value)}
    assert undefined == (
        {"stable_rank", "participation_ratio"}
        if isinstance(analyzer, FisherInformation)
        else {"local", "local_limit", "local_normalized", "global"}
    )
    assert all("Fisher information is zero" in finding.scalars[name].note for name in undefined)


@pytest.mark.parametrize("analyzer", BOTH)
def test_the_model_is_left_as_it_was(analyzer):
    given = evidence(
        model=nn.Sequential(
            nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3)
        ).double()
    )
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    stream = torch.get_rng_state()
    only(analyzer, given)
    assert all(torch.equal(value, before[name]) for name, value in given.model.state_dict().items())
    assert all(module.training for module in given.model.modules())
    assert all(parameter.grad is None for parameter in given.model.parameters())
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (FisherInformation, {"max_samples": 0}, "max_samples"),
        (FisherInformation, {"kinds": ()}, "kinds"),
        (FisherInformation, {"kinds": ("mc",)}, "kinds"),
        (EffectiveDimension, {"max_samples": 0}, "max_samples"),
        (EffectiveDimension, {"draws": -1}, "draws"),
        (EffectiveDimension, {"gamma": 2.0}, "gamma"),
        (EffectiveDimension, {"n": 1}, "n must be at least 2"),
    ],
)
def test_bad_parameters_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
