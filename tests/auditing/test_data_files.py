import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from geomprobe.auditing.data_files import named_data, read_data
from geomprobe.exceptions import FileFormatError
from geomprobe.sampling import iterate_batches
from geomprobe.sampling.rows import pixels

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


# --- images -----------------------------------------------------------------------------------


def grey(path, value, size=(4, 6), mode="L"):
    """Write an image of one shade, by width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_a_folder_of_images_gives_a_class_for_each_subfolder(tmp_path):
    grey(tmp_path / "dog" / "b.png", 255)
    grey(tmp_path / "cat" / "deep" / "a.PNG", 51)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = named_data(str(tmp_path))
    [batch] = iterate_batches(data)
    assert batch.inputs.shape == (2, 1, 6, 4)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs[:, 0, 0, 0].tolist() == pytest.approx([0.2, 1.0])
    assert batch.targets.tolist() == [0, 1]


def test_labels_count_subfolders_without_images_and_no_hidden_ones(tmp_path):
    (tmp_path / "ant").mkdir()
    grey(tmp_path / "cat" / "a.png", 1)
    grey(tmp_path / "cat" / ".cache" / "a.png", 1)
    grey(tmp_path / ".ipynb_checkpoints" / "a.png", 1, (9, 9))
    grey(tmp_path / "dog" / "a.png", 1)
    data = named_data(str(tmp_path))
    assert [file.parent.name for file in data.files] == ["cat", "dog"]
    assert data.labels == (1, 2)


def test_pixels_of_all_modes_lie_between_nought_and_one():
    red = pixels(Image.new("RGB", (2, 3), (255, 0, 51)))
    assert red.shape == (3, 3, 2)
    assert red[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    assert (
        pixels(Image.new("RGBA", (2, 3), (255, 0, 51, 7)))[:, 0, 0].tolist()
        == red[:, 0, 0].tolist()
    )
    assert pixels(Image.new("1", (2, 3), 1)).unique().tolist() == [1]
    deep = Image.fromarray(np.full((3, 2), 13107, dtype=np.uint16))
    assert pixels(deep).shape == (1, 3, 2)
    assert pixels(deep)[0, 0, 0] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no known range"):
        pixels(Image.new("F", (2, 3), 0.5))


def test_images_that_differ_are_refused_with_what_to_do_and_a_size_makes_them_alike(tmp_path):
    grey(tmp_path / "a" / "1.png", 10, (4, 6))
    grey(tmp_path / "b" / "2.png", 20, (8, 6))
    with pytest.raises(FileFormatError, match=r"6 x 4 pixels of grey, .* --image-size|6 x 8"):
        named_data(str(tmp_path))
    [batch] = iterate_batches(named_data(str(tmp_path), (3, 5)))
    assert batch.inputs.shape == (2, 1, 3, 5)
    grey(tmp_path / "b" / "3.png", (1, 2, 3), (4, 6), "RGB")
    with pytest.raises(FileFormatError, match="in colours"):
        named_data(str(tmp_path), (3, 5))


def test_folders_without_images_and_damaged_images_are_told_by_name(tmp_path):
    with pytest.raises(FileFormatError, match="holds no images in subfolders"):
        named_data(str(tmp_path))
    grey(tmp_path / "a" / "whole.png", 10, (64, 64))
    whole = (tmp_path / "a" / "whole.png").read_bytes()
    (tmp_path / "a" / "zcut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match=r"zcut\.png cannot be read"):
        list(iterate_batches(named_data(str(tmp_path)), batch_size=1))
    (tmp_path / "a" / "zcut.png").write_bytes(b"none")
    with pytest.raises(FileFormatError, match=r"zcut\.png cannot be read"):
        named_data(str(tmp_path))
    with pytest.raises(ValueError, match="is for a folder of images"):
        named_data("mine:data", (3, 3))


def test_a_folder_of_images_is_audited_from_the_command_line(tmp_path, monkeypatch, capsys):
    from geomprobe.cli import main

    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 8), dtype=np.uint8)).save(path)
    code = "from torch import nn\nbuild = lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 2))"
    (tmp_path / "for_images.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = ["audit", "for_images:build", "--data", "photos", "--image-size", "5x4"]
    options = ["--analyzers", "persistent_homology", "--layers", "1"]
    for arguments, code, said in (
        ([*command, *options], 0, "1 layer observed"),
        ([*command[:4], "--image-size", "5 by 4"], 2, "takes HEIGHTxWIDTH"),
        (["layers", *command[1:]], 0, "12 x 2"),
        (["audit", "none:build", "--data", "none:data", "--image-size", "5"], 2, "is a folder of"),
        (["audit-many", "none:b", "a", "--data", "none:d", "--image-size", "5"], 2, "is a folder"),
        (["layers", "none:build", "--image-size", "5"], 2, "is a folder of images"),
        (["compare", "a", "b", "--image-size", "5"], 2, "is a folder of images"),
    ):
        monkeypatch.setattr(sys, "argv", ["geomprobe", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        assert done.value.code == code
        assert said in "".join(capsys.readouterr())
    sys.modules.pop("for_images", None)
