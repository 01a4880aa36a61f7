import pytest

from geomprobe.callbacks import cadence
from geomprobe.callbacks.cadence import Budget, Cadence


class Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cadence.time, "perf_counter", clock)
    return clock


def test_steps_and_epochs_are_due_in_their_turn():
    by_steps = Cadence("3 steps")
    assert [by_steps.step() for _ in range(7)] == [False, False, True, False, False, True, False]
    by_epochs = Cadence("2 epochs", steps_per_epoch=2)
    assert [by_epochs.step() for _ in range(8)] == [False, False, False, True] * 2
    assert by_epochs.epoch == 4.0
    by_hand = Cadence("1 epoch")
    assert not by_hand.step()
    assert by_hand.epoch is None
    assert by_hand.epoch_end()
    assert by_hand.epoch == 1.0


def test_overhead_is_the_time_spent_here_and_elsewhere_over_the_time_that_has_passed(clock):
    budget = Budget(None)
    with budget.measured():
        clock.now += 3
    clock.now += 5
    budget.book(1.0)
    assert budget.overhead == 4 / 8
    assert budget.affords


def test_an_observation_is_affordable_once_its_cost_fits_into_the_share(clock):
    budget = Budget(0.1)
    assert budget.affords
    budget.book(2.0)
    budget.observed(2.0)
    clock.now += 37.9
    # (2 + 2) / (38 + 2) = 0.1
    assert not budget.affords
    clock.now += 0.2
    assert budget.affords


def test_the_dearest_of_the_last_five_is_expected(clock):
    budget = Budget(0.5)
    for cost in (40.0, 1, 1, 1, 1):
        budget.observed(cost)
    clock.now += 30
    assert not budget.affords
    budget.observed(1.0)
    assert budget.affords


def test_a_run_at_any_cost_stays_within_its_share(clock):
    # Every step takes 1 s, an observation between 2 and 10 s: after the first the share holds.
    budget, costs = Budget(0.2), [10.0, 2, 5, 9, 3, 10, 4] * 40
    made = 0
    for _ in range(2000):
        clock.now += 1
        if budget.affords:
            cost = costs[made]
            with budget.measured():
                clock.now += cost
            budget.observed(cost)
            made += 1
        assert made <= 1 or budget.overhead <= 0.2 + 0.02
    assert made > 40
    assert budget.overhead > 0.15


def test_an_account_goes_on_where_it_was_interrupted(clock):
    budget = Budget(0.1)
    budget.book(2.0)
    budget.observed(2.0)
    clock.now += 30
    state = budget.state_dict()
    clock.now += 1000
    resumed = Budget(0.1)
    resumed.load_state_dict(state)
    assert resumed.overhead == budget.spent / 30
    assert not resumed.affords
