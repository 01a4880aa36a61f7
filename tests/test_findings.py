import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geomprobe import Estimate, Finding
from geomprobe.exceptions import FileFormatError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SPREAD = st.floats(min_value=0, allow_nan=False) | st.just(math.nan)
COUNT = st.none() | st.integers(0, 2**53)
DTYPES = st.sampled_from(["<f4", "<f8", "<i8", "|b1"])


@st.composite
def estimates(draw):
    value = draw(st.floats())
    note = draw(TEXT.filter(bool) if math.isnan(value) else TEXT)
    return Estimate(value, draw(SPREAD), draw(COUNT), draw(st.booleans()), draw(TEXT), note)


@st.composite
def findings(draw):
    arrays = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_side=0)))
    return Finding(
        analyzer=draw(TEXT),
        subject=draw(TEXT),
        scalars=draw(st.dictionaries(TEXT, estimates(), max_size=3)),
        arrays=draw(st.dictionaries(TEXT, arrays, max_size=2)),
        notes=tuple(draw(st.lists(TEXT, max_size=3))),
        seconds=draw(st.floats(0, 1e9)),
        failed=draw(st.none() | TEXT),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("findings") / "finding.json"


@given(estimates())
def test_an_estimate_survives_strict_json(estimate):
    text = json.dumps(estimate.to_dict(), allow_nan=False)
    assert Estimate.from_dict(json.loads(text)) == estimate


@given(finding=findings())
def test_a_finding_survives_its_file(path, finding):
    finding.save(path)
    assert Finding.load(path) == finding


def test_a_number_that_means_nothing_needs_a_reason():
    with pytest.raises(ValueError, match="needs a note that says why"):
        Estimate(math.nan)
    undefined = Estimate.undefined("too few points", n=3, method="Rips")
    assert undefined == Estimate(math.nan, n=3, method="Rips", note="too few points")


def test_a_standard_error_is_zero_where_exact_unknown_where_not_given_and_never_negative():
    assert Estimate(1, exact=True).stderr == 0
    assert math.isnan(Estimate(1).stderr)
    with pytest.raises(ValueError, match="cannot be negative, got -1"):
        Estimate(1, stderr=-1)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1 / 3, 0.0123), "0.3333 ± 0.012"),
        (Estimate(2.5), "2.5 ± ?"),
        (Estimate(7, exact=True), "7 (exact)"),
        (Estimate.undefined("no points"), "undefined (no points)"),
    ],
)
def test_an_estimate_reads_with_its_error(estimate, text):
    assert str(estimate) == text


def test_numbers_of_any_kind_become_floats():
    estimate = Estimate(np.float32(0.5), np.float64(0.25))
    assert (type(estimate.value), type(estimate.stderr)) == (float, float)


@pytest.mark.parametrize("content", [b"", b'{"analyzer": "a"', b"\x80\x04N."])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "finding.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"finding\.json"):
        Finding.load(tmp_path / "finding.json")


@pytest.mark.parametrize("document", ["[]", "{}", '{"analyzer": "a", "subject": "b"}', "3"])
def test_json_that_is_no_finding_is_refused_by_name(tmp_path, document):
    (tmp_path / "finding.json").write_text(document, encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"finding\.json holds no Finding"):
        Finding.load(tmp_path / "finding.json")
