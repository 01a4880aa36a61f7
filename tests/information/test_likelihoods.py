"""Factors of the output Fisher against diag(p) - p p^T, 1/s^2 I and diag(p(1 - p))."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn import functional as F

from geomprobe.information import Bernoulli, Gaussian, Softmax, likelihood_of

LOGITS = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(2, 7)), elements=st.floats(-60, 60)
)
EVERY = [Softmax(), Gaussian(), Gaussian(0.3), Bernoulli()]


def expected_outer_product(likelihood, outputs, targets, probabilities):
    """E_y[g g^T] by going through every target, with g from autograd."""
    outputs = outputs.clone().requires_grad_()
    total = torch.zeros(outputs.shape[1], outputs.shape[1], dtype=outputs.dtype)
    for target, probability in zip(targets, probabilities, strict=True):
        value = likelihood.negative_log_likelihood(outputs, target)
        (gradient,) = torch.autograd.grad(value.sum(), outputs)
        total += probability * torch.outer(gradient[0], gradient[0])
    return total


@given(LOGITS)
def test_softmax_factor_squares_to_the_covariance_of_a_class(logits):
    logits = torch.from_numpy(logits)
    p = logits.softmax(1)
    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    factor = Softmax().rows(logits).mT
    assert factor.shape == (*logits.shape, logits.shape[1] - 1)
    assert (factor @ factor.mT - covariance).abs().max() < 1e-15


@pytest.mark.parametrize("margin", [0.0, 5.0, 20.0, 40.0, 90.0])
@pytest.mark.parametrize("winner", [0, 1, 4])
def test_softmax_factor_of_a_confident_float32_input_keeps_its_precision(margin, winner):
    logits = torch.tensor([[0.3, -0.2, 0.1, 0.0, 0.2]])
    logits[0, winner] += margin
    factor = Softmax().rows(logits).mT.double()
    exact = Softmax().rows(logits.double()).mT
    assert torch.isfinite(factor).all()
    assert float((factor - exact).abs().max()) <= 1e-5 * float(exact.abs().max())
    # 1 - p of the winner, from the other classes: it is lost in p itself.
    rest = logits.double().softmax(1)[0, [c for c in range(5) if c != winner]].sum()
    variance = float((factor @ factor.mT)[0, winner, winner])
    assert variance == pytest.approx(float(rest * (1 - rest)), rel=1e-5, abs=1e-40)


def test_softmax_factor_of_a_certain_float32_input_is_zero_and_not_nan():
    assert (Softmax().rows(torch.tensor([[0.0, 1000.0, -5.0]])) == 0).all()


def test_softmax_factor_is_the_expectation_over_the_models_own_labels():
    logits = torch.tensor([[0.3, -1.2, 2.0, 0.1]], dtype=torch.float64)
    classes = [torch.tensor([c]) for c in range(4)]
    expected = expected_outer_product(Softmax(), logits, classes, logits.softmax(1)[0])
    factor = Softmax().rows(logits).mT[0]
    torch.testing.assert_close(factor @ factor.T, expected, rtol=1e-12, atol=1e-15)


def test_bernoulli_factor_is_the_expectation_over_the_models_own_labels():
    logits = torch.tensor([[0.3, -4.0]], dtype=torch.float64)
    p = logits.sigmoid()[0]
    labels = [torch.tensor([[a, b]], dtype=torch.float64) for a in (0, 1) for b in (0, 1)]
    chances = [
        (p[0] if label[0, 0] else 1 - p[0]) * (p[1] if label[0, 1] else 1 - p[1])
        for label in labels
    ]
    expected = expected_outer_product(Bernoulli(), logits, labels, chances)
    factor = Bernoulli().rows(logits).mT[0]
    torch.testing.assert_close(factor @ factor.T, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("logit", [-100.0, 100.0, 80.0])
def test_bernoulli_factor_of_a_confident_float32_input_does_not_vanish(logit):
    # p (1 - p) = e^-|z| to first order, although 1 - p is 0 in float32; e^-100 is subnormal.
    factor = float(Bernoulli().rows(torch.tensor([[logit]])))
    assert factor == pytest.approx(math.exp(-abs(logit) / 2), rel=1e-5)


def test_gaussian_factor_is_the_inverse_standard_deviation():
    outputs = torch.randn(3, 2, dtype=torch.float64)
    factor = Gaussian(0.25).rows(outputs).mT
    torch.testing.assert_close(factor @ factor.mT, 4.0 * torch.eye(2).double().expand(3, 2, 2))


def test_negative_log_likelihoods_are_those_of_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    classes = torch.tensor([0, 2, 1, 1, 0])
    real = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    labels = (real > 0).double()
    given = torch.distributions
    for likelihood, targets, expected in [
        (Softmax(), classes, given.Categorical(logits=outputs).log_prob(classes)),
        (Gaussian(0.3), real, given.Normal(outputs, 0.3**0.5).log_prob(real).sum(1)),
        (Bernoulli(), labels, given.Bernoulli(logits=outputs).log_prob(labels).sum(1)),
    ]:
        value = likelihood.negative_log_likelihood(outputs, targets)
        torch.testing.assert_close(value, -expected)


@pytest.mark.parametrize(
    ("loss", "likelihood"),
    [
        (F.cross_entropy, Softmax()),
        (nn.CrossEntropyLoss(), Softmax()),
        (nn.CrossEntropyLoss(ignore_index=0), Softmax(ignore_index=0)),
        (functools.partial(F.cross_entropy, ignore_index=7), Softmax(ignore_index=7)),
        (nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1), Softmax()),
        (functools.partial(F.cross_entropy, reduction="sum"), Softmax()),
        (functools.partial(functools.partial(F.cross_entropy), label_smoothing=0.1), Softmax()),
        (nn.NLLLoss(), Softmax()),
        (F.mse_loss, Gaussian(0.5)),
        (nn.MSELoss(reduction="sum"), Gaussian(0.5)),
        (F.binary_cross_entropy_with_logits, Bernoulli()),
        (nn.BCEWithLogitsLoss(), Bernoulli()),
    ],
)
def test_likelihood_is_inferred_from_the_loss(loss, likelihood):
    assert likelihood_of(loss) == likelihood


def test_summed_squared_error_is_the_gaussian_of_variance_one_half():
    outputs, targets = torch.randn(4, 3).double().requires_grad_(), torch.randn(4, 3).double()
    (of_loss,) = torch.autograd.grad(nn.MSELoss(reduction="sum")(outputs, targets), outputs)
    value = likelihood_of(nn.MSELoss()).negative_log_likelihood(outputs, targets).sum()
    torch.testing.assert_close(torch.autograd.grad(value, outputs)[0], of_loss)


class Focal(nn.CrossEntropyLoss):
    pass


@pytest.mark.parametrize("loss", [F.l1_loss, nn.BCELoss(), Focal(), lambda a, b: (a - b).sum()])
def test_unknown_loss_says_what_to_pass(loss):
    with pytest.raises(ValueError, match=r"known are cross_entropy.*likelihood=Softmax\(\)"):
        likelihood_of(loss)


@pytest.mark.parametrize("loss", [None, nn.MSELoss, "cross_entropy"])
def test_what_is_no_loss_says_what_is(loss):
    with pytest.raises(ValueError, match=r"must be a function or an instance.*known are"):
        likelihood_of(loss)


@pytest.mark.parametrize(
    ("likelihood", "targets", "message"),
    [
        (Softmax(), torch.tensor([0, 1, 3]), "from 0 to 3.*allow class numbers from 0 to 2"),
        (Softmax(), torch.tensor([0, -1, 1]), "from -1 to 1.*and -100 for padding"),
        (Softmax(ignore_index=-1), torch.tensor([0, -100, 1]), "from -100 to 1.*and -1 for"),
        (Softmax(), torch.tensor([0, 1]), r"shape \(3,\)"),
        (Softmax(), torch.zeros(3, 1, dtype=torch.long), r"got shape \(3, 1\)"),
        (Softmax(), torch.tensor([True, False, True]), "bool"),
        (Softmax(), torch.randn(3, 3) - 9, "probabilities"),
        (Softmax(), torch.rand(3, 2), r"shape \(3, 3\), got shape \(3, 2\)"),
        (Gaussian(), torch.randn(3), "real numbers"),
        (Gaussian(), torch.full((3, 3), math.nan), "NaN"),
        (Bernoulli(), torch.full((3, 3), 2.0), "labels in"),
        (Bernoulli(), torch.ones(3, 2), "labels in"),
    ],
)
def test_targets_that_do_not_fit_are_refused(likelihood, targets, message):
    with pytest.raises(ValueError, match=message):
        likelihood.negative_log_likelihood(torch.zeros(3, 3), targets)


def test_classes_along_another_axis_than_said_are_refused_with_the_axis_to_say():
    outputs, targets = torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got shape \(2, 5\).*axis=-1"):
        Softmax().rows(outputs, targets)
    assert Softmax(axis=-1).rows(outputs, targets).shape == (2, 10, 5, 3)


def sequences_of_labels(length, classes):
    return [torch.tensor([labels]) for labels in itertools.product(range(classes), repeat=length)]


@pytest.mark.parametrize("axis", [1, -1])
def test_positions_of_a_sample_add_up_over_every_sequence_of_labels(axis):
    logits = torch.randn(1, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = logits.movedim(2, axis)
    likelihood = Softmax(axis=axis)
    sequences = sequences_of_labels(3, 2)
    log_p = logits.log_softmax(2)[0]
    total = 0
    for labels in sequences:
        given = outputs.clone().requires_grad_()
        value = likelihood.negative_log_likelihood(given, labels)
        chance = sum(log_p[t, c] for t, c in enumerate(labels[0])).exp()
        assert value.item() == pytest.approx(-chance.log().item())
        (gradient,) = torch.autograd.grad(value.sum(), given)
        total = total + chance * torch.outer(gradient.flatten(), gradient.flatten())
    rows = likelihood.rows(outputs)
    assert rows.shape == (1, 3, *outputs.shape[1:])
    flat = rows[0].flatten(1)
    torch.testing.assert_close(flat.T @ flat, total, rtol=1e-12, atol=1e-15)


def test_padding_has_no_information_no_loss_and_no_label():
    outputs = torch.randn(4, 5, 3, dtype=torch.float64)
    targets = torch.randint(5, (4, 3))
    targets[0, 1:] = targets[2] = -1
    likelihood = Softmax(ignore_index=-1)
    rows = likelihood.rows(outputs, targets)
    torch.testing.assert_close(rows[1], likelihood.rows(outputs)[1])
    torch.testing.assert_close(rows[0, :4, :, 0], likelihood.rows(outputs[..., :1])[0, :, :, 0])
    assert not rows[0, :, :, 1:].any()
    assert not rows[2].any()
    expected = F.cross_entropy(outputs, targets, ignore_index=-1, reduction="none").sum(1)
    torch.testing.assert_close(likelihood.negative_log_likelihood(outputs, targets), expected)
    drawn = likelihood.sample(outputs, torch.Generator().manual_seed(0), targets)
    assert torch.equal(drawn == -1, targets == -1)


@pytest.mark.parametrize("axis", [2, -3, 0, 5])
def test_an_axis_that_holds_no_classes_is_refused(axis):
    with pytest.raises(ValueError, match=f"classes along axis {axis}"):
        Softmax(axis=axis).rows(torch.zeros(3, 4))


@pytest.mark.parametrize("likelihood", [*EVERY, Softmax(axis=-1)])
def test_drawn_labels_have_the_information_of_the_outputs(likelihood):
    # E[g g^T] over 40,000 draws; its entries have a standard error of about 1/200 of the largest.
    outputs = torch.tensor([[0.3, -1.2, 0.5]], dtype=torch.float64).expand(40_000, 3)
    drawn = likelihood.sample(outputs, torch.Generator().manual_seed(0))
    given = outputs.clone().requires_grad_()
    value = likelihood.negative_log_likelihood(given, drawn).sum()
    (gradients,) = torch.autograd.grad(value, given)
    rows = likelihood.rows(outputs[:1])[0]
    expected = rows.T @ rows
    found = gradients.T @ gradients / len(gradients)
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()


def test_the_variance_of_a_gaussian_is_estimated_from_residuals():
    outputs, targets = torch.randn(50, 2).double(), torch.randn(50, 2).double()
    variance = float((outputs - targets).square().mean())
    estimated, known = Gaussian(variance=None), Gaussian(variance)
    torch.testing.assert_close(estimated.rows(outputs, targets), known.rows(outputs))
    torch.testing.assert_close(
        estimated.negative_log_likelihood(outputs, targets),
        known.negative_log_likelihood(outputs, targets),
    )
    with pytest.raises(ValueError, match="from targets, and there are none"):
        estimated.rows(outputs)
    with pytest.raises(ValueError, match="no variance to estimate"):
        estimated.rows(outputs, outputs)


def test_softmax_of_one_class_is_refused():
    with pytest.raises(ValueError, match="Bernoulli"):
        Softmax().rows(torch.zeros(3, 1))


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, math.inf])
def test_variance_must_be_positive(variance):
    with pytest.raises(ValueError, match="variance must be positive"):
        Gaussian(variance)


@pytest.mark.parametrize("likelihood", EVERY)
def test_likelihoods_are_equal_and_hashed_by_value(likelihood):
    assert type(likelihood)(**vars(likelihood)) == likelihood
    assert hash(type(likelihood)(**vars(likelihood))) == hash(likelihood)
