"""The largest eigenvalues of a Fisher information against dense matrices, by both routes."""

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.information import Softmax, fisher_eigenpairs, fisher_gram
from geomprobe.information.krylov import leading_eigenpairs


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def mlp(n=40):
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    return model, Samples(torch.randn(n, 5).double())


def dense(model, samples):
    """F = B^T B, by a backward pass for each row."""
    outputs = model(samples.inputs)
    rows = []
    for n, vectors in enumerate(Softmax().rows(outputs.detach())):
        for vector in vectors:
            grads = torch.autograd.grad(
                outputs[n], list(model.parameters()), vector, retain_graph=True
            )
            rows.append(torch.cat([grad.flatten() for grad in grads]))
    rows = torch.stack(rows)
    return rows.T @ rows / len(samples)


@pytest.mark.parametrize("route", ["Gram", "Lanczos"])
@pytest.mark.parametrize("k", [1, 6])
def test_eigenpairs_are_those_of_the_dense_fisher(route, k, monkeypatch):
    import sys

    module = sys.modules[fisher_eigenpairs.__module__]
    monkeypatch.setattr(module, "_gram_takes_less", lambda *arguments: route == "Gram")
    model, samples = mlp()
    fisher = dense(model, samples)
    found = fisher_eigenpairs(model, samples, k, likelihood=Softmax())
    assert found.route.startswith(route)
    expected = torch.linalg.eigvalsh(fisher).flip(0)[:k]
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    vectors = torch.from_numpy(found.vectors)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(k).double(), rtol=0, atol=1e-8)
    residuals = (fisher @ vectors - vectors * torch.from_numpy(found.values)).norm(dim=0).numpy()
    assert (residuals <= found.residuals + 1e-14 * found.values[0]).all()
    assert found.residuals.max() < 1e-9 * found.values[0]


def test_the_route_that_takes_fewer_operations_is_taken():
    # N^2 (5 + 8 + 9 (8 + 4)) for the Gram matrix, 36 k N 2 (5 8 + 8 4) for products: N = 43 k.
    for n, k, route in [(20, 1, "Gram"), (200, 1, "Lanczos"), (200, 20, "Gram")]:
        model, samples = mlp(n)
        assert fisher_eigenpairs(model, samples, k, likelihood=Softmax()).route.startswith(route)


def test_a_gram_matrix_that_does_not_fit_is_not_tried(monkeypatch):
    from geomprobe import memory

    model, samples = mlp(n=30)
    expected = fisher_gram(model, samples, likelihood=Softmax()).spectrum()[:2]
    assert 24 * 90**2 < 200_000
    monkeypatch.setattr(memory, "available_bytes", lambda: 200_000)
    found = fisher_eigenpairs(model, samples, 2, likelihood=Softmax())
    assert found.route.startswith("Lanczos")
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)


def test_no_more_eigenvalues_than_there_are():
    model, samples = mlp(n=2)
    with pytest.raises(ValueError, match="from 1 to 6"):
        fisher_eigenpairs(model, samples, 7, likelihood=Softmax())
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([800.0, 0, 0, 0]))
    with pytest.raises(ValueError, match="only 0 eigenvalues differ from zero"):
        fisher_eigenpairs(model, samples, 1, likelihood=Softmax())


def test_rounding_is_no_eigenvalue():
    """Outputs that are linear in (w, b): the rank is at most that of the inputs with a one, 4."""
    model = nn.Linear(3, 2).double()
    samples = Samples(torch.randn(12, 3).double())
    with pytest.raises(ValueError, match="only 4 eigenvalues differ from zero"):
        fisher_eigenpairs(model, samples, 10, likelihood=Softmax())


# --- of a matrix at hand ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "spectrum",
    [
        torch.arange(1.0, 301) ** -2,
        torch.cat([torch.full((12,), 3.0), torch.arange(1.0, 289) ** -1]),  # of multiplicity 12
        torch.cat([torch.ones(5), torch.zeros(295)]),  # of rank 5
        torch.ones(300),
        torch.linspace(1, 0, 300),
    ],
)
def test_the_leading_eigenvalues_of_known_spectra(spectrum, dtype):
    q = torch.linalg.qr(torch.randn(300, 300, dtype=torch.float64)).Q
    matrix = ((q * spectrum.double()) @ q.T).to(dtype)
    values, vectors = leading_eigenpairs(matrix, 12)
    eps = torch.finfo(dtype).eps
    expected = spectrum.sort(descending=True).values[:12].to(dtype)
    torch.testing.assert_close(values, expected, rtol=0, atol=float(30 * eps * spectrum.max()))
    torch.testing.assert_close(
        vectors.T @ vectors, torch.eye(12, dtype=dtype), rtol=0, atol=300 * eps
    )
    moved = matrix @ vectors
    torch.testing.assert_close(moved, vectors * values, rtol=0, atol=3 * eps**0.75)


def test_a_zero_matrix_has_zero_eigenvalues():
    values, vectors = leading_eigenpairs(torch.zeros(100, 100).double(), 3)
    assert not values.any()
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3).double())
