"""Settings and fixtures of all tests."""

import copy
import os
import pickle
import traceback

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import settings

# Deterministic, and without hypothesis's own limit on the time of an example.
settings.register_profile("geomprobe", derandomize=True, deadline=None)
settings.load_profile("geomprobe")

# No test opens a window.
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def in_processes(tmp_path):
    """Run a job in so many processes of a gloo group; return what each one returned."""

    def run(job, processes):
        context = mp.get_context("fork")
        workers = [
            context.Process(target=_worker, args=(job, rank, processes, tmp_path))
            for rank in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            if worker.exitcode is None:
                worker.kill()
                pytest.fail("a process hangs")
        outcomes = [
            pickle.loads((tmp_path / f"{rank}.pkl").read_bytes()) for rank in range(processes)
        ]
        for outcome in outcomes:
            if isinstance(outcome, str):
                pytest.fail(outcome)
        return [outcome[0] for outcome in outcomes]

    return run


def _worker(job, rank, processes, folder):
    torch.set_num_threads(1)
    # What torchrun tells, for frameworks.
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="localhost")
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes
        )
        outcome = (job(rank, processes),)
        dist.barrier()
        dist.destroy_process_group()
    except Exception:
        outcome = traceback.format_exc()
    (folder / f"{rank}.pkl").write_bytes(pickle.dumps(outcome))


@pytest.fixture
def moved():
    """Returns a copy of a model whose parameters are moved by a share of their cosines."""

    def move(model, share):
        copied = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter += share * parameter.cos()
        return copied

    return move
