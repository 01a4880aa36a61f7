"""Training to a criterion, and the data of geomprobe's own zoos."""

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.zoos import After, Stop, Task
from geomprobe.zoos.tasks import digits, mnist1d, shift, teacher
from geomprobe.zoos.training import Training, gaps

SETTINGS = {"lr": 0.1, "batch_size": 20}


def blobs(n=60, seed=0):
    """Three classes around three corners, a little apart."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = 2 * torch.eye(3)[y] + 0.3 * torch.randn(n, 3, generator=generator)
    return Samples(x, y)


def task(n=60, width=16, **others):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 3))
    return Task(model, blobs(n), blobs(90, seed=1), **others)


def test_training_ends_where_the_whole_training_set_is_fitted_in_evaluation_mode():
    slow = {**SETTINGS, "lr": 0.01}
    training = Training(task(), slow, 0)
    assert training.until(Stop()) == ""
    assert training.fit(training.train)[0] <= 0.01
    assert training.steps % 20 == 0
    assert not training.task.model.training
    # Not earlier, by the same steps up to the look before.
    other = Training(task(), slow, 0)
    reason = other.until(Stop(steps=training.steps - 20))
    assert "above 0.01" in reason


def test_a_fixed_budget_is_spent_whatever_comes_of_it():
    training = Training(task(), SETTINGS, 0)
    assert training.until(Stop(epochs=2)) == ""
    assert training.steps == 6


def test_a_training_that_diverges_says_so():
    training = Training(task(), {**SETTINGS, "lr": 1e30}, 0)
    assert "not finite" in training.until(Stop())


def test_label_noise_changes_that_many_labels_and_ends_by_its_own_criterion():
    training = Training(task(), {**SETTINGS, "label_noise": 0.1}, 0)
    assert int((training.train.targets != training.task.train.targets).sum()) == 6
    assert training.until(Stop(cross_entropy=0.0, noisy_cross_entropy=0.5)) == ""
    assert training.fit(training.train)[0] <= 0.5


def test_an_adversarial_start_has_learned_other_labels():
    small = {"n": 15, "width": 128}
    training = Training(task(**small), {**SETTINGS, "adversarial_init": True}, 0)
    plain = Training(task(**small), SETTINGS, 0)
    assert training.fit(training.train)[1] > 0.3
    assert any(
        not torch.equal(training.initial[name], value) for name, value in plain.initial.items()
    )


def test_iterates_after_convergence():
    training = Training(task(), SETTINGS, 0)
    training.until(Stop())
    path = training.further(After(iterates=30, samples=25, dimension=16))
    assert path.points.shape == (30, 16)
    assert path.sample_losses.shape == path.sample_correct.shape == (30, 25)
    assert sum(step is not None for step in path.meta["step_norms"]) == 29
    assert training.further(After(iterates=0)) is None


def test_gaps_are_those_of_a_count():
    training = Training(task(), SETTINGS, 0)
    training.task.model.eval()
    found = gaps(training, training.task.test)
    with torch.no_grad():
        test, train = (
            (training.task.model(one.inputs).argmax(1) != one.targets).double()
            for one in (training.task.test, training.train)
        )
    assert found["gap"] == pytest.approx(float(test.mean() - train.mean()))
    assert found["gap_half_1"] == pytest.approx(float(test[:45].mean() - train.mean()))
    assert (found["gap_half_1"] + found["gap_half_2"]) / 2 == pytest.approx(found["gap"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": 0.1}, "batch_size"),
        ({**SETTINGS, "label_noise": 1.0}, "label_noise"),
    ],
)
def test_settings_that_cannot_be_used(settings, said):
    with pytest.raises(ValueError, match=said):
        Training(task(), settings, 0)


def test_an_unknown_optimizer():
    with pytest.raises(ValueError, match='"sgd" or "adam"'):
        Training(task(), {**SETTINGS, "optimizer": "lbfgs"}, 0).until(Stop())


def test_augmentation_is_of_batches_alone():
    seen = []

    def augment(inputs, generator):
        seen.append(len(inputs))
        return inputs

    training = Training(task(augment=augment, augmented=True), SETTINGS, 0)
    training.until(Stop(steps=20))
    assert seen == 20 * [20]
    with pytest.raises(ValueError, match="needs an augmentation"):
        task(augmented=True)


# --- tasks ---------------------------------------------------------------------------------------


def test_data_are_the_same_for_all_seeds_and_the_model_is_not():
    one, other = (digits(seed=seed, n_train=600, width=8, depth=1) for seed in (0, 1))
    assert torch.equal(one.train.inputs, other.train.inputs)
    assert len(one.train) == 600
    assert len(one.test) == 1197
    assert not torch.equal(one.model[1].weight, other.model[1].weight)


def test_classes_of_a_teacher_are_about_as_frequent_as_each_other():
    made = teacher(seed=0, n_train=1000, n_test=4000, depth=1, activation="tanh")
    share = np.bincount(made.test.targets) / 4000
    assert share.min() > 0.08
    assert made.model(made.test.inputs[:2]).shape == (2, 5)
    with pytest.raises(ValueError, match="activation"):
        teacher(seed=0, n_test=10, activation="step")


def test_mnist1d_is_made_once_and_leaves_random_streams(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    made = mnist1d(seed=0, n_train=30, n_test=50, width=8, depth=1)
    assert (before == np.random.get_state()[1]).all()
    assert made.train.inputs.shape == (30, 40)
    [path] = (tmp_path / "geomprobe").iterdir()
    written = path.stat().st_mtime_ns
    either = mnist1d(seed=0, n_train=30, n_test=50, network="cnn", channels=4, depth=1)
    assert path.stat().st_mtime_ns == written
    assert torch.equal(either.train.inputs, made.train.inputs)
    assert either.model(either.test.inputs).shape == (50, 10)
    # The data of the package itself, of its own arguments.
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples = 80
    assert np.allclose(make_dataset(arguments)["x"][:30], made.train.inputs, atol=1e-6)


def test_shifts_are_circular_and_of_four_places_at_most():
    signals = torch.arange(40.0).repeat(200, 1)
    moved = shift(signals, torch.Generator().manual_seed(0))
    assert set(moved[:, 0].tolist()) == {0, 1, 2, 3, 4, 36, 37, 38, 39}
    assert torch.equal(moved.sort(dim=1).values, signals)
