"""Many processes: who this one is, and how small things get to the first and back, or to all."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def place() -> tuple[int, int]:
    """Return this process's rank and how many there are; (0, 1) without torch.distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def to_first(value: Any) -> list[Any] | None:
    """Bring a value of every process to the first one. A collective: every process must call it.

    Parameters
    ----------
    value
        Tensors and plain types, which need no unpickling of code.

    Returns
    -------
    list with an entry a process, on the first; None on the others
    """
    rank, processes = place()
    if processes == 1:
        return [value]
    payload = _encoded(value)
    sizes = [torch.zeros(1, dtype=torch.long, device=backend_device()) for _ in range(processes)]
    dist.all_gather(sizes, torch.tensor([len(payload)], device=backend_device()))
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=torch.uint8, device=backend_device())
    padded[: len(payload)] = payload
    received = [torch.zeros_like(padded) for _ in range(processes)] if rank == 0 else None
    dist.gather(padded, received, dst=0)
    if received is None:
        return None
    return [_decoded(one[: int(size)]) for one, size in zip(received, sizes, strict=True)]


def from_first(value: Any = None) -> Any:
    """Return the first process's value on every one. A collective: every process must call it."""
    rank, processes = place()
    if processes == 1:
        return value
    payload = _encoded(value) if rank == 0 else torch.empty(0, dtype=torch.uint8, device="cpu")
    size = torch.tensor([len(payload)], device=backend_device())
    dist.broadcast(size, src=0)
    sent = (
        payload.to(backend_device()).new_zeros(int(size)) if rank else payload.to(backend_device())
    )
    dist.broadcast(sent, src=0)
    return _decoded(sent)


def to_all(value: Any) -> list[Any]:
    """Bring a value of every process to every one. A collective: every process must call it."""
    values: list[Any] = from_first(to_first(value))
    return values


def together(work: Callable[[], T]) -> T:
    """Do something in every process that calls this, and raise in all of them if one fails.

    Raises
    ------
    RuntimeError
        It failed in another process, with what that one raised. A process that fails itself raises
        its own exception.
    """
    problem: Exception | None = None
    try:
        value = work()
    except Exception as error:
        problem = error
    problems = to_all(None if problem is None else f"{type(problem).__name__}: {problem}")
    if problem is not None:
        raise problem
    for rank, said in enumerate(problems):
        if said is not None:
            raise RuntimeError(f"process {rank} failed with {said}")
    return value


def backend_device() -> torch.device:
    """Return where the backend wants its tensors."""
    on_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _encoded(value: Any) -> torch.Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _decoded(payload: torch.Tensor) -> Any:
    return torch.load(io.BytesIO(payload.cpu().numpy().tobytes()), weights_only=True)
