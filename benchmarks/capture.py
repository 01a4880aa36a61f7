"""Time and memory of activation capture, beside plain PyTorch and three other packages.

Run as a script; README.md beside it says how to read what it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import torch
from contenders import (
    Captum,
    FarIntoTheStream,
    Filling,
    Nnsight,
    NoopHooks,
    Plain,
    PlainAgain,
    StoringHooks,
    TorchLens,
    installed,
)
from models import GPT2, ResNet18
from rounds import attached, in_turns, ratios
from stream import Replay, cost_along, hook_costs, outputs_of
from summaries import summary
from surroundings import surroundings
from torch import nn
from training import PROBED, amortised

import geomprobe as gp

HERE = Path(__file__).resolve().parent
#: Bars: a pass with a probe on eight layers, and a training observed once an epoch.
PASS_BAR, TRAINING_BAR = 1.03, 1.005
POINTS = Filling.points
PACKAGES = ("captum", "nnsight", "torchlens")
#: Those that keep the outputs themselves.
CAPTURING = (StoringHooks, Captum, Nnsight)


@dataclass(frozen=True)
class Case:
    """A model to observe, and what to show it.

    Parameters
    ----------
    name : str
    build : callable
        Returns the model.
    draw : callable
        Returns a batch of inputs.
    layers : tuple of str
        Eight of its blocks.
    rounds, torchlens_rounds : int
        How often each contender takes its turn.
    """

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[[], torch.Tensor]
    layers: tuple[str, ...]
    rounds: int
    torchlens_rounds: int


ALL_BLOCKS = tuple(f"blocks.{i}" for i in range(8))
SPREAD = tuple(f"blocks.{i}" for i in (0, 2, 3, 5, 6, 8, 9, 11))

FULL = (
    Case("ResNet-18, 32 x 3 x 64 x 64", ResNet18, lambda: torch.randn(32, 3, 64, 64),
         ALL_BLOCKS, 60, 7),
    Case("ResNet-18, 8 x 3 x 224 x 224", ResNet18, lambda: torch.randn(8, 3, 224, 224),
         ALL_BLOCKS, 40, 7),
    Case("GPT-2 small, 8 x 64 tokens", GPT2, lambda: torch.randint(50257, (8, 64)),
         SPREAD, 24, 5),
)  # fmt: skip
QUICK = (
    Case("ResNet-18, 4 x 3 x 32 x 32", ResNet18, lambda: torch.randn(4, 3, 32, 32),
         ALL_BLOCKS, 3, 1),
    Case("GPT-2 of width 64, 4 x 16 tokens",
         lambda: GPT2(depth=12, width=64, heads=4, vocabulary=500),
         lambda: torch.randint(500, (4, 16)), SPREAD, 3, 1),
)  # fmt: skip


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, few rounds: seconds")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--output", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    output = arguments.output
    if output is None and not arguments.quick:
        output = HERE / "results" / "capture.json"
    started = time.perf_counter()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    result: dict[str, Any] = {
        "schema": 1,
        "quick": arguments.quick,
        **surroundings(PACKAGES, arguments.threads),
    }
    cases = QUICK if arguments.quick else FULL
    measured = [(case, case.build().eval(), case.draw()) for case in cases]
    result["cases"] = {
        case.name: measure(case, model, batch, quick=arguments.quick)
        for case, model, batch in measured
    }
    result["memory"] = memory(100 if arguments.quick else 10_000)
    if installed("torchlens"):  # Last: from here on PyTorch's functions are wrapped.
        for case, model, batch in measured:
            result["cases"][case.name]["torchlens"] = torchlens(case, model, batch)
    result["machine"]["load_at_end"] = os.getloadavg()[0]
    result["seconds"] = time.perf_counter() - started
    show(result)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten to {output.name}")


@torch.no_grad()
def measure(case: Case, model: nn.Module, batch: torch.Tensor, *, quick: bool) -> dict[str, Any]:
    """Return all figures of a case but those of TorchLens."""
    print(f"{case.name} ...", flush=True)
    replay = Replay(outputs_of(model, case.layers, batch)).eval()
    samples = 2_000 if quick else 50_000
    stretches, state = cost_along(replay, batch, samples=samples, points=POINTS)
    by_mean, _ = cost_along(replay, batch, samples=POINTS, points=POINTS, pool="mean")
    contenders = [
        Plain(model, case.layers),
        PlainAgain(model, case.layers),
        NoopHooks(model, case.layers),
        StoringHooks(model, case.layers),
        Filling(model, case.layers),
        FarIntoTheStream(model, case.layers, state),
        *(kind(model, case.layers) for kind in (Captum, Nnsight) if installed(kind.name)),
    ]
    times = in_turns(contenders, [batch], case.rounds)
    plain = summary(times[Plain.name])["median"]
    capturing = [one for one in contenders if isinstance(one, CAPTURING)]
    differences = largest_difference(case, model, capturing)
    with torch.enable_grad():
        training = amortised(
            model, case.layers, batch, limit=TRAINING_BAR, probed=16 if quick else PROBED
        )
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": list(case.layers),
        "points": POINTS,
        "rounds": case.rounds,
        "seconds": {name: summary(values) for name, values in times.items()},
        "ratio_to_plain": {name: ratios(times, name, Plain.name) for name in times},
        "geomprobe_to_each": to_each(times),
        "hooks_us": hook_costs(replay, batch),
        "stretches": stretches,
        "filling_with_pool_mean_us": by_mean[0]["mean_us"],
        "streams": streams(stretches, plain),
        "largest_difference": differences,
        "training": training,
    }


def to_each(times: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ratio of a pass with geomprobe to one with each other, round by round."""
    own = (Filling.name, FarIntoTheStream.name)
    return {
        name: {mine: ratios(times, mine, name) for mine in own if mine in times}
        for name in times
        if name not in (*own, Plain.name, PlainAgain.name)
    }


