"""One quiet pass of a model over data, and all that analyzers need from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from geomprobe.clouds import Trajectory
from geomprobe.evidence import Evidence, Loss, Samples, forward
from geomprobe.hooks.compiled import eagerly
from geomprobe.hooks.quiet import quiet
from geomprobe.processes import place, to_first
from geomprobe.sampling.loading import is_split, iterate_batches, number_of_batches, shapes
from geomprobe.sampling.probe import Probe
from geomprobe.sampling.reservoir import TreeReservoir


def collect(
    probe: Probe,
    data: Any,
    *,
    loss: Loss | None = None,
    samples: int = 64,
    n_train: int | None = None,
    trajectory: Trajectory | None = None,
    step: int | None = None,
    seed: int = 0,
    progress: bool = False,
    salvage: Callable[[str], None] | None = None,
) -> Evidence:
    """Show a probe's model some data in evaluation mode, and return the evidence.

    Parameters
    ----------
    probe : Probe
        What to observe; its clouds become part of the evidence.
    data
        See :func:`~geomprobe.sampling.iterate_batches`. Moved to the model's device; inputs in
        float64 are cast to float32 unless the model has parameters in float64.
    loss, n_train, trajectory, step, seed
        Passed on; see :class:`~geomprobe.Evidence`.
    samples : int
        How many inputs (with targets) to keep for analyzers that run the model themselves: a
        uniform sample, of the same samples that clouds of this size and seed hold.
    progress : bool
        Show a progress bar.
    salvage : callable, optional
        Called with the reason where the data raise after their first batch; the evidence is then
        of what came before. Default: raise what they raise.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError
        The data cannot be read, the model raised on them, or it has lazy parameters.

    Notes
    -----
    The model is left as it was: see :func:`~geomprobe.hooks.quiet`. No gradient is computed.
    """
    kept = TreeReservoir(samples, seed)
    _show(probe, data, kept, (0, 1), progress, salvage)
    return Evidence(
        clouds=probe.clouds,
        trajectory=trajectory,
        model=probe.model,
        data=_joined(kept.contents()).to(_device(probe.model)),
        loss=loss,
        step=step,
        n_train=n_train,
        seed=seed,
    )


def collect_together(
    probe: Probe, data: Any, *, samples: int = 64, seed: int = 0
) -> Evidence | None:
    """Do what :func:`collect` does on all processes of ``torch.distributed`` together.

    Every process must call it. Each shows its share of the data to its model: what a
    ``DistributedSampler`` gives it; of other data, which must be the same everywhere, every so
    many-th batch; all of them where FSDP needs the processes in step. The first process gets the
    evidence that it would have got alone.

    Parameters
    ----------
    probe, data, samples, seed
        As in :func:`collect`.

    Returns
    -------
    Evidence with clouds, model and data; None on processes other than the first

    Raises
    ------
    ValueError
        On the first process, if any of them failed.
    """
    if place()[1] == 1:
        return collect(probe, data, samples=samples, seed=seed)
    kept = TreeReservoir(samples, seed)
    alone = is_split(data) or _needs_all_processes(probe.model)
    reason = ""
    try:
        _show(probe, data, kept, (0, 1) if alone else place(), progress=False)
    except Exception as error:  # The others wait for this process: it must not leave.
        reason = f"{type(error).__name__}: {error}"
    received = to_first([reason, [list(one.to("cpu").parts) for one in kept.contents()]])
    clouds = probe.gather()
    if received is None or clouds is None:
        return None
    if failures := [f"process {i}: {why}" for i, (why, _) in enumerate(received) if why]:
        raise ValueError("; ".join(failures))
    together = TreeReservoir(samples, seed)
    for _, singles in received:
        for inputs, targets, ids in singles:
            together.add(Samples(inputs, targets, ids), ids.numpy())
    data = _joined(together.contents()).to(_device(probe.model))
    return Evidence(clouds=clouds, model=probe.model, data=data, seed=seed)


def sample_of(data: Any, model: torch.nn.Module, size: int, *, seed: int = 0) -> Samples:
    """Return the samples that :func:`collect` would keep, without a pass of the model."""
    kept = TreeReservoir(size, seed)
    for batch in iterate_batches(data):
        assert batch.ids is not None
        kept.add(_in_model_precision(batch, model), batch.ids.numpy())
    return _joined(kept.contents()).to(_device(model))


def _show(
    probe: Probe,
    data: Any,
    kept: TreeReservoir,
    share: tuple[int, int],
    progress: bool,
    salvage: Callable[[str], None] | None = None,
) -> None:
    if any(is_lazy(parameter) for parameter in probe.model.parameters()):
        raise ValueError(
            "the model has lazy parameters, which its first pass would draw; run one batch "
            "through it first"
        )
    batches = iterate_batches(data)
    if salvage is not None:
        batches = _until_failure(batches, salvage)
    if progress:
        from tqdm.auto import tqdm

        batches = tqdm(
            batches, desc="collecting", unit="batch", total=number_of_batches(data), leave=False
        )
    turn, processes = share
    # Leaving inference mode makes what is kept usable by autograd later.
    with quiet(probe.model), eagerly(), torch.inference_mode(False), torch.no_grad():
        probe.attach()
        try:
            for number, batch in enumerate(batches):
                if number % processes != turn:
                    continue
                assert batch.ids is not None
                ids = batch.ids.numpy()
                probe.identify(ids, _labels(batch.targets))
                shown = _in_model_precision(batch, probe.model)
                _run(probe.model, shown)
                kept.add(shown, ids)
                if probe.failure:
                    raise ValueError(f"the clouds would hold a part of the data: {probe.failure}")
        finally:
            probe.detach(warn=False)
    if len(kept.choice):
        probe.warn_of_silence()


def _until_failure(batches: Iterator[Samples], salvage: Callable[[str], None]) -> Iterator[Samples]:
    """Yield batches up to the first that cannot be read; if that is the very first, raise."""
    read = 0
    try:
        for batch in batches:
            yield batch
            read += 1
    except Exception as error:
        if not read:
            raise
        salvage(f"{type(error).__name__}: {error}")


def _needs_all_processes(model: torch.nn.Module) -> bool:
    """Whether a forward pass talks to other processes, as with FSDP."""
    return any(
        hasattr(tensor, "full_tensor") or type(tensor).__name__ == "FlatParameter"
        for tensor in model.parameters()
    )


def _device(model: torch.nn.Module) -> torch.device:
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _in_model_precision(batch: Samples, model: torch.nn.Module) -> Samples:
    if any(parameter.dtype == torch.float64 for parameter in model.parameters()):
        return batch

    def cast(leaf: Any) -> Any:
        is_double = isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64
        return leaf.float() if is_double else leaf

    return replace(batch, inputs=pytree.tree_map(cast, batch.inputs))


def _run(model: torch.nn.Module, batch: Samples) -> None:
    try:
        forward(model, batch.to(_device(model)).inputs)
    except Exception as error:
        by_name = isinstance(batch.inputs, dict) and isinstance(error, TypeError)
        hint = _to_give_pairs([*batch.inputs]) if by_name else ""
        raise ValueError(
            f"the model raised {type(error).__name__} on a batch of {shapes(batch.inputs)}: "
            f"{error}{hint}"
        ) from error


def _to_give_pairs(names: list[str]) -> str:
    """Tell what to write where the model does not take the entries of a dict by their names."""
    targets = repr(names[1]) if len(names) == 2 else "TARGETS"
    told = "" if len(names) == 2 else ", with the key of the targets for TARGETS"
    return (
        f". A batch that is a dict is given to the model by name, here {', '.join(names)}. If the "
        f"model takes other names, or one of these is the targets, give pairs{told}, such as\n"
        f"    pairs = [(batch[{names[0]!r}], batch[{targets}]) for batch in loader]\n"
        "    report = gp.audit(model, pairs, ...)  # or Monitor(model, probe_data=pairs, ...)"
    )


def _labels(targets: Any) -> Any:
    is_labels = isinstance(targets, torch.Tensor) and targets.ndim == 1
    return targets.detach().cpu().numpy() if is_labels else None


@torch.inference_mode(False)
def _joined(singles: list[Samples]) -> Samples:
    def join(*leaves: Any) -> Any:
        is_batched = isinstance(leaves[0], torch.Tensor) and leaves[0].ndim
        return torch.cat(leaves) if is_batched else leaves[0]

    columns = zip(*(single.parts for single in singles), strict=True)
    return Samples(*(pytree.tree_map(join, *column) for column in columns))
