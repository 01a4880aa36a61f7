"""Copies to a device and from it that keep nobody waiting."""

from __future__ import annotations

import torch

from geomprobe.storage import Array


def on_device(array: Array, device: torch.device) -> torch.Tensor:
    """Return an array on a device, without waiting for what that has still to do."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    with torch.cuda.device(device):
        return tensor.pin_memory().to(device, non_blocking=True)


class Copy:
    """A tensor on its way to the CPU, as float32.

    A CUDA device copies it when its stream gets there; all others, at once. What is done to the
    tensor after this has returned does not change the copy, where a CUDA tensor is changed on the
    stream that was current.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._values = tensor.to("cpu", torch.float32)
            return
        with torch.cuda.device(tensor.device):
            self._values = torch.empty(
                tensor.shape, dtype=torch.float32, device="cpu", pin_memory=True
            )
            self._values.copy_(tensor.to(torch.float32), non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    @property
    def arrived(self) -> bool:
        """Whether :meth:`numpy` returns at once."""
        return self._done is None or bool(self._done.query())  # type: ignore[no-untyped-call]

    def numpy(self) -> Array:
        """Return the copy, after waiting for it; on the CPU it may be the tensor's own memory."""
        if self._done is not None:
            self._done.synchronize()
        return self._values.numpy()
