"""Ways to a Fisher information: geomprobe's, those of its peers, and the least arithmetic.

Each is a function of inputs, of a model's name and of what is asked for: ``gram``, ``spectrum``,
``top`` (20 eigenvalues) or ``trace``.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from models import Classifier, convolutional, perceptron
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomprobe import Samples
from geomprobe.information import Softmax, fisher_eigenpairs, fisher_gram, fisher_trace

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
TOP, CLASSES = 20, 10
_ORDER = 1024


def inputs_of(model: str, n: int) -> Array:
    """Return digits as rows of pixels or as images, or tokens."""
    generator = np.random.default_rng(0)
    if model in ("perceptron", "convolutional"):
        from sklearn.datasets import load_digits

        images = load_digits().images[:n].astype(np.float32) / 16
        if model == "perceptron":
            return images.reshape(n, -1)
        return np.pad(images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))[:, None]
    vocabulary, length = (20_000, 64) if model == "large" else (1000, 32)
    return generator.integers(vocabulary, size=(n, length))


@cache
def trained(model: str) -> nn.Module:
    """Return a model after some steps on its inputs, so that its predictions are not uniform."""
    torch.manual_seed(0)
    if model == "large":  # Its weights as drawn.
        return Classifier(depth=12, width=768, heads=12, vocabulary=20_000, context=64).eval()
    network: nn.Module = {
        "perceptron": perceptron,
        "convolutional": convolutional,
        "transformer": lambda: Classifier(depth=4, width=192, heads=6, vocabulary=1000, context=32),
        "small": lambda: Classifier(depth=1, width=24, heads=2, vocabulary=1000, context=32),
    }[model]()
    x = torch.from_numpy(inputs_of(model, 256))
    labels = x.flatten(1).double().sum(dim=1).mul(7).long() % CLASSES
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(5 if x.dtype == torch.int64 else 60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[:64]), labels[:64]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return network.eval()


def geomprobe(
    points: Array, *, model: str, task: str, kind: str = "true", draws: int = 1
) -> Answer:
    """Layer by layer, in single precision as all others."""
    network, samples = trained(model), Samples(torch.from_numpy(points))
    options: dict[str, Any] = {"kind": kind, "likelihood": Softmax(), "draws": draws}
    if task == "trace":
        return {"trace": np.array(fisher_trace(network, samples, **options).value)}
    options["dtype"] = torch.float32
    if task == "top":
        k = min(TOP, (CLASSES - 1) * len(points))
        return {"eigenvalues": fisher_eigenpairs(network, samples, k, **options).values}
    gram = fisher_gram(network, samples, **options)
    return {"gram": gram.gram} if task == "gram" else {"eigenvalues": gram.spectrum()}


def torch_func(points: Array, *, model: str, task: str) -> Answer:
    """All per-sample gradients by ``torch.func``, 16 samples at a time, and their products."""
    x, network = torch.from_numpy(points), trained(model)
    rows = None if task == "trace" else torch.empty(len(x), CLASSES - 1, _size(network))
    total = 0.0
    for start, part in _gradients(network, x):
        if rows is None:
            total += float(sum(gradient.square().sum() for gradient in part)) / len(x)
            continue
        columns = rows[start : start + len(part[0])].split([g[0, 0].numel() for g in part], dim=2)
        for block, gradient in zip(columns, part, strict=True):
            block.copy_(gradient.flatten(2))
    if rows is None:
        return {"trace": np.array(total)}
    flat = rows.flatten(0, 1)
    return _answer(task, (flat @ flat.T) / len(x))


def _gradients(network: nn.Module, x: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def one(sample: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        def outputs(values: Mapping[str, Tensor]) -> Tensor:
            scores: Tensor = torch.func.functional_call(network, dict(values), (sample[None],))
            return scores[0]

        (found,) = torch.func.vmap(torch.func.vjp(outputs, parameters)[1])(vectors)
        gradients: dict[str, Tensor] = found
        return gradients

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for start in range(0, len(x), 16):
            here = x[start : start + 16]
            vectors = Softmax().rows(network(here))
            yield start, list(torch.func.vmap(one)(here, vectors).values())


def nngeometry(points: Array, *, model: str, task: str) -> Answer:
    """Its Gram matrix, its low-rank matrix by SVD, or its diagonal."""
    from nngeometry.metrics import FIM
    from nngeometry.object import FMatDense, PMatDiag, PMatLowRank
    from torch.utils.data import DataLoader, TensorDataset

    x = torch.from_numpy(points)
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=len(x))
    form = {"gram": FMatDense, "spectrum": PMatLowRank, "trace": PMatDiag}[task]
    matrix = FIM(trained(model), loader, form)
    if task == "trace":
        return {"trace": matrix.trace().detach().numpy()}
    if task == "spectrum":
        matrix.compute_eigendecomposition()
        return {"eigenvalues": matrix.evals.detach().numpy()}
    outputs, n = matrix.data.shape[:2]
    by_sample = matrix.data.permute(1, 0, 3, 2).reshape(n * outputs, -1)
    return {"gram": by_sample.detach().numpy() / n}


def backpack(points: Array, *, model: str, task: str) -> Answer:
    """Its square root of the Gauss-Newton matrix, which is the same, or its diagonal."""
    from backpack import backpack as collecting
    from backpack import extend
    from backpack.extensions import DiagGGNExact, SqrtGGNExact

    network, x = extend(copy.deepcopy(trained(model))), torch.from_numpy(points)
    loss = extend(nn.CrossEntropyLoss())(network(x), torch.zeros(len(x), dtype=torch.long))
    with collecting(DiagGGNExact() if task == "trace" else SqrtGGNExact()):
        loss.backward()
    if task == "trace":
        parts = [float(one.diag_ggn_exact.sum()) for one in network.parameters()]
        return {"trace": np.array(sum(parts))}
    gram = torch.zeros(())
    for one in network.parameters():
        rows = one.sqrt_ggn_exact.transpose(0, 1).flatten(2).flatten(0, 1)
        gram = gram + rows @ rows.T
    return _answer(task, gram)


def asdl(points: Array, *, model: str, task: str) -> Answer:
    """Its diagonal."""
    from asdl.fisher import FisherConfig, get_fisher_maker

    network, x = copy.deepcopy(trained(model)), torch.from_numpy(points)
    config = FisherConfig("fisher_exact", ["diag"], "cross_entropy")
    maker = get_fisher_maker(network, config)
    maker.setup_logits_repr(maker.setup_model_call(network, x))
    maker.forward_and_backward(data_size=len(x))
    found = [module.fisher.diag for module in network.modules() if hasattr(module, "fisher")]
    parts = [one.data for diagonal in found for one in (diagonal.weight, diagonal.bias)
             if one is not None]  # fmt: skip
    return {"trace": np.array(float(sum(part.sum() for part in parts)))}


def hessian_eigenthings(points: Array, *, model: str, task: str) -> Answer:
    """Lanczos with its defaults; for the trace Hutch++, which is an estimate."""
    import hessian_eigenthings as peer

    loss = nn.functional.cross_entropy
    operator = peer.GGNOperator(
        trained(model),
        _batch(points),
        peer.supervised_forward,
        peer.supervised_loss_of_output(loss),
    )
    with sdpa_kernel(SDPBackend.MATH):
        if task == "trace":
            return {"trace": np.array(peer.trace(operator, num_matvecs=99, seed=0).estimate)}
        k = min(TOP, (CLASSES - 1) * len(points))
        found = peer.lanczos(operator, k=k, seed=0, which="LA")
    return {"eigenvalues": found.eigenvalues.detach().numpy()}


def curvlinops(points: Array, *, model: str, task: str) -> Answer:
    """Its operator with SciPy's Lanczos; for the trace Hutch++, which is an estimate."""
    from curvlinops import GGNLinearOperator, hutchpp_trace
    from scipy.sparse.linalg import eigsh

    network = trained(model)
    parameters = [p for p in network.parameters() if p.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        operator = GGNLinearOperator(network, nn.CrossEntropyLoss(), parameters, _batch(points))
        if task == "trace":
            return {"trace": hutchpp_trace(operator, num_matvecs=99).numpy()}
        k = min(TOP, (CLASSES - 1) * len(points))
        start = np.random.default_rng(0).standard_normal(_size(network)).astype(np.float32)
        values = eigsh(operator.to_scipy(), k, which="LA", tol=1e-4, v0=start)[0]
    return {"eigenvalues": np.sort(values)[::-1]}


def arithmetic(points: Array, *, model: str, task: str) -> Answer:
    """No Fisher information, but what one takes at least.

    A forward pass; a backward pass a row of a sample, to activations alone; and, for a Gram matrix,
    as many multiplications and additions as half of the products of all pairs take by the cheaper
    of two ways in each layer, in products of square matrices, the fastest there are.
    """
    network, x = copy.deepcopy(trained(model)).requires_grad_(False), torch.from_numpy(points)
    first = next(one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv2d))
    each: list[float] = []
    handles = [first.register_forward_hook(lambda module, args, output: output.requires_grad_())]
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            handles.append(module.register_forward_hook(
                lambda module, args, output: each.append(_for_a_pair(module, output))
            ))  # fmt: skip
    for start in range(0, len(x), 32):
        each.clear()
        scores = network(x[start : start + 32])
        for vectors in Softmax().rows(scores.detach()).unbind(dim=1):
            scores.backward(vectors, retain_graph=True)
    for handle in handles:
        handle.remove()
    if task != "trace":
        square, out = torch.randn(_ORDER, _ORDER), torch.empty(_ORDER, _ORDER)
        for _ in range(round(sum(each) * len(x) ** 2 / 2 / _ORDER**3)):
            torch.mm(square, square, out=out)
    return {}


def _for_a_pair(module: Any, output: Tensor) -> float:
    """Return the multiply-adds that a pair of samples takes at least."""
    k, leaving = CLASSES - 1, module.weight.shape[0]
    entering, positions = module.weight[0].numel(), output[0].numel() // leaving
    if positions == 1:
        return entering + k**2 * leaving
    inner = positions**2 * (entering + k * leaving) + k**2 * positions * leaving
    return float(min(inner, k**2 * entering * leaving))


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _batch(points: Array) -> list[tuple[Tensor, Tensor]]:
    return [(torch.from_numpy(points), torch.zeros(len(points), dtype=torch.long))]


def _answer(task: str, gram: Tensor) -> Answer:
    if task == "gram":
        return {"gram": gram.numpy()}
    return {"eigenvalues": torch.linalg.eigvalsh(gram).flip(0).numpy()}


warnings.filterwarnings("ignore")
for _contender in (geomprobe, torch_func, nngeometry, backpack, asdl, hessian_eigenthings,
                   curvlinops, arithmetic):  # fmt: skip
    _contender.warm_up = 4  # type: ignore[attr-defined]
