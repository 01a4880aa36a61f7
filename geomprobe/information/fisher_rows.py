"""The rows of a Fisher information F = B^T B as a linear map that is never formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomprobe.evidence import Samples, forward
from geomprobe.hooks import quiet


@dataclass(frozen=True, eq=False)
class FisherRows:
    """The map B from parameters to rows, by passes through the model.

    Parameters
    ----------
    model : torch.nn.Module
        Kept by reference: its parameters must still be those that the rows belong to.
    names : tuple of str
        The trainable parameters, each once.
    data : Samples
        N inputs, on the model's device.
    cotangents : Tensor of shape (N, K, ...)
        K vectors at the outputs of each sample.
    batch_size : int
        Samples of a pass.
    """

    model: nn.Module
    names: tuple[str, ...]
    data: Samples
    cotangents: Tensor
    batch_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N K, and of parameters."""
        n, k = self.cotangents.shape[:2]
        return n * k, sum(parameter.numel() for parameter in self._parameters())

    def into_rows(self, direction: Mapping[str, Tensor]) -> Tensor:
        """Return B v for a direction v of the parameters, of shape (N K,).

        Parameters
        ----------
        direction : mapping of str to Tensor
            Each of the shape of its parameter; one that is not named does not move.

        Raises
        ------
        ValueError
            An unknown parameter, or one of another shape.

        Notes
        -----
        A forward pass and two backward: the gradient is linear in the vector that is pulled back,
        and its own gradient in that vector is the Jacobian times v.
        """
        self._require(direction)
        vectors = [
            torch.as_tensor(direction.get(name, torch.zeros((), device="cpu")))
            .to(owned)
            .expand_as(owned)
            for name, owned in zip(self.names, self._parameters(), strict=True)
        ]
        found = []
        for here, outputs in self._passes():
            vector = torch.zeros_like(outputs, requires_grad=True)
            pulled = torch.autograd.grad(
                outputs, self._parameters(), vector, create_graph=True, allow_unused=True
            )
            used = [(g, v) for g, v in zip(pulled, vectors, strict=True) if g is not None]
            moved = torch.autograd.grad(
                [g for g, _ in used], vector, [v for _, v in used], allow_unused=True
            )[0]
            moved = torch.zeros_like(outputs) if moved is None else moved
            rows = self.cotangents[here].flatten(2) * moved.flatten(1)[:, None]
            found.append(rows.sum(dim=2, dtype=torch.float64))
        projected: Tensor = torch.cat(found).flatten() / len(self.data) ** 0.5
        return projected

    def into_parameters(self, coefficients: Tensor) -> dict[str, Tensor]:
        """Return B^T u for coefficients u of the rows, of shape (N K,): one forward and backward.

        Several columns, of shape (N K, j), take one forward pass and j backward, and give tensors
        with one axis more, the first.

        Raises
        ------
        ValueError
            Another shape.
        """
        m = self.shape[0]
        if coefficients.ndim not in (1, 2) or len(coefficients) != m:
            raise ValueError(
                f"coefficients must have shape ({m},) or ({m}, j), got {tuple(coefficients.shape)}"
            )
        return self._pulled_back(coefficients)

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters themselves, detached."""
        return {name: self.model.get_parameter(name).detach() for name in self.names}

    def subset(self, samples: Tensor) -> FisherRows:
        """Return the rows of some samples, for the average over these."""
        return FisherRows(
            self.model,
            self.names,
            self.data.take(samples),
            self.cotangents[samples],
            self.batch_size,
        )

    def _parameters(self) -> list[nn.Parameter]:
        return [self.model.get_parameter(name) for name in self.names]

    def _pulled_back(self, coefficients: Tensor) -> dict[str, Tensor]:
        n, k = self.cotangents.shape[:2]
        columns = coefficients if coefficients.ndim == 2 else coefficients[:, None]
        weights = torch.unflatten(columns, 0, (n, k)).to(self.cotangents) / n**0.5
        totals = [p.new_zeros(weights.shape[2], *p.shape) for p in self.parameters().values()]
        for here, outputs in self._passes():
            vectors = torch.einsum("nkj,nk...->jn...", weights[here], self.cotangents[here])
            for column, vector in enumerate(vectors.to(outputs.dtype)):
                pulled = torch.autograd.grad(
                    outputs, self._parameters(), vector, retain_graph=True, allow_unused=True
                )
                for total, gradient in zip(totals, pulled, strict=True):
                    if gradient is not None:
                        total[column] += gradient
        if coefficients.ndim == 1:
            totals = [total[0] for total in totals]
        return dict(zip(self.names, totals, strict=True))

    def _passes(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.data), self.batch_size):
            here = slice(start, start + self.batch_size)
            # Fused kernels of attention have no second derivative.
            with quiet(self.model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                outputs = forward(self.model, self.data.take(here).inputs)
                yield here, outputs

    def _require(self, direction: Mapping[str, Tensor]) -> None:
        shapes = {
            name: owned.shape for name, owned in zip(self.names, self._parameters(), strict=True)
        }
        for name, value in direction.items():
            if name not in shapes:
                raise ValueError(
                    f"{name!r} is no trainable parameter of the model; there are "
                    f"{', '.join(list(shapes)[:5])}{' ...' if len(shapes) > 5 else ''}"
                )
            if tuple(value.shape) != tuple(shapes[name]):
                raise ValueError(
                    f"the direction of {name!r} must have shape {tuple(shapes[name])}, got "
                    f"{tuple(value.shape)}"
                )
