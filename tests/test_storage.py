import json
import math
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from geomprobe.exceptions import FileFormatError
from geomprobe.storage import (
    decode_array,
    decode_number,
    encode,
    read_arrays,
    read_json,
    require_safetensors,
    write_arrays,
    write_atomically,
    write_json,
)
from geomprobe.values import same

DTYPES = st.sampled_from(["<f2", "<f4", "<f8", "<i8", "<i4", "|u1", "|b1"])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0)))

# --- whole files or none ------------------------------------------------------------------------


def test_writing_makes_missing_folders_and_returns_the_path(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    assert write_atomically(path, b"content") == path
    assert path.read_bytes() == b"content"
    assert os.listdir(path.parent) == ["file.bin"]


def test_writing_obeys_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "file", b"")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_previous_file_and_nothing_else(
    tmp_path, monkeypatch, step, failure
):
    path = write_atomically(tmp_path / "file", b"previous")

    def fail(*arguments):
        raise failure

    monkeypatch.setattr(f"geomprobe.storage.os.{step}", fail)
    with pytest.raises(type(failure)):
        write_atomically(path, b"next")
    assert path.read_bytes() == b"previous"
    assert os.listdir(tmp_path) == ["file"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geomprobe.storage.os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "file.json", {})
    assert os.listdir(tmp_path) == []


def test_writing_over_a_folder_fails_and_leaves_it(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"content")
    assert os.listdir(tmp_path) == ["folder"]


# --- JSON ---------------------------------------------------------------------------------------


@given(st.floats())
def test_numbers_survive_strict_json(number):
    text = json.dumps(encode(number), allow_nan=False)
    assert same(decode_number(json.loads(text)), number)


@given(ARRAYS)
def test_arrays_survive_strict_json_bit_for_bit(array):
    text = json.dumps(encode(array), allow_nan=False)
    assert same(decode_array(json.loads(text)), array)


def test_encode_reaches_into_mappings_and_sequences():
    document = encode({1: (np.float32(0.5), [math.inf, -math.inf, math.nan], np.bool_(True), None)})
    assert document == {"1": [0.5, ["Infinity", "-Infinity", None], True, None]}


def test_json_files_are_strict_and_unicode(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "nan.json", {"value": math.nan})
    assert os.listdir(tmp_path) == []
    path = write_json(tmp_path / "names.json", {"Schicht π": 1})
    assert "Schicht π" in path.read_text(encoding="utf-8")
    assert read_json(path) == {"Schicht π": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"not JSON", b"\xff\xfe\x00", b"\x80\x04]."])
def test_what_is_not_json_is_refused_by_name(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"file\.json is not a JSON file"):
        read_json(path)


# --- safetensors --------------------------------------------------------------------------------


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), ARRAYS, max_size=3))
def test_arrays_survive_safetensors(tmp_path_factory, arrays):
    arrays = {name: array for name, array in arrays.items() if name != "__metadata__"}
    path = tmp_path_factory.mktemp("arrays") / "file"
    header = {"names": list(arrays), "none": None, "nested": [1, {"π": 2.5}]}
    write_arrays(path, "thing", arrays, header)
    loaded, loaded_header = read_arrays(path, "thing")
    assert same(loaded, arrays)
    assert loaded_header == header


def test_a_view_that_is_not_contiguous_is_written_as_what_it_shows(tmp_path):
    array = np.arange(12.0).reshape(3, 4)[:, ::2].T
    write_arrays(tmp_path / "file", "thing", {"a": array}, None)
    np.testing.assert_array_equal(read_arrays(tmp_path / "file", "thing")[0]["a"], array)


# 0x80 opens a pickle, and b"PK" a zip archive: lengths whose low bytes are these open neither.
@pytest.mark.parametrize("length", [0x80, 0x480, int.from_bytes(b"PK", "little")])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path, length):
    path = tmp_path / "file"
    filling = 0
    while True:
        write_arrays(path, "thing", {"a": np.zeros(1)}, "x" * filling)
        written = int.from_bytes(path.read_bytes()[:8], "little")
        if written >= length:
            break
        filling += 1 if written + 8 >= length else length - written - 8
    assert written == length
    assert read_arrays(path, "thing")[1] == "x" * filling


def test_another_kind_of_thing_is_refused(tmp_path):
    write_arrays(tmp_path / "file", "PointCloud", {"a": np.zeros(2)}, {})
    with pytest.raises(FileFormatError, match="holds a PointCloud, expected a Trajectory"):
        read_arrays(tmp_path / "file", "Trajectory")


def test_a_file_truncated_anywhere_is_refused(tmp_path):
    whole = write_arrays(tmp_path / "whole", "thing", {"a": np.arange(5.0)}, {"b": 1}).read_bytes()
    path = tmp_path / "cut"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="cut is "):
            read_arrays(path, "thing")
    path.write_bytes(whole)
    assert read_arrays(path, "thing")[1] == {"b": 1}


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"geomprobe": "no JSON"}, {"geomprobe": "[]"}]
)
def test_a_foreign_safetensors_file_is_refused(tmp_path, metadata):
    save_file({"weight": np.zeros(3)}, tmp_path / "file", metadata=metadata)
    with pytest.raises(FileFormatError, match="geomprobe did not write it"):
        read_arrays(tmp_path / "file", "PointCloud")


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (os.fspath(self.path), "w")


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_torch_save_file_is_refused_unopened_with_the_safe_alternative(tmp_path, as_zip):
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    state = {"weight": torch.zeros(2), "bomb": Bomb(trace)}
    torch.save(state, path, _use_new_zipfile_serialization=as_zip)
    for read in (require_safetensors, lambda path: read_arrays(path, "PointCloud")):
        with pytest.raises(FileFormatError, match=r"safetensors\.torch\.save_file"):
            read(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_refused_with_the_safe_alternative(tmp_path, protocol):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"weight": [1.0]}, protocol=protocol))
    with pytest.raises(FileFormatError, match="is a pickle"):
        require_safetensors(path)


@pytest.mark.parametrize("content", [b"", b"12345678", b"plain text, no file format", bytes(64)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a safetensors file"):
        require_safetensors(path)


def test_a_missing_file_and_a_folder_keep_their_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "missing", "PointCloud")
    with pytest.raises(OSError, match=str(tmp_path.name)):
        read_arrays(tmp_path, "PointCloud")
