import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geomprobe.auditing.data_files import read_data
from geomprobe.exceptions import FileFormatError

X, Y = np.arange(6.0).reshape(3, 2), np.arange(3)


@pytest.mark.parametrize("names", [("x", "y"), ("inputs", "labels"), ("images", "targets")])
def test_arrays_are_known_by_their_names(tmp_path, names):
    np.savez(tmp_path / "data.npz", **dict(zip(names, (X, Y), strict=True)))
    tensors = {name: torch.from_numpy(array) for name, array in zip(names, (X, Y), strict=True)}
    save_file(tensors, tmp_path / "data.safetensors")
    for suffix in ("npz", "safetensors"):
        x, y = read_data(tmp_path / f"data.{suffix}")
        assert np.array_equal(x, X)
        assert np.array_equal(y, Y)


def test_a_single_array_is_the_inputs_whatever_its_name(tmp_path):
    np.savez(tmp_path / "data.npz", whatever=X)
    assert np.array_equal(read_data(tmp_path / "data.npz"), X)


@pytest.mark.parametrize(
    "arrays", [{"a": X, "b": Y}, {"x": X, "inputs": X}, {"x": X, "y": Y, "weights": Y}]
)
def test_what_is_not_plain_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(FileFormatError, match="call the inputs 'x' and the targets 'y'"):
        read_data(tmp_path / "data.npz")


def test_pickled_objects_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("text")
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("objects", "text", "array"):
        with pytest.raises(FileFormatError, match=r"is no \.npz file of numbers"):
            read_data(tmp_path / f"{name}.npz")
