"""KerasMonitor in real models of Keras 3 on PyTorch, in a process that Keras has to itself."""

import os
import subprocess
import sys
import textwrap
import types
from importlib.util import find_spec
from pathlib import Path

import pytest

from geomprobe.callbacks import KerasMonitor

needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_keras
@pytest.mark.long
def test_a_training_with_all_that_a_callback_must_do():
    run(
        """
        import os, tempfile

        import keras, numpy as np, torch
        from geomprobe.callbacks import KerasMonitor
        from tests.callbacks.watched import AT_ONCE, TIME, Clock, X, Y, facts

        x, y = X.numpy(), Y.numpy()
        SD = "geom/spread/hidden/sd"
        HIDDEN = {**AT_ONCE, "layers": "hidden"}

        def network(accumulate=2):
            keras.utils.set_random_seed(0)
            layers = keras.layers
            model = keras.Sequential(
                [layers.Input((3,)), layers.Dense(8, "relu", name="hidden"), layers.Dense(2)]
            )
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulate)
            model.compile(optimizer, loss)
            return model

        def fit(model, *watches, epochs=3, start=0):
            options = dict(batch_size=5, shuffle=False, verbose=0, initial_epoch=start)
            return model.fit(x, y, epochs=epochs, callbacks=list(watches), **options)

        # Steps are the optimizer's, and the logs have the numbers.
        watch = KerasMonitor((X, Y), **HIDDEN)
        other = KerasMonitor(
            (X, Y), name="time", every="3 steps", **{**HIDDEN, "analyzers": Clock()}
        )
        plain, model = network(), network()
        fit(plain)
        history = fit(model, watch, other).history
        for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
            assert np.array_equal(a, b)
        assert [(r.step, r.epoch) for r in watch.monitor.history] == [(4, 1), (8, 2), (12, 3)]
        assert history[SD] == [record.values[SD] for record in watch.monitor.history]
        spread = np.maximum(x @ model.layers[0].get_weights()[0]
                            + model.layers[0].get_weights()[1], 0).std()
        assert abs(watch.metrics[SD] - spread) < 1e-5
        assert [record.step for record in other.monitor.history] == [3, 6, 9, 12]

        # It goes on from a file of its state, beside that of the model.
        def resumed():
            with tempfile.TemporaryDirectory() as folder:
                model, first = network(), KerasMonitor(X, every="3 steps", **HIDDEN)
                fit(model, first, epochs=2)
                model.save(f"{folder}/model.keras")
                torch.save(first.state_dict(), f"{folder}/monitor.pt")
                model = keras.saving.load_model(f"{folder}/model.keras")
                second = KerasMonitor(X, every="3 steps", **HIDDEN)
                second.load_state_dict(torch.load(f"{folder}/monitor.pt", weights_only=True))
            fit(model, second, epochs=4, start=2)
            return second.monitor

        whole = KerasMonitor(X, every="3 steps", **HIDDEN)
        fit(network(), whole, epochs=4)
        assert facts(resumed()) == facts(whole.monitor)

        # Early stopping and the best model.
        watch = KerasMonitor((X, Y), **{**HIDDEN, "analyzers": Clock()})
        stop = keras.callbacks.EarlyStopping(TIME, mode="min", patience=1)
        with tempfile.TemporaryDirectory() as folder:
            best = keras.callbacks.ModelCheckpoint(
                f"{folder}/{{epoch}}.weights.h5", TIME, mode="min",
                save_best_only=True, save_weights_only=True,
            )
            history = fit(network(), watch, stop, best, epochs=9).history
            assert os.listdir(folder) == ["1.weights.h5"], os.listdir(folder)
        assert history[TIME] == [4, 8], history

        # An exception.
        class Fails(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                raise ZeroDivisionError

        model, watch = network(), KerasMonitor(tap=True, **HIDDEN)
        try:
            with watch:
                fit(model, watch, Fails())
        except ZeroDivisionError:
            pass
        assert watch.monitor is not None
        assert not any(module._forward_hooks for module in model.modules())
        """
    )


def test_another_backend_is_refused(monkeypatch):
    keras = types.ModuleType("keras")
    keras.backend = types.SimpleNamespace(backend=lambda: "jax")
    monkeypatch.setitem(sys.modules, "keras", keras)
    with pytest.raises(ValueError, match="Keras runs on 'jax': set the environment variable"):
        KerasMonitor()
