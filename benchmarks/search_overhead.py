"""What the tuner itself costs a trial: everything but the suggestion and the training.

    python benchmarks/search_overhead.py [--trials 500] [--epochs 10] [--storage postgresql://...]

The hypermodel's `fit` calls what Keras would call, on a model of some 1,000 weights with Adam, without training it: `epochs` times the callbacks of an epoch,
and so the report, the state and the best weights that the tuner writes. Suggestions are those of "random", and their time is taken off. Told for the trials up
to the 10th, the 100th and the last: CPU seconds and wall seconds of the tuner, both per trial, and how large the store is.
"""

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import keras_tuner

from keras_optlab.search import Tuner, store


class Nothing(keras_tuner.HyperModel):
    """Calls the callbacks of a training that does nothing."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs
        self.model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(30), keras.layers.Dense(1)])
        self.model.compile(keras.optimizers.Adam(), "mse")
        self.model.optimizer.build(self.model.trainable_variables)

    def build(self, hp):
        for i in range(10):
            hp.Float(f"x{i}", 0.0, 1.0)
        return self.model

    def fit(self, hp, model, callbacks, **_):
        told = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=self.epochs)
        told.on_train_begin()
        for epoch in range(self.epochs):
            told.on_epoch_begin(epoch)
            told.on_train_batch_begin(0)
            told.on_train_batch_end(0)
            told.on_epoch_end(epoch, {"loss": 1.0, "val_loss": hp.get("x0") + 1 / (epoch + 1)})
        told.on_train_end()
        return model.history


class Timed(Tuner):
    """Takes off what the suggestions and Keras' own clearing between two models cost."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.off = [0.0, 0.0]
        ask = self.oracle.populate_space
        self.oracle.populate_space = lambda trial_id: self.without(ask, trial_id)

    def without(self, function, *args):
        before = time.process_time(), time.monotonic()
        result = function(*args)
        self.off = [off + now - then for off, now, then in zip(self.off, (time.process_time(), time.monotonic()), before)]
        return result

    def _build(self, hp):
        return self.without(super()._build, hp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--storage")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        hypermodel, done, before = Nothing(arguments.epochs), 0, (0.0, 0.0)
        print(f"{'trials':>12}{'CPU ms a trial':>18}{'wall ms a trial':>18}{'store kB a trial':>18}")
        for trials in sorted({10, 100, arguments.trials}):
            tuner = Timed(
                hypermodel, "val_loss", "random", max_trials=trials, seed=0, directory=folder, project_name="overhead", storage=arguments.storage, lease=600.0
            )
            tuner.off, before = [0.0, 0.0], (time.process_time(), time.monotonic())
            tuner.search(verbose=0)
            cpu, wall = (now - then - off for now, then, off in zip((time.process_time(), time.monotonic()), before, tuner.off))
            file = Path(folder, "overhead", store.FILE)
            size = f"{file.stat().st_size / 1000 / trials:18.2f}" if file.exists() else ""
            print(f"{f'{done + 1} to {trials}':>12}{1000 * cpu / (trials - done):18.1f}{1000 * wall / (trials - done):18.1f}{size}", flush=True)
            done = trials


if __name__ == "__main__":
    main()
