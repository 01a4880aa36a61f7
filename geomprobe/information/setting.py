"""What a Fisher information is asked of: a model, inputs, and vectors at the outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.hooks import quiet
from geomprobe.information.cotangents import at_labels, expected, of_loss, sampled
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.layerwise import Layer, covered_layers
from geomprobe.information.likelihoods import Likelihood, likelihood_of
from geomprobe.jacobians import Parameters, not_finite, trainable_parameters

KINDS = ("true", "mc", "empirical")

#: Samples to work on at a time, by default.
LARGEST_BATCH = 64


@dataclass(frozen=True)
class Setting:
    """A model and inputs that have been looked at.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        On the model's device.
    parameters : dict of str to Tensor
        Those that require gradients, detached, each once.
    outputs : Tensor of shape (N, ...)
    cotangents : Tensor of shape (N, K, ...)
        The vectors that are pulled back.
    """

    model: nn.Module
    data: Samples
    parameters: Parameters
    outputs: Tensor
    cotangents: Tensor

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The layers that need no per-sample gradients, tried once."""
        # One sample shows nothing of the layout; and mps has no float64.
        if len(self.data) < 2 or self.cotangents.device.type == "mps":
            return {}
        try:
            return covered_layers(self.model, self.data, self.cotangents, self.parameters)
        except RuntimeError:
            # Autograd itself cannot follow, as through tensors of inference mode; torch.func may.
            return {}

    def rows(self, names: Iterable[str], chunk: int) -> FisherRows:
        """Return the rows over some parameters, by passes of so many samples."""
        return FisherRows(self.model, tuple(names), self.data, self.cotangents, chunk)

    def left(self, layers: Mapping[str, Layer]) -> Parameters:
        """Return the parameters that no layer covers."""
        covered = {name for layer in layers.values() for name in layer.names.values()}
        return {name: value for name, value in self.parameters.items() if name not in covered}


def setting_of(
    model: nn.Module,
    data: Samples,
    *,
    kind: str,
    likelihood: Likelihood | None,
    loss: Loss | None,
    draws: int,
    seed: int,
    batch_size: int | None,
    memory_share: float,
) -> Setting:
    """Check what is given, run the model once, and return what is pulled back.

    See :func:`~geomprobe.information.fisher_gram` for the parameters and the errors.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    require_samples(data)
    meaning = _meaning(kind, likelihood, loss)
    if kind == "empirical" and data.targets is None:
        raise ValueError(
            "the empirical Fisher needs the targets of the data, and there are none; give "
            'Samples(inputs, targets), or ask for kind="true"'
        )
    _require_evaluation(model)
    parameters = trainable_parameters(model)
    data = data.to(next(iter(parameters.values())).device)
    with quiet(model):
        outputs = _outputs(model, data, batch_size or LARGEST_BATCH)
        cotangents = _cotangents(kind, meaning, outputs, data.targets, draws, seed, memory_share)
    return Setting(model, data, parameters, outputs, cotangents)


def _require_evaluation(model: nn.Module) -> None:
    """Raise ValueError if layers are in training mode that are another function there."""
    training = [
        f"{name or '(root)'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module.training and _differs_in_training(module)
    ]
    if training:
        raise ValueError(
            f"in training mode are {', '.join(training[:5])}{' ...' if len(training) > 5 else ''}: "
            "there batch norm mixes the samples and dropout is random, and no sample has a "
            "gradient of its own; call model.eval() first"
        )


def _differs_in_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return isinstance(module, nn.MultiheadAttention | nn.RNNBase) and module.dropout > 0


def _meaning(kind: str, likelihood: Likelihood | None, loss: Loss | None) -> Likelihood | Loss:
    """Return the likelihood to use, or a loss that stands for none where that will do."""
    if likelihood is not None:
        if isinstance(likelihood, type) or not isinstance(likelihood, Likelihood):
            raise TypeError(f"likelihood must be one such as Softmax(), got {likelihood!r}")
        return likelihood
    if loss is None:
        raise ValueError(
            "nothing says what the outputs mean: pass likelihood=Softmax(), Gaussian(variance) or "
            "Bernoulli(), or the loss the model was trained with"
        )
    try:
        return likelihood_of(loss)
    except ValueError:
        if kind == "empirical":
            return loss
        raise


def _cotangents(
    kind: str,
    meaning: Likelihood | Loss,
    outputs: Tensor,
    targets: Tensor | None,
    draws: int,
    seed: int,
    memory_share: float,
) -> Tensor:
    """Return what is to be pulled back, of shape (N, K, *outputs of one)."""
    if not isinstance(meaning, Likelihood):
        assert targets is not None
        return of_loss(meaning, outputs, targets)
    if kind == "true":
        return expected(meaning, outputs, targets, memory_share)
    if kind == "mc":
        return sampled(meaning, outputs, targets, draws, seed)
    assert targets is not None
    return at_labels(meaning, outputs, targets)


def _outputs(model: nn.Module, data: Samples, batch_size: int) -> Tensor:
    """Return the model's outputs on all samples, or refuse them."""
    parts = []
    with torch.no_grad():
        for batch in data.batches(batch_size):
            part = forward(model, batch.inputs)
            if not isinstance(part, Tensor):
                raise TypeError(
                    f"outputs are a {type(part).__name__}, expected one tensor; wrap the model in "
                    "a module that returns its logits alone"
                )
            if not part.is_floating_point():
                raise ValueError(
                    f"outputs are {str(part.dtype).removeprefix('torch.')}, expected real numbers; "
                    "give the model that returns logits, not class numbers"
                )
            if part.ndim == 0 or len(part) != len(batch):
                raise ValueError(
                    f"outputs of {len(batch)} samples have shape {tuple(part.shape)}; "
                    "the first axis must be the samples"
                )
            parts.append(part.to(torch.promote_types(part.dtype, torch.float32)))
    outputs = torch.cat(parts)
    finite = torch.isfinite(outputs.flatten(1) if outputs.ndim > 1 else outputs[:, None]).all(1)
    if not bool(finite.all()):
        raise ValueError(not_finite("outputs", finite))
    return outputs
