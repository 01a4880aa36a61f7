"""Tasks of geomprobe's own zoos: digits, MNIST-1D, and the labels of a random ReLU network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples
from geomprobe.exceptions import needing
from geomprobe.hooks.quiet import streams_kept
from geomprobe.storage import Array, read_arrays, write_arrays
from geomprobe.zoos.networks import cnn, mlp, relu_teacher
from geomprobe.zoos.task import Task

_MNIST1D, _LARGEST_SHIFT = "MNIST-1D", 4


def digits(
    *, seed: int, n_train: int = 600, data_seed: int = 0, width: int = 128, depth: int = 2
) -> Task:
    """Scikit-learn's digits, of 8 x 8 pixels, for a perceptron.

    Parameters
    ----------
    seed : int
        Of the initial parameters.
    n_train : int
        Of 1797 samples; the others are test samples.
    data_seed : int
        Of the split.
    width, depth : int
        Of the perceptron.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(
        len(data.target), generator=torch.Generator().manual_seed(data_seed)
    ).numpy()
    x = torch.tensor(data.data[order] / 16, dtype=torch.float32)
    y = torch.tensor(data.target[order])
    torch.manual_seed(seed)
    return Task(mlp(64, 10, width=width, depth=depth), *_split(x, y, n_train))


def teacher(
    *,
    seed: int,
    n_train: int = 1000,
    n_test: int = 20_000,
    data_seed: int = 0,
    n_inputs: int = 20,
    n_classes: int = 5,
    teacher_width: int = 16,
    width: int = 128,
    depth: int = 2,
    activation: str = "relu",
) -> Task:
    """Gaussian inputs, and the classes that a random ReLU network gives them, for a perceptron.

    Parameters
    ----------
    seed : int
        Of the initial parameters.
    n_train, n_test : int
    data_seed : int
        Of inputs and teacher.
    n_inputs, n_classes, teacher_width : int
    width, depth, activation
        Of the perceptron: see :func:`~geomprobe.zoos.networks.mlp`.
    """
    generator = torch.Generator().manual_seed(data_seed)
    x = torch.randn(n_train + n_test, n_inputs, generator=generator)
    y = relu_teacher(x, n_classes, width=teacher_width, generator=generator)
    torch.manual_seed(seed)
    model = mlp(n_inputs, n_classes, width=width, depth=depth, activation=activation)
    return Task(model, *_split(x, y, n_train))


def mnist1d(
    *,
    seed: int,
    n_train: int = 1000,
    n_test: int = 10_000,
    data_seed: int = 42,
    shuffled: bool = False,
    network: str = "mlp",
    augmentation: str = "none",
    **architecture: Any,
) -> Task:
    """MNIST-1D as the package ``mnist1d`` makes it, for a perceptron or a convolutional network.

    Parameters
    ----------
    seed : int
        Of the initial parameters.
    n_train, n_test : int
        Multiples of 10 in sum.
    data_seed : int
        Of the generator of the data.
    shuffled : bool
        Whether the places of the signals are shuffled.
    network : {"mlp", "cnn"}
    augmentation : {"none", "shift"}
        Of training batches: circular shifts by up to 4 places. Robustness to them is measured
        either way.
    **architecture
        Of the network: see :mod:`geomprobe.zoos.networks`.

    Raises
    ------
    ImportError
        The package is not installed: it is in the extra ``zoo``.

    References
    ----------
    Greydanus, S. and Kobak, D. (2024). Scaling down deep learning with MNIST-1D. ICML.
    """
    if network not in ("mlp", "cnn") or augmentation not in ("none", "shift"):
        raise ValueError(
            'network must be "mlp" or "cnn" and augmentation "none" or "shift", got '
            f"{network!r} and {augmentation!r}"
        )
    arrays = _mnist1d_arrays(n_train + n_test, data_seed, shuffled)
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    torch.manual_seed(seed)
    make = cnn if network == "cnn" else mlp
    model: nn.Module = make(x.shape[1], 10, **architecture)
    return Task(model, *_split(x, y, n_train), augment=shift, augmented=augmentation == "shift")


def shift(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each signal, (n, length), by up to 4 places, circularly."""
    n, length = inputs.shape
    by = torch.randint(-_LARGEST_SHIFT, _LARGEST_SHIFT + 1, (n, 1), generator=generator)
    return inputs.gather(1, (torch.arange(length) + by.to(inputs.device)) % length)


def _split(x: Tensor, y: Tensor, n_train: int) -> tuple[Samples, Samples]:
    if not 0 < n_train < len(x):
        raise ValueError(f"n_train must lie between 0 and {len(x)}, the samples there are")
    return Samples(x[:n_train], y[:n_train]), Samples(x[n_train:], y[n_train:])


def _mnist1d_arrays(n: int, seed: int, shuffled: bool) -> dict[str, Array]:
    """Return signals and classes, made once and kept in the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    name = f"mnist1d-{n}-{seed}{'-shuffled' if shuffled else ''}.safetensors"
    path = home / "geomprobe" / name
    if not path.exists():
        write_arrays(path, _MNIST1D, _made_mnist1d(n, seed, shuffled), None)
    return read_arrays(path, _MNIST1D)[0]


def _made_mnist1d(n: int, seed: int, shuffled: bool) -> dict[str, Array]:
    import numpy as np

    with needing("mnist1d", "zoo"):
        from mnist1d.data import get_dataset_args, make_dataset
    arguments = get_dataset_args()
    arguments.num_samples, arguments.seed, arguments.shuffle_seq = n, seed, shuffled
    with streams_kept():  # It seeds the global streams.
        made = make_dataset(arguments)
    return {
        name: np.concatenate([made[name], made[f"{name}_test"]]).astype(dtype)
        for name, dtype in (("x", np.float32), ("y", np.int64))
    }
