import numpy as np
import pytest

from geomprobe.estimators import PersistenceImage
from geomprobe.topology import Diagrams, persistence_image


def test_those_of_the_function(diagrams):
    fitted = PersistenceImage(5, power=2.0).fit(diagrams)
    found = fitted.transform(diagrams).reshape(6, 2, 5, 5)
    for one, images in zip(diagrams, found, strict=True):
        for dim in range(2):
            expected = persistence_image(
                one[dim],
                fitted.births_[dim],
                fitted.lifetimes_[dim],
                sigma=fitted.sigma_[dim],
                power=2.0,
            )
            np.testing.assert_allclose(images[dim], expected)


def test_the_weight_of_a_bar_lies_about_its_pixel():
    # A Gaussian far narrower than a pixel: all its mass, the lifetime, is in one.
    bars = [Diagrams((np.array([[0.0, 4.0], [4.0, 5.5]]),))]
    fitted = PersistenceImage(4, sigma=1e-3).fit(bars)
    assert fitted.births_[0].tolist() == fitted.lifetimes_[0].tolist() == [0, 1, 2, 3, 4]
    image = fitted.transform([Diagrams((np.array([[2.5, 4.0]]),))]).reshape(4, 4)
    assert image[2, 1] == pytest.approx(1.5)
    assert image.sum() == pytest.approx(1.5)
    names = fitted.get_feature_names_out().reshape(4, 4)
    assert names[2, 1] == "h0_image_at_2.5_1.5"


@pytest.mark.parametrize("later", [0.0, 1e-15])
def test_bars_that_are_born_at_once_are_in_the_middle(later):
    bars = [Diagrams((np.array([[1.0, 3.0], [1.0 + later, 2.0]]),))]
    fitted = PersistenceImage(2).fit(bars)
    np.testing.assert_allclose(fitted.births_[0], [0, 1, 2])
    np.testing.assert_allclose(fitted.lifetimes_[0], [0, 1, 2])
    assert fitted.sigma_ == pytest.approx([0.2])
    assert np.isfinite(fitted.transform(bars)).all()


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (PersistenceImage(0), "n_bins must be a whole number from 1, got 0"),
        (PersistenceImage(sigma=-1.0), "sigma must be positive, got -1.0"),
        (PersistenceImage(power=0), "power must be positive, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(transformer, message, diagrams):
    with pytest.raises(ValueError, match=message):
        transformer.fit(diagrams)
