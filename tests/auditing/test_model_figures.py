import re
from xml.etree import ElementTree

import numpy as np
import pytest

from geomprobe.auditing.model_figures import model_figures
from geomprobe.findings import Estimate, Finding

SVG = "{http://www.w3.org/2000/svg}"
NAN = np.nan


def drawn(**arrays):
    finding = Finding("third_party", "model", arrays={k: np.asarray(v) for k, v in arrays.items()})
    return {figure.kind: figure for figure in model_figures(finding)}


def curves(figure):
    """The points of every curve, in pixels."""
    tree = ElementTree.fromstring(figure.svg)
    paths = [p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "curve"]
    return [np.array(re.findall(r"([\d.]+) ([\d.]+)", path), dtype=float) for path in paths]


def test_a_normal_density_is_a_parabola_on_its_logarithmic_axis():
    grid = np.linspace(-3, 3, 61)
    figure = drawn(hessian_grid=grid, hessian_density=np.exp(-(grid**2) / 2))["density"]
    ((x, y),) = (curve.T for curve in curves(figure))
    assert np.ptp(np.diff(y, 2)) < 0.5  # a second difference that is the same, but for rounding
    assert abs(x[y.argmin()] - (x[0] + x[-1]) / 2) < 0.2
    assert figure.caption == "Smoothed spectrum, from −3 to 3, on a logarithmic axis."


def test_the_largest_eigenvalues_are_marked_and_tails_of_nothing_left_out():
    grid = np.linspace(-1, 10, 100)
    density = np.where(grid < 2, 1.0, 1e-9)
    figure = drawn(hessian_grid=grid, hessian_density=density, hessian_largest=[9.0, 5.0, 4.0])
    figure = figure["density"]
    tree = ElementTree.fromstring(figure.svg)
    (marks,) = (p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "marks")
    assert marks.count("z") == 3
    assert "Triangles: the 3 largest eigenvalues." in figure.caption
    (points,) = curves(figure)
    assert len(points) == (grid < 2).sum()


def test_growth_with_inputs_has_its_limit_where_that_is_known():
    arrays = {
        "inputs": np.array([8.0, 16.0, 32.0]),
        "local_by_inputs": np.array([4.0, 6.0, 7.0]),
        "local_by_inputs_stderr": np.array([0.5, 0.4, NAN]),
    }
    drawings = {}
    for limit in (Estimate(8.0, 0.25), Estimate.undefined("no end")):
        finding = Finding("effective_dimension", "model", {"local_limit": limit}, arrays)
        (drawings[limit.note],) = model_figures(finding)
    assert len(curves(drawings[""])) == 2
    assert drawings[""].caption == (
        "At the same n, from 4 with 8 inputs to 7 with 32. Dashed, where it tends to by "
        "extrapolation: 8 ± 0.25."
    )
    assert len(curves(drawings["no end"])) == 1
    assert drawings["no end"].caption.endswith("No limit is known.")


def test_counts_have_a_band():
    figure = drawn(
        z=[1e-3, 1e-2, 1e-1],
        effective_parameters_curve=[30.0, 20.0, 5.0],
        effective_parameters_stderr=[1.0, 1.0, NAN],
    )["counts"]
    assert len(curves(figure)[0]) == 3
    assert 'class="band"' in figure.svg
    assert "30 at z = 0.001000, 5 at z = 0.1000" in figure.caption


def test_a_power_law_of_the_kernel_is_a_straight_line():
    ranks = np.arange(1, 51.0)
    drawings = drawn(kernel_spectrum=ranks**-2, noise_spectrum=ranks**-2)
    assert set(drawings) == {"kernel", "noise"}
    for figure in drawings.values():
        ((x, y),) = (c.T for c in curves(figure))
        chord = y[0] + (x - x[0]) / (x[-1] - x[0]) * (y[-1] - y[0])
        np.testing.assert_allclose(y, chord, atol=0.15)


def test_margins_are_the_distribution_function_of_the_samples():
    figure = drawn(margins=[3.0, -1.0, 1.0, NAN])["margins"]
    assert figure.caption.startswith("Margins of 3 samples, from −1 to 3; ")
    ((x, y),) = (curve.T for curve in curves(figure))
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) <= 0).all()
    assert drawn(margins=[NAN]) == {}


def test_shares_tell_where_half_is_held():
    figure = drawn(label_share=[0.2, 0.6, 1.0], kernel_share=[0.7, 0.9, 1.0])["shares"]
    assert figure.caption == (
        "Half of the targets: in 2 directions. Half of the kernel: in 1 direction."
    )
    assert len(curves(figure)) == 2
    assert drawn(label_share=[0.2, 1.0]) == {}


