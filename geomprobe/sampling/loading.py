"""From what people hold data in to batches of samples."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from geomprobe.evidence import Samples, leading_size
from geomprobe.sampling.rows import holds_rows, stack_rows

_TARGET_KEYS = ("labels", "label", "targets", "target")


def iterate_batches(data: Any, *, batch_size: int = 256) -> Iterator[Samples]:
    """Yield data batch by batch.

    Parameters
    ----------
    data
        A loader or any iterable of batches; or a tensor or array of inputs; or a tuple
        ``(inputs, targets)`` of tensors or arrays; or a ``torch.utils.data.Dataset``; or whatever
        has a length and rows by number that are mappings, as datasets of Hugging Face have: their
        numbers, lists of numbers and Pillow images become tensors. A batch is ``inputs``,
        ``(inputs, targets)``, or a dict whose targets stand under ``"labels"``, ``"label"``,
        ``"targets"`` or ``"target"``.
    batch_size : int
        Where the data are not batched already.

    Yields
    ------
    Samples
        With ids: the indices of a ``DistributedSampler``, where the loader has one; otherwise
        samples are numbered in the order they come.

    Raises
    ------
    ValueError
        There is no batch, or one that cannot be read.
    TypeError
        The data are of no known kind.
    """
    with _generators_kept(data):
        yield from _numbered(_batches(data, batch_size), _global_indices(data))


def _numbered(batches: Iterable[Any], indices: torch.Tensor | None) -> Iterator[Samples]:
    start = 0
    for batch in batches:
        samples = as_samples(batch)
        if not len(samples):
            raise ValueError(
                f"a batch holds no samples: its inputs are {shapes(samples.inputs)}; expected "
                "tensors with the samples along the first axis"
            )
        _require_a_target_each(samples, "a batch has")
        ids = torch.arange(start, start + len(samples), device="cpu")
        start += len(samples)
        if indices is not None:
            ids = indices[ids]
        yield Samples(samples.inputs, samples.targets, ids)
    if not start:
        raise ValueError("the data hold no batches: an empty loader, or a generator used up before")


def _require_a_target_each(samples: Samples, what: str) -> None:
    if leading_size(samples.targets) not in (None, len(samples)):
        raise ValueError(
            f"{what} {len(samples)} samples and {leading_size(samples.targets)} targets; expected "
            "one target a sample"
        )


def _batches(data: Any, batch_size: int) -> Iterable[Any]:
    if isinstance(data, Samples):
        return data.batches(batch_size)
    if isinstance(data, torch.Tensor | np.ndarray):
        return Samples(_tensors(data)).batches(batch_size)
    if _looks_like_a_pair(data):
        raise ValueError(
            "a list is read as a list of batches, and these two tensors look like inputs and "
            "targets; give a tuple (inputs, targets)"
        )
    if isinstance(data, tuple) and all(isinstance(p, torch.Tensor | np.ndarray) for p in data):
        samples = as_samples(data)
        _require_a_target_each(samples, "the data have")
        return samples.batches(batch_size)
    if isinstance(data, tuple) and len(data) == 2 and _is_inputs_and_targets(*data):
        return as_samples(data).batches(batch_size)
    if isinstance(data, Dataset) and not (isinstance(data, IterableDataset) and _batched(data)):
        return DataLoader(data, batch_size)
    if holds_rows(data):
        return DataLoader(data, batch_size, collate_fn=stack_rows)
    if isinstance(data, DataLoader) and data.persistent_workers:
        # Its one iterator may be in use, and would be started anew.
        data = copy.copy(data)
        vars(data).update(persistent_workers=False, _iterator=None)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        batches: Iterable[Any] = data
        return batches
    raise TypeError(
        f"data must be a loader, a dataset, a tensor, or a tuple (inputs, targets) of tensors, "
        f"got {type(data).__name__}"
    )


@contextmanager
def _generators_kept(data: Any) -> Iterator[None]:
    """Put the random streams that a loader has of its own back where they were."""
    batch_sampler = getattr(data, "batch_sampler", None)
    owners = (data, getattr(data, "sampler", None), getattr(batch_sampler, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners)
    generators = [one for one in found if isinstance(one, torch.Generator)]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def is_split(data: Any) -> bool:
    """Whether the data are a loader that gives each process a share of its own."""
    return isinstance(data, DataLoader) and isinstance(data.sampler, DistributedSampler)


def _global_indices(data: Any) -> torch.Tensor | None:
    return torch.tensor(list(data.sampler), device="cpu") if is_split(data) else None


def number_of_batches(data: Any) -> int | None:
    """Return how many batches a list or a loader holds; None where only reading them tells."""
    if isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset):
        return len(data)
    return len(data) if isinstance(data, list) else None


def as_samples(batch: Any) -> Samples:
    """Read one batch: inputs, (inputs, targets), or a dict, as :func:`iterate_batches` says."""
    if isinstance(batch, Samples):
        return batch
    if isinstance(batch, dict):
        inputs = {key: value for key, value in batch.items() if key not in _TARGET_KEYS}
        targets = next((batch[key] for key in _TARGET_KEYS if key in batch), None)
        if isinstance(targets, int | float) or getattr(targets, "shape", None) == ():
            raise ValueError(
                "the label of a batch is a single number, so that it looks like a sample; a list "
                "is read as a list of batches: give a Dataset or a DataLoader"
            )
    elif isinstance(batch, tuple | list):
        if not 1 <= len(batch) <= 2:
            raise ValueError(
                f"a batch of {len(batch)} parts is ambiguous: give (inputs, targets), where inputs "
                "may itself be a tuple or a dict"
            )
        inputs, targets = batch[0], batch[1] if len(batch) == 2 else None
    else:
        inputs, targets = batch, None
    return Samples(_tensors(inputs), _tensors(targets))


def _batched(data: IterableDataset[Any]) -> bool:
    """Whether a stream yields batches rather than samples: a target for each row of the inputs."""
    first = next(iter(data), None)
    if not isinstance(first, tuple | list) or len(first) != 2:
        return False
    sizes = [len(one) for one in first if isinstance(one, torch.Tensor | np.ndarray) and one.ndim]
    return len(sizes) == 2 and sizes[0] == sizes[1]


def _is_inputs_and_targets(inputs: Any, targets: Any) -> bool:
    """Whether these are the several inputs of a model, and targets for all samples."""
    if not isinstance(inputs, tuple | list | dict) or not isinstance(
        targets, torch.Tensor | np.ndarray
    ):
        return False
    leaves = pytree.tree_leaves(inputs)
    arrays = all(isinstance(leaf, torch.Tensor | np.ndarray) and leaf.ndim for leaf in leaves)
    return arrays and targets.ndim > 0 and {len(leaf) for leaf in leaves} == {len(targets)}


def _looks_like_a_pair(data: Any) -> bool:
    if not isinstance(data, list) or len(data) != 2:
        return False
    arrays = [one for one in data if isinstance(one, torch.Tensor | np.ndarray) and one.ndim]
    if len(arrays) != 2 or len(arrays[0]) != len(arrays[1]):
        return False
    return arrays[0].shape != arrays[1].shape or arrays[0].dtype != arrays[1].dtype


def _tensors(tree: Any) -> Any:
    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        if leaf.dtype.kind not in "fiub":
            raise ValueError(
                f"inputs and targets must be numbers, got an array of dtype {leaf.dtype}; encode "
                "labels as 0, 1, ... first, for example by sklearn.preprocessing.LabelEncoder"
            )
        return torch.from_numpy(leaf)

    return pytree.tree_map(convert, tree)


def shapes(tree: Any) -> str:
    """Say of what shape and type the tensors of a batch are."""

    def words(leaf: Any) -> str:
        if not isinstance(leaf, torch.Tensor):
            return type(leaf).__name__
        return f"{str(leaf.dtype).removeprefix('torch.')} of shape {tuple(leaf.shape)}"

    return ", ".join(map(words, pytree.tree_leaves(tree)))
