"""The intrinsic dimension of sentences rises and falls through a trained transformer.

**Claim.** In large transformers the intrinsic dimension of what layers hold rises to a peak and
falls after it. Valeriani, L., Doimo, D., Cuturello, F., Laio, A., Ansuini, A. and Cazzaniga, A.
(2023), *The geometry of hidden representations of large transformer models*, NeurIPS, found it for
proteins and images, with the peak in the first layers; Cheng, E. et al. (2025), *Emergence of a
high-dimensional abstraction phase in language transformers*, ICLR, for text, and no peak without
training. In convolutional networks it is the hunchback of Ansuini, A., Laio, A., Macke, J. H. and
Zoccolan, D. (2019), NeurIPS.

**Here.** The sentence transformer all-MiniLM-L6-v2, of six layers, on sentences from the docstrings
of four packages, as in the example of that name. A point is the mean over the tokens of a sentence,
without padding (`gp.Probe`), which is what the model makes its output of after the last layer.
`geomprobe.representation.two_nn` of six sets of 300 sentences, each beside a network with random
weights of its own; two more sets tell at which layer the dimension is largest. What decides are
logarithms of ratios: of the peak over the embeddings of the tokens; of the last layer over the
peak; and by how much more it rises than with random weights.

**What differs.** The papers measure models of 12 layers and more, trained to predict what is masked
or comes next, on thousands of samples; Cheng et al. at the last token, whose embedding says nothing
of the text before it, while the mean over tokens has many dimensions from the start. This one has
six layers and was trained further, to tell sentences apart by its output: there is little reason
for its last layer to have few dimensions. The texts differ a little between versions of the
packages.

**What it does not show.** The dimension itself: that of 300 points is too small, and the more so
the larger it is.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, example, mean, reproduce
from torch import nn

import geomprobe as gp
from geomprobe.representation import two_nn

LAYERS = ["embeddings", *(f"encoder.layer.{depth}" for depth in range(6))]


def dimensions(model: nn.Module, tokens: dict[str, torch.Tensor]) -> list[float]:
    """Return the dimension of each layer."""
    with gp.Probe(model, layers=LAYERS) as probe, torch.no_grad():
        for start in range(0, len(tokens["input_ids"]), 50):
            model(**{name: values[start : start + 50] for name, values in tokens.items()})
    return [two_nn(probe.clouds[layer].points).value for layer in LAYERS]


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Measure a trained transformer, and untrained ones."""
    module = example("sentence_transformer")
    size, sets, choosing = (40, 2, 1) if smoke else (300, 6, 2)
    packages = module.PACKAGES[-2:] if smoke else module.PACKAGES
    each = size * (sets + choosing) // len(packages)
    # Every set has as many sentences of each package.
    drawn = zip(*(module.sentences(name, each) for name in packages), strict=True)
    texts = [text for some in drawn for text in some]
    folder = module.get_model_path()
    tokenizer = module.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    trained = module.SentenceTransformer(folder).bert.eval()
    found = []
    for number in range(sets + choosing):
        tokens = module.tokenised(tokenizer, texts[number * size : (number + 1) * size])
        torch.manual_seed(number)
        untrained = type(trained)(trained.config).eval()
        found.append([dimensions(model, tokens) for model in (trained, untrained)])
    logs = np.log(found)  # Of each set, model and layer.
    peaks = 1 + logs[:choosing, :, 1:].mean(axis=0).argmax(axis=1)
    measured = logs[choosing:]
    rises, untrained_rises = (measured[:, k, peaks[k]] - measured[:, k, 0] for k in (0, 1))
    checks = [
        Check("log ratio, peak over embeddings", *mean(rises), at_least=math.log(1.1)),
        Check(
            "log ratio, last layer over peak",
            *mean(measured[:, 0, -1] - measured[:, 0, peaks[0]]),
            at_most=math.log(0.9),
        ),
        Check(
            "log ratio, peak over embeddings: trained, less random weights",
            *mean(rises - untrained_rises),
            at_least=math.log(1.1),
        ),
    ]
    figure, ax = plt.subplots(figsize=(6, 4))
    for k, name in enumerate(("trained", "random weights")):
        values = np.exp(measured[:, k])
        ax.plot(values.T, color=f"C{k}", lw=0.5)
        ax.plot(values.mean(axis=0), color=f"C{k}", marker="o", label=name)
    ax.set(xlabel="layer (0: embeddings)", ylabel="intrinsic dimension (TwoNN)", ylim=(0, None))
    ax.legend()
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