def streams(stretches: list[dict[str, float]], plain: float) -> list[dict[str, float]]:
    """Return how streams of several lengths compare, as a whole, with plain forward passes."""
    rows, seconds, batches = [], 0.0, 0
    for stretch in stretches:
        seconds += stretch["seconds"]
        batches += int(stretch["batches"])
        rows.append({"samples": stretch["to_sample"], "ratio": 1 + seconds / (batches * plain)})
    return rows


@torch.no_grad()
def largest_difference(case: Case, model: nn.Module, others: Sequence[Plain]) -> dict[str, float]:
    """Return by how much geomprobe's points differ from the activations that others capture.

    All layers, and half of the samples of two batches. Points are maps as they are, and sequences
    averaged over their tokens.
    """
    batches = [case.draw(), case.draw()]
    size = len(batches[0])
    with gp.Probe(model, list(case.layers), points=size, max_width=None, strict=True) as probe:
        for batch in batches:
            model(batch)
    differences = {}
    for other in others:
        captured = []
        for batch in batches:
            with attached(other):
                other(batch)
                captured.append(other.captured)
        differences[other.name] = max(
            float((torch.from_numpy(cloud.points) - wanted.cpu()).abs().max())
            for name, cloud in probe.clouds.items()
            for every in [torch.cat([_points(one[name]) for one in captured])]
            for wanted in [every[torch.as_tensor(cloud.sample_ids)]]
        )
    return differences


def _points(output: torch.Tensor) -> torch.Tensor:
    return output.mean(dim=1) if output.ndim == 3 else output.flatten(1)


@torch.no_grad()
def torchlens(case: Case, model: nn.Module, batch: torch.Tensor) -> dict[str, Any]:
    """Return the figures of TorchLens, in rounds of its own beside a plain forward and a probe.

    All three go through the functions that TorchLens has wrapped.
    """
    print(f"{case.name}, TorchLens ...", flush=True)
    contenders = [
        Plain(model, case.layers),
        Filling(model, case.layers),
        TorchLens(model, case.layers),
    ]
    times = in_turns(contenders, [batch], case.torchlens_rounds)
    return {
        "rounds": case.torchlens_rounds,
        "seconds": {name: summary(values) for name, values in times.items()},
        "ratio_to_plain": {name: ratios(times, name, Plain.name) for name in times},
        "geomprobe_to_each": to_each(times),
        "largest_difference": largest_difference(case, model, contenders[2:]),
    }


