"""scikit-learn's own checks of estimators.

``check_estimator`` makes up tables. ActivationCloud takes those, and passes: see
``test_activation.py``. Of estimators that take clouds or diagrams scikit-learn runs no check before
1.6, and later one. So its checks that need no data are called here one by one.
"""

import pickle

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks

import geomprobe as gp
from geomprobe import estimators

WITHOUT_DATA = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_get_tags_default_keys",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]
#: Estimators that need a model: see ``test_activation.py`` and ``test_checkpoints.py``.
OF_MODELS = {"ActivationCloud", "CheckpointClouds", "FisherFeatures"}
NO_TABLE = sorted(set(estimators.__all__) - OF_MODELS)
CHANGED = [
    gp.RipsPersistence(2, metric="cityblock", threshold=3.0, coeff=3, engine="ripser",
                       time_limit=60.0, memory_limit=2**30, n_jobs=2),
    gp.PersistenceEntropy(normalize=True, fill_value=-1.0),
    estimators.TotalPersistence(2.0),
    estimators.BettiCurve(7),
    estimators.PersistenceLandscape(2, 7),
    estimators.Silhouette(0.5, 7),
    estimators.PersistenceImage(5, sigma=0.1, power=2.0),
    estimators.IntrinsicDimension("gride", n_neighbors=8, stderr=True, fill_value=0.0,
                                  random_state=1, n_jobs=2),
    estimators.LinearDimension("rank_me", stderr=True, fill_value=0.0, random_state=1, n_jobs=2),
]  # fmt: skip


@pytest.mark.parametrize("name", NO_TABLE)
def test_the_checks_that_need_no_data(name):
    known = [check for check in WITHOUT_DATA if hasattr(estimator_checks, check)]
    for check in known:
        getattr(estimator_checks, check)(name, getattr(estimators, name)())
    # Those of 1.3, and of 1.6 and later.
    assert len(known) >= (10 if hasattr(estimator_checks, "check_mixin_order") else 5)


@pytest.mark.parametrize("name", NO_TABLE)
def test_scikit_learn_is_told_that_samples_are_no_rows(name):
    estimator = getattr(estimators, name)()
    try:
        from sklearn.utils import get_tags
    except ImportError:  # before scikit-learn 1.6
        assert estimator._get_tags()["X_types"] == ["3darray"]
    else:
        tags = get_tags(estimator).input_tags
        assert (tags.two_d_array, tags.three_d_array) == (False, True)


@pytest.mark.parametrize("estimator", CHANGED, ids=lambda one: type(one).__name__)
def test_parameters_are_stored_untouched_cloned_and_pickled(estimator):
    parameters = estimator.get_params()
    defaults = type(estimator)().get_params()
    assert all(parameters[name] != defaults[name] for name in parameters if name != "metric")
    assert clone(estimator).get_params() == parameters
    assert pickle.loads(pickle.dumps(estimator)).get_params() == parameters
    assert all(getattr(estimator, name) is value for name, value in parameters.items())
    assert type(estimator)().set_params(**parameters).get_params() == parameters


def test_clones_of_the_fitted_are_not_fitted(transformer, diagrams):
    fitted = transformer.fit(diagrams)
    assert [name for name in vars(fitted) if name.endswith("_")]
    assert not [name for name in vars(clone(fitted)) if name.endswith("_")]
