"""What is shipped of geomprobe's own zoos is what their records say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from geomprobe.diagnostics import granulated_kendall, kendall, published_scores
from geomprobe.diagnostics.combinations import COMBINATIONS
from geomprobe.diagnostics.measures import MEASURES
from geomprobe.zoos import ZooFolder

ROOT = Path(__file__).parents[2]
GRIDS, PAGES = ROOT / "benchmarks" / "zoo", ROOT / "docs"
RECORDS = GRIDS / "records"
ZOOS = ("T", "V", "H1", "H2", "H3")


@pytest.fixture(scope="module", params=ZOOS)
def zoo(request):
    return request.param


def cells(name):
    """Records of a zoo averaged over seeds, by pandas alone, with its hyper-parameters as codes."""
    home = ZooFolder(RECORDS / name)
    rows = home.measures().merge(home.gaps(), on="number")
    rows = rows[rows["failed"] == ""].replace([np.inf, -np.inf], np.nan)
    for one in COMBINATIONS:
        above = rows[list(one.factors)].prod(axis=1, skipna=False)
        rows[one.name] = above / rows[list(one.divisors)].prod(axis=1, skipna=False)
    axes = [f"settings.{axis}" for axis in home.protocol.axes]
    means = rows.groupby(axes)[["gap", *(n for n in MEASURES if n in rows)]].mean().reset_index()
    levels = np.stack([means[axis].astype("category").cat.codes for axis in axes], axis=1)
    return means, levels


def test_records_are_those_of_the_frozen_grids_and_complete(zoo):
    home = ZooFolder(RECORDS / zoo)
    assert home.protocol.digest == json.loads((GRIDS / "frozen.json").read_text())[zoo]
    assert len(home.measures()) == len(home.protocol.models) == len(home.gaps())
    assert (home.measures()["failed"] == "").mean() > 0.85


def test_shipped_scores_are_those_of_the_records(zoo):
    means, levels = cells(zoo)
    published, compared = published_scores(), 0
    assert {*published} >= {name for name in MEASURES if name in means}
    for name, score in published.items():
        known = np.isfinite(means[name]).to_numpy()
        if zoo not in score.zoos or math.isnan(score.zoos[zoo].psi.value):
            continue
        signed = score.sign * means[name].to_numpy()[known]
        gap = means["gap"].to_numpy()[known]
        psi = granulated_kendall(levels[known], signed, gap).psi
        assert score.zoos[zoo].psi.value == pytest.approx(psi, abs=1e-6), name
        assert score.zoos[zoo].tau == pytest.approx(kendall(signed, gap), abs=1e-6), name
        compared += 1
    assert compared > 50


def test_pages_tell_the_shipped_scores(zoo):
    summary = (PAGES / "scorecards.md").read_text()
    page = (PAGES / "scorecards" / f"{zoo}.md").read_text()
    for name, score in published_scores().items():
        assert f"{name}* |" in page or f"**{name}**" in page
        [line] = [
            one
            for one in summary.splitlines()
            if one.strip("| *").startswith(f"{name}") and one.split("|")[1].strip(" *") == name
        ]
        assert line.rstrip(" |").endswith(score.in_words)
        if zoo in score.zoos and not math.isnan(score.zoos[zoo].psi.value):
            assert str(score.zoos[zoo].psi) in line
