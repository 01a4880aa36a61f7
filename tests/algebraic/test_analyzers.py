import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe import Evidence, Samples
from geomprobe.algebraic import (
    CriticalPoint,
    EffectiveDegree,
    FunctionalDimension,
    classify_critical_point,
    effective_degree,
    functional_dimension,
)

LOSS = nn.functional.cross_entropy
ALL = [FunctionalDimension(), EffectiveDegree(segments=8, max_degree=16), CriticalPoint()]


def evidence(n=60, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    data = Samples(torch.randn(n, 4), torch.randint(3, (n,)))
    return Evidence(**{"model": model, "data": data, "loss": LOSS, "seed": 4, **options})


def test_dimensions_are_those_of_the_function():
    given = evidence(40)
    (finding,) = FunctionalDimension()(given)
    found = functional_dimension(given.model, given.data, seed=4)
    values = {name: one.value for name, one in finding.scalars.items()}
    assert values == {
        "functional_dimension": found.rank,
        "redundant_parameters": found.redundant,
        "silent_parameters": sum(found.silent.values()),
        "dimension_drop": found.drop,
        "rank_gap": np.log10(found.gap),
    }
    assert all(one.exact for one in finding.scalars.values())
    np.testing.assert_array_equal(finding.arrays["singular_values"], found.singular_values)
    assert any("redundant directions lie in" in note for note in finding.notes)


def test_samples_are_thinned_and_too_few_are_told():
    (finding,) = FunctionalDimension()(evidence(600))
    # 43 parameters, three outputs: three for each parameter.
    assert "A uniform sample of 43 of 600 inputs." in finding.notes
    (finding,) = FunctionalDimension()(evidence(4))
    assert any("more data give more" in note for note in finding.notes)


def test_a_model_that_nothing_moves_has_no_gap():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x

    (finding,) = FunctionalDimension(draws=0)(evidence(model=Constant()))
    assert finding.scalars["functional_dimension"].value == 0
    assert finding.scalars["silent_parameters"].value == 2
    assert "no parameter changes any output" in finding.scalars["rank_gap"].note


def test_degrees_are_those_of_the_function():
    given = evidence()
    (finding,) = EffectiveDegree(segments=8, max_degree=32)(given)
    found = effective_degree(given.model, given.data, segments=8, max_degree=32, seed=4)
    assert finding.scalars == {
        "effective_degree": found.degree,
        "nonlinearity": found.nonlinearity,
    }
    np.testing.assert_array_equal(finding.arrays["errors_by_degree"], found.errors)


def test_critical_points_are_those_of_the_function():
    given = evidence()
    (finding,) = CriticalPoint(newton_steps=2)(given)
    found = classify_critical_point(given.model, given.data, LOSS, newton_steps=2, seed=4)
    values = {name: one.value for name, one in finding.scalars.items()}
    assert values == {
        "relative_gradient": found.relative_gradient,
        "morse_index": found.index,
        "flat_directions": found.flat,
        "symmetric_directions": found.symmetric,
        "unexplained_directions": found.unexplained,
    }
    assert finding.notes[0] == f"Kind of point: {found.kind}."
    assert "After Newton steps" in finding.notes[1]
    np.testing.assert_array_equal(finding.arrays["hessian_eigenvalues"], found.eigenvalues)


def test_without_a_loss_there_is_nothing_critical():
    (finding,) = CriticalPoint()(evidence(loss=None))
    assert "pass loss=" in finding.failed


@pytest.mark.parametrize("analyzer", [FunctionalDimension, CriticalPoint])
def test_larger_models_are_undefined_with_the_reason(analyzer):
    (finding,) = analyzer(max_parameters=20)(evidence())
    assert set(finding.scalars) == set(analyzer.readings)
    for one in finding.scalars.values():
        assert np.isnan(one.value)
        assert "43 trainable parameters, and at most 20" in one.note


@pytest.mark.parametrize("analyzer", ALL, ids=lambda one: one.name)
def test_every_scalar_has_a_reading_and_an_audit_runs_it_if_asked(analyzer):
    (finding,) = analyzer(evidence())
    assert set(finding.scalars) == set(analyzer.readings)
    assert not analyzer.by_default
    assert analyzer.name in gp.registered_analyzers()
    given = evidence()
    report = gp.audit(
        given.model, (given.data.inputs, given.data.targets), loss=LOSS, analyzers=[analyzer]
    )
    assert [one.failed for one in report.findings] == [None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FunctionalDimension(max_parameters=0), "max_parameters must be at least 1"),
        (lambda: FunctionalDimension(draws=-1), "draws must be at least 0"),
        (lambda: EffectiveDegree(segments=3), "segments must be at least 4"),
        (lambda: EffectiveDegree(tolerance=1), r"tolerance must be in \(0, 1\)"),
        (lambda: CriticalPoint(newton_steps=-1), "newton_steps must be at least 0"),
        (lambda: CriticalPoint(tolerance=0), r"tolerance must be in \(0, 1\)"),
    ],
)
def test_bad_parameters_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