def memory(batches: int) -> dict[str, dict[str, float]]:
    """Return peaks of resident memory in MiB after 10, 100, ... batches, in a process of its own.

    The reservoirs are full after 8 batches.
    """
    print("memory ...", flush=True)
    peaks = {}
    for name, options in (("with a probe", []), ("without", ["--without-probe"])):
        command = [sys.executable, str(HERE / "memory.py"), str(batches), *options]
        peaks[name] = json.loads(subprocess.run(command, check=True, stdout=PIPE).stdout)
    return peaks


def show(result: Mapping[str, Any]) -> None:
    """Print the figures as tables."""
    versions, machine = result["versions"], result["machine"]
    print(f"\n{', '.join(f'{name} {version}' for name, version in versions.items())}")
    print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; load "
        f"{machine['load_at_start']:.1f} at the start, {machine['load_at_end']:.1f} at the end; "
        f"{result['seconds']:.0f} s"
    )
    for name, case in result["cases"].items():
        show_case(name, case)
    print("\nPeak of resident memory, MiB, after so many batches")
    for name, peaks in result["memory"].items():
        print(f"  {name:14s}" + "".join(f"{n:>8s}: {peak:7.1f}" for n, peak in peaks.items()))


def show_case(name: str, case: Mapping[str, Any]) -> None:
    """Print the figures of one model."""
    plain = 1e3 * case["seconds"][Plain.name]["median"]
    print(
        f"\n{name}: {case['parameters'] / 1e6:.1f} million parameters, a plain forward "
        f"{plain:.1f} ms, {len(case['layers'])} layers, {case['points']} points a layer"
    )
    head = f"{'min':>7s} {'median (95 % interval)':>24s} {'max':>7s}   geomprobe to it: "
    print(f"  {'ratio to a plain forward':26s}{head}filling, far on")
    turns = [case] + ([case["torchlens"]] if "torchlens" in case else [])
    for number, part in enumerate(turns):
        for contender, ratio in part["ratio_to_plain"].items():
            if contender == Plain.name or (number and contender != TorchLens.name):
                continue
            own = part["geomprobe_to_each"].get(contender, {})
            against = ", ".join(f"{one['median']:.3f}" for one in own.values())
            print(
                f"  {contender:26s}{ratio['min']:7.3f} {ratio['median']:10.3f} "
                f"({ratio['low']:.3f}-{ratio['high']:.3f}) {ratio['max']:7.3f}   {against:>25s}"
            )
    print("  cost of the hooks alone, microseconds a pass over ready outputs")
    for contender, cost in case["hooks_us"].items():
        print(f"    {contender:30s}{cost:10.0f}")
    for stretch in case["stretches"]:
        span = f"samples {stretch['from_sample']} to {stretch['to_sample']}"
        print(
            f"    geomprobe, {span:28s}{stretch['mean_us']:7.0f} mean"
            f"{stretch['median_us']:8.0f} median"
        )
    print(f"    the first of these, pool='mean'{case['filling_with_pool_mean_us']:9.0f} mean")
    whole = ", ".join(f"{row['samples']}: {row['ratio']:.4f}" for row in case["streams"])
    print(f"  ratio over a whole stream of so many samples (bar {PASS_BAR}): {whole}")
    training = case["training"]
    print(
        f"  training, observed each epoch of {training['epoch_samples']} samples (bar "
        f"{TRAINING_BAR}): {training['ratio']:.5f}; step {training['step_seconds']:.3f} s, "
        f"observation {training['observation_seconds']:.2f} s, at other steps "
        f"{1e6 * training['bookkeeping_seconds']:.1f} us; within the bar from epochs of "
        f"{training['shortest_epoch_within_the_bar']} samples on"
    )
    differences = {
        contender: difference
        for part in turns
        for contender, difference in part["largest_difference"].items()
    }
    listed = ", ".join(f"{other} {value:.1e}" for other, value in differences.items())
    print(f"  largest difference from the activations of: {listed}")


if __name__ == "__main__":
    main()
