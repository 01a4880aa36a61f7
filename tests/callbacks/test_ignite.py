"""IgniteMonitor on real engines of Ignite."""

import sys

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from geomprobe.callbacks import IgniteMonitor
from tests.callbacks.watched import AT_ONCE, TIME, Clock, Spread, X, Y, facts, network, spread

engine = pytest.importorskip("ignite.engine")
handlers = pytest.importorskip("ignite.handlers")

SD = "geom/spread/0/sd"
BATCHES = [(X[i : i + 5], Y[i : i + 5]) for i in range(0, 40, 5)]


def training(model=None, lr=0.1):
    """A trainer with 8 batches an epoch, of which every second ends with a step."""
    model = model or network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    trainer = engine.create_supervised_trainer(
        model, optimizer, torch.nn.functional.cross_entropy, gradient_accumulation_steps=2
    )
    return trainer, model, optimizer


def test_steps_are_the_optimizers_and_the_state_has_the_numbers():
    trainer, model, optimizer = training()
    watch = IgniteMonitor((X, Y), **AT_ONCE).attach(trainer, model, optimizer)
    other = IgniteMonitor((X, Y), name="time", every="3 steps", **{**AT_ONCE, "analyzers": Clock()})
    other.attach(trainer, model, optimizer)
    trainer.run(BATCHES, max_epochs=3)
    plain, same, _ = training()
    plain.run(BATCHES, max_epochs=3)
    for a, b in zip(same.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [(r.step, r.epoch) for r in watch.monitor.history] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    assert trainer.state.metrics == {SD: spread(model), f"time/{TIME}": 12.0}
    assert watch.monitor.history[-1].loss == pytest.approx(trainer.state.output)


def test_it_goes_on_from_a_checkpoint_of_ignite(tmp_path):
    def run(epochs, resume=False):
        trainer, model, optimizer = training()
        watch = IgniteMonitor(X, every="3 steps", **AT_ONCE).attach(trainer, model, optimizer)
        to_save = {"model": model, "optimizer": optimizer, "trainer": trainer, "geometry": watch}
        if resume:
            (file,) = tmp_path.glob("*.pt")
            state = torch.load(file, weights_only=True)
            handlers.Checkpoint.load_objects(to_save, state)
        saver = handlers.Checkpoint(to_save, handlers.DiskSaver(tmp_path, require_empty=False))
        trainer.add_event_handler(engine.Events.EPOCH_COMPLETED(once=2), saver)
        trainer.run(BATCHES, max_epochs=epochs)
        return watch.monitor

    whole = run(4)
    assert facts(run(4, resume=True)) == facts(whole)
    assert len(whole.history) == 5


def test_early_stopping_and_the_best_model_by_a_number_of_geometry(tmp_path):
    trainer, model, optimizer = training()
    watch = IgniteMonitor((X, Y), **{**AT_ONCE, "analyzers": Clock()})
    watch.attach(trainer, model, optimizer)

    def score(engine):
        return -engine.state.metrics[TIME]

    ends = engine.Events.EPOCH_COMPLETED
    trainer.add_event_handler(ends, handlers.EarlyStopping(1, score, trainer))
    best = handlers.Checkpoint({"model": model}, tmp_path, score_function=score)
    trainer.add_event_handler(ends, best)
    trainer.run(BATCHES, max_epochs=9)
    assert trainer.state.epoch == 2
    assert "-4.0" in str(best.last_checkpoint)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
@pytest.mark.parametrize("part", ["", "0"])
def test_two_processes_observe_as_one_and_stop_together(in_processes, part):
    layer = {"layers": "(root)"} if part else {}

    def job(rank, processes):
        trainer, model, optimizer = training(DistributedDataParallel(network()), lr=0.0)
        options = {**AT_ONCE, **layer, "analyzers": [Spread(), Clock()]}
        watch = IgniteMonitor(X, part=part, **options).attach(trainer, model, optimizer)
        stop = handlers.EarlyStopping(1, lambda engine: -engine.state.metrics[TIME], trainer)
        trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, stop)
        trainer.run(BATCHES[rank::processes], max_epochs=9)
        return facts(watch.monitor)

    one, other = in_processes(job, 2)
    assert one == other
    assert [(step, epoch) for step, epoch, _ in one] == [(2, 1.0), (4, 2.0)]
    for *_, values in one:
        found = next(value for name, value in values.items() if name.endswith("/sd"))
        assert found == pytest.approx(spread(network()))


def test_an_exception_takes_the_hooks_off_and_is_raised_if_nobody_handles_it():
    class Fails(Exception):
        pass

    def fail(engine):
        raise Fails

    handled = []
    for others in (0, 1):
        trainer, model, optimizer = training()
        for name in ("a", "b"):
            watch = IgniteMonitor(tap=True, name=name, **AT_ONCE)
            watch.attach(trainer, model, optimizer)
        trainer.add_event_handler(engine.Events.ITERATION_COMPLETED(once=3), fail)
        if others:
            trainer.add_event_handler(
                engine.Events.EXCEPTION_RAISED, lambda _, error: handled.append(error)
            )
            trainer.run(BATCHES)
        else:
            with pytest.raises(Fails):
                trainer.run(BATCHES)
        assert not model[0]._forward_hooks
    assert isinstance(handled[0], Fails)