def test_a_random_walk_spreads_along_its_own_line_and_a_straight_path_twice_as_steep():
    lags = np.array([1.0, 2.0, 4.0, 8.0])
    for power, slope in ((0.5, 1), (1.0, 2)):
        figure = drawn(lags=lags, root_mean_square_displacement=3 * lags**power)["spreading"]
        walk, path = (np.diff(curve[:, 1]) for curve in curves(figure))
        np.testing.assert_allclose(path, slope * walk, atol=0.3)


def test_the_sensitivity_of_a_coefficient_is_a_curve_a_localization():
    values = np.array([[1.0, 2.0], [1.1, 2.5], [1.5, NAN]])
    arrays = {"grid_steps": [1e-4, 2e-4, 4e-4], "grid_localizations": [10.0, 100.0]}
    figure = drawn(**arrays, grid_values=values, grid_stderrs=0.1 * values)["sensitivity"]
    assert [len(curve) for curve in curves(figure)] == [3, 2]
    assert figure.svg.count('class="band"') == 2
    assert figure.caption.startswith("From 1 to 2.50 over these steps and localizations")
    assert drawn(**arrays, grid_values=values.T, grid_stderrs=values.T) == {}


def test_principal_directions_stand_beside_those_of_a_walk():
    figure = drawn(explained_variance=[0.9, 0.1], walk_explained_variance=[0.61, 0.15])["variances"]
    assert [len(curve) for curve in curves(figure)] == [2, 2]
    assert "has 0.9000 of the variance of the path" in figure.caption
    assert "as many points, 0.6100" in figure.caption


def test_angles_of_updates_are_three_curves_on_one_axis():
    angles = dict(to_gradient=[0.0, 0.0], to_natural=[90.0, 90.0], between=[90.0, 180.0])
    figure = drawn(angle_steps=[0, 40], **angles)["angles"]
    gradient, natural, between = (curve[:, 1] for curve in curves(figure))
    assert gradient[0] - natural[0] == pytest.approx(natural[0] - between[1], abs=0.5)
    assert between[0] == natural[0]
    assert "update and natural gradient" in figure.svg
    assert not drawn(angle_steps=[0, 40, 80], **angles)


def test_chains_are_drawn_above_the_initial_loss():
    losses = 2 + np.random.default_rng(0).uniform(size=(6, 30))
    figure = drawn(chain_losses=losses, chain_steps=[5], initial_loss=[1.5])["chains"]
    assert len(curves(figure)) == 4
    assert figure.caption.startswith("The losses of 4 of 6 chains after their burn-in")
    assert "1.5" in figure.caption


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"hessian_grid": [1.0, 2.0]},
        {"hessian_grid": [1.0, 2.0], "hessian_density": [1.0]},
        {"z": [1.0], "effective_parameters_curve": [[1.0]]},
        {"kernel_spectrum": np.empty(0)},
        {"kernel_spectrum": [0.0]},
        {"chain_losses": np.ones((2, 3))},
        {"lags": [1.0, 2.0], "root_mean_square_displacement": [0.0, 1.0]},
        {"explained_variance": [1.0]},
        {"chain_losses": np.empty((2, 0)), "initial_loss": [1.0]},
    ],
)
def test_arrays_that_do_not_fit_give_no_figure(arrays):
    assert drawn(**arrays) == {}


@pytest.mark.parametrize(
    "arrays",
    [
        {"hessian_grid": [0.0, 1.0], "hessian_density": [0.0, 0.0]},
        {"hessian_grid": [0.0, 1.0], "hessian_density": [NAN, NAN], "hessian_largest": [NAN]},
        {"z": [1.0], "effective_parameters_curve": [0.0]},
        {"z": [1.0, 2.0], "effective_parameters_curve": [NAN, NAN]},
        {"inputs": [1.0, 2.0], "local_by_inputs": [NAN, NAN]},
        {"label_share": [NAN], "kernel_share": [NAN]},
        {"chain_losses": [[NAN, NAN]], "initial_loss": [1.0]},
        {
            **{"grid_steps": [1.0], "grid_localizations": [0.0]},
            **{"grid_values": [[NAN]], "grid_stderrs": [[NAN]]},
        },
        {"lags": [1.0, 2.0], "root_mean_square_displacement": [1.0, NAN]},
        {"explained_variance": [1.0, 0.0], "walk_explained_variance": [NAN, NAN]},
    ],
)
def test_degenerate_arrays_are_drawn(arrays):
    (figure,) = drawn(**arrays).values()
    ElementTree.fromstring(figure.svg)
