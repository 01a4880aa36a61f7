"""Time of activation capture on a CUDA device, beside plain PyTorch.

Run as a script; README.md beside it says how to read what it prints.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from capture import ALL_BLOCKS, PASS_BAR, SPREAD, Case, largest_difference
from contenders import FarIntoTheStream, Filling, NoopHooks, Plain, PlainAgain, StoringHooks
from models import GPT2, ResNet18
from rounds import in_turns, ratios
from stream import Replay, cost_along, outputs_of
from summaries import summary
from surroundings import surroundings

HERE = Path(__file__).resolve().parent

CASES = (
    Case("ResNet-18, 256 x 3 x 224 x 224", ResNet18,
         lambda: torch.randn(256, 3, 224, 224, device="cuda"), ALL_BLOCKS, 40, 0),
    Case("ResNet-18, 32 x 3 x 224 x 224", ResNet18,
         lambda: torch.randn(32, 3, 224, 224, device="cuda"), ALL_BLOCKS, 80, 0),
    Case("GPT-2 small, 16 x 1024 tokens", GPT2,
         lambda: torch.randint(50257, (16, 1024), device="cuda"), SPREAD, 40, 0),
)  # fmt: skip


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "capture_cuda.json")
    output = parser.parse_args().output
    torch.manual_seed(0)
    result: dict[str, Any] = {
        "schema": 1,
        "quick": False,
        "device": torch.cuda.get_device_name(),
        **surroundings((), torch.get_num_threads()),
        "cases": {},
    }
    for case in CASES:
        result["cases"][case.name] = figures = measure(case)
        plain = 1e3 * figures["seconds"][Plain.name]["median"]
        print(f"{case.name}: a plain forward {plain:.2f} ms; ratio to it (bar {PASS_BAR})")
        for name, ratio in figures["ratio_to_plain"].items():
            print(f"  {name:26s}{ratio['median']:7.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})")
        print(f"  largest difference from stored copies {figures['largest_difference']:.1e}")
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def measure(case: Case) -> dict[str, Any]:
    """Return the figures of a case."""
    model, batch = case.build().eval().cuda(), case.draw()
    replay = Replay(outputs_of(model, case.layers, batch)).eval()
    _, state = cost_along(replay, batch, samples=50_000, points=Filling.points, repeats=1)
    kinds = (Plain, PlainAgain, NoopHooks, StoringHooks, Filling)
    contenders = [
        *(kind(model, case.layers) for kind in kinds),
        FarIntoTheStream(model, case.layers, state),
    ]
    times = in_turns(contenders, [batch], case.rounds, finish=torch.cuda.synchronize)
    small = Case(case.name, case.build, lambda: case.draw()[:16], case.layers, 0, 0)
    return {
        "layers": list(case.layers),
        "points": Filling.points,
        "rounds": case.rounds,
        "seconds": {name: summary(values) for name, values in times.items()},
        "ratio_to_plain": {name: ratios(times, name, Plain.name) for name in times},
        "largest_difference": largest_difference(small, model, [contenders[3]])[StoringHooks.name],
    }


if __name__ == "__main__":
    main()
