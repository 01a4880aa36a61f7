"""Peak memory of this process as a probe sees ever more batches; capture.py runs it as a script.

Prints a JSON object: peak resident memory in MiB after 10, 100, ... batches.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path

import torch
from torch import nn

import geomprobe as gp

DEPTH, WIDTH, BATCH, POINTS = 8, 64, 128, 1000


def peak() -> float:
    """Return the peak of resident memory so far, in MiB.

    On Linux from /proc: ``ru_maxrss`` would include what the process was that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


def main() -> None:
    """Show a small network many batches, with a probe on eight layers or without."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("batches", type=int)
    parser.add_argument("--without-probe", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    blocks = (nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(DEPTH))
    model = nn.Sequential(*blocks).eval()
    probe = gp.Probe(model, [str(i) for i in range(DEPTH)], points=POINTS)
    if not arguments.without_probe:
        probe.attach()
    marks = [10**k for k in range(1, 9) if 10**k <= arguments.batches]
    peaks = {}
    with torch.no_grad():
        for number in range(1, arguments.batches + 1):
            model(torch.randn(BATCH, WIDTH))
            if number in marks:
                peaks[number] = peak()
    probe.detach()
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
