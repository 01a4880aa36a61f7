"""The Fisher Gram matrix of samples in several processes is that of one process."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from geomprobe import Samples
from geomprobe.information import Gaussian, Softmax, distributed_fisher_gram, fisher_gram

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


class Tokens(nn.Module):
    """A small transformer: tables, attention (which has no rule), norms and a pooled head."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 6), nn.Parameter(torch.randn(5, 6))
        self.more = nn.Embedding(5, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        places = self.places + self.more(torch.arange(5))
        return self.head(self.layer(self.tokens(tokens) + places).mean(1))


def mlp():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    return model, torch.randn(7, 5)


def cnn():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(True),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    return model, torch.randn(7, 2, 6, 6)


def transformer():
    return Tokens(), torch.randint(11, (7, 5))


class Unruly(nn.Module):
    """No rule covers it, and torch.func cannot follow it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))

    def forward(self, x):
        return -x @ self.weight if float(x.sum()) > 1e9 else x.tanh() @ self.weight


MODELS = {
    "mlp": mlp,
    "cnn": cnn,
    "transformer": transformer,
    "unruly": lambda: (Unruly(), torch.randn(7, 5)),
}


def build(name):
    torch.manual_seed(0)
    model, x = MODELS[name]()
    model = model.double().eval()
    return model, Samples(x.double() if x.is_floating_point() else x, torch.arange(7) % 3)


def share(data, rank, ends):
    return data.take(slice(*([0, *ends][rank : rank + 2])))


@pytest.mark.parametrize("ends", [(5, 7), (1, 7), (2, 3, 7), (1, 3, 4, 7)])
def test_the_gram_matrix_is_that_of_one_process(in_processes, ends):
    def job(rank, processes):
        found = {}
        for name in MODELS if processes == 2 else ["mlp", "cnn"]:
            model, data = build(name)
            for kind in ("true", "empirical"):
                found[name, kind] = distributed_fisher_gram(
                    model, share(data, rank, ends), kind=kind, likelihood=Softmax()
                )
                found[name, kind] = vars(found[name, kind]) | {"rows": None}
        return found

    first, *others = in_processes(job, len(ends))
    for (name, kind), gram in first.items():
        model, data = build(name)
        expected = fisher_gram(model, data, kind=kind, likelihood=Softmax())
        np.testing.assert_allclose(gram["gram"], expected.gram, rtol=1e-10, atol=1e-15)
        np.testing.assert_array_equal(gram["gram"], gram["gram"].T)
        assert gram["route"] == f"{len(ends)} processes; {expected.route}"
        for field in ("n_samples", "n_parameters", "kind", "rows_per_sample", "row_epsilon"):
            assert gram[field] == getattr(expected, field)
        for other in others:
            np.testing.assert_array_equal(other[name, kind]["gram"], gram["gram"])


def test_what_maps_to_parameters_and_back_is_that_of_one_process(in_processes):
    def mapped(gram, model):
        gradient = {name: torch.ones_like(p) for name, p in model.named_parameters()}
        values, vectors = gram.eigenvectors(2)
        step = gram.natural_gradient(gradient, damping=0.1)
        some = gram.subset([6, 0, 4])
        alone = gram.subset([6])
        return {
            "values": values,
            "vectors": [v.abs().detach().numpy() for one in vectors for v in one.values()],
            "step": [part.detach().numpy() for part in step.values()],
            "norms": [gram.norm(step), some.norm(step), alone.norm(step), gram.fisher_rao_norm()],
            "some": [p.numpy() for p in some.rows.into_parameters(torch.arange(6.0)).values()],
            "columns": [
                p.numpy() for p in some.rows.into_parameters(torch.arange(12.0).view(6, 2)).values()
            ],
            "into": some.rows.into_rows(step).numpy(),
            "shape": (gram.rows.shape, some.rows.shape),
        }

    def job(rank, processes):
        model, data = build("transformer")
        gram = distributed_fisher_gram(model, share(data, rank, (5, 7)), likelihood=Softmax())
        with pytest.raises(ValueError, match=r"coefficients must have shape \(14,\)"):
            gram.rows.into_parameters(torch.zeros(2))
        return mapped(gram, model)

    model, data = build("transformer")
    expected = mapped(fisher_gram(model, data, likelihood=Softmax()), model)
    for found in in_processes(job, 2):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            for a, b in zip(found[name], values, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=name)


class Routed(nn.Module):
    """An expert that sees only the rows it is chosen for."""

    def __init__(self):
        super().__init__()
        self.expert, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        chosen = x[:, 0] > 0
        routed = x.clone()
        routed[chosen] = self.expert(x[chosen])
        return self.head(torch.tanh(routed))


def test_layers_called_otherwise_in_one_process_are_left_to_gradients_in_all(in_processes):
    torch.manual_seed(0)
    x = torch.randn(7, 4).double()
    x[:4, 0], x[4:, 0] = 1.0, -1.0
    model, data = Routed().double(), Samples(x)

    def job(rank, processes):
        found = distributed_fisher_gram(model, share(data, rank, (4, 7)), likelihood=Softmax())
        return found.gram, found.route

    expected = fisher_gram(model, data, likelihood=Softmax())
    for gram, route in in_processes(job, 2):
        np.testing.assert_allclose(gram, expected.gram, rtol=1e-10, atol=1e-15)
        assert route.startswith("2 processes; ")
        assert "layer by layer" not in route


def test_wrapped_models_several_passes_and_drawn_labels(in_processes, monkeypatch):
    from geomprobe.information import fisher

    monkeypatch.setattr(fisher, "_MOST_PASSING", 1)

    def job(rank, processes):
        torch.manual_seed(0)
        model = mlp()[0]
        same = torch.ones(4, 5)  # In every process: drawn alike, the blocks would be the same.
        wrapped = DistributedDataParallel(model)
        options = {"likelihood": Softmax(), "dtype": torch.float32}
        true = distributed_fisher_gram(wrapped, Samples(same), **options)
        drawn = distributed_fisher_gram(wrapped, Samples(same), kind="mc", draws=8, **options)
        return true.gram, drawn.gram, true.gram_epsilon, next(model.parameters()).grad

    torch.manual_seed(0)
    model = mlp()[0]
    expected = fisher_gram(model, Samples(torch.ones(8, 5)), likelihood=Softmax()).gram
    for true, drawn, epsilon, grad in in_processes(job, 2):
        np.testing.assert_allclose(true, expected, atol=1e-5 * expected.max())
        assert not np.allclose(drawn[:32, :32], drawn[32:, 32:])
        assert np.trace(drawn) == pytest.approx(np.trace(expected), rel=0.5)
        assert epsilon == torch.finfo(torch.float32).eps
        assert grad is None


def test_what_fails_in_one_process_is_raised_in_all(in_processes):
    def job(rank, processes):
        model, data = build("mlp")
        mine = share(data, rank, (4, 7))
        messages = []

        def attempt(**given):
            try:
                options = {"model": model, "data": mine, "likelihood": Softmax()}
                distributed_fisher_gram(**(options | given))
            except Exception as error:
                messages.append(f"{type(error).__name__}: {error}")

        attempt(likelihood=Gaussian(None))
        attempt(data=mine if rank else Samples(mine.inputs[:0]))
        attempt(memory_share=1e-12)
        attempt(loss=lambda y, t: F.mse_loss(y, y) if rank else y.sum(), likelihood=None)
        other = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)).double() if rank else model
        attempt(model=other)
        with torch.no_grad():
            model[0].bias[0] += rank
        attempt()
        return messages

    first, second = in_processes(job, 2)
    assert all("give it, as in Gaussian(0.3)" in one[0] for one in (first, second))
    assert first[1] == "ValueError: data holds no samples"
    assert second[1] == "RuntimeError: process 0 failed with ValueError: data holds no samples"
    assert all("MemoryEstimateError" in one[2] for one in (first, second))
    assert all("does not say what the outputs mean" in one[3] for one in (first, second))
    assert all("hold different parameters" in one[4] + one[5] for one in (first, second))


def test_rows_of_different_shapes_are_refused(in_processes):
    def job(rank, processes):
        torch.manual_seed(0)
        model = nn.Linear(4, 3).double()
        data = Samples(torch.randn(3, 2 + rank, 4).double())
        with pytest.raises(ValueError, match=r"have \[4, 6\] rows a sample"):
            distributed_fisher_gram(model, data, likelihood=Softmax(axis=-1))
        return distributed_fisher_gram(
            model, data, kind="mc", likelihood=Softmax(axis=-1)
        ).gram.shape

    assert in_processes(job, 2) == [(6, 6), (6, 6)]


def test_one_process_is_the_function_of_one_process():
    model, data = build("mlp")
    found = distributed_fisher_gram(model, data, kind="mc", likelihood=Softmax(), seed=3)
    assert found == fisher_gram(model, data, kind="mc", likelihood=Softmax(), seed=3)
