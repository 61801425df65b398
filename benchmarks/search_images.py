"""Searches on real images with the same minutes and the same hypermodel: `gp` with `asha`, and KerasTuner's Bayesian search and Hyperband.

    taskset -c 1 python benchmarks/search_images.py [--minutes 10] [--seeds 3] [--out search_images.jsonl] [--data ../shared/data/images]

6,000 images of Fashion-MNIST to train and validate with, all 10,000 to test. `ImageClassifier` with a fixed number of epochs, which Hyperband needs to know.
The clock begins with `search`; KerasTuner's tuners, which know no time limit, are stopped by a callback, and are credited with the best epoch of any
training, the unfinished one included. What is ours may return only trainings that were not stopped. Every search is a process of its own and a line of JSON;
what `--out` holds already is not run again. KerasTuner needs tensorboard for any trial.

Expected, written down before the first run: test accuracies of .88 to .91; gp + asha half a point above Hyperband and a quarter of a point above the Bayesian
search, which with two standard errors of some .3 points are ties.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

METHODS = ("gp + asha", "KerasTuner Bayesian", "KerasTuner Hyperband")
MARKS = (0.2, 0.4, 0.6, 0.8, 1.0)


def search(method: str, seed: int, minutes: float, data: Path) -> dict:
    """One search in this process."""
    import keras
    import keras_tuner
    import numpy as np
    import tensorflow as tf
    from keras_tuner.errors import FatalError

    from keras_optlab.search import ImageClassifier, Tuner

    cores = len(os.sched_getaffinity(0))
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    keras.utils.set_random_seed(seed)
    file = np.load(data / "fashion_mnist.npz", allow_pickle=False)
    order = np.random.default_rng(seed).permutation(len(file["x_train"]))[:6000]
    x, y = file["x_train"][order][..., None], file["y_train"][order]
    train, validation, test = (x[:5000], y[:5000]), (x[5000:], y[5000:]), (file["x_test"][..., None], file["y_test"])
    space = {"image_shape": x.shape[1:], "classes": 10, "train_size": len(train[0]), "minutes": minutes, "speed": 5e10 * cores}
    epochs = ImageClassifier(**space).epochs
    hypermodel = ImageClassifier(**space, epochs=epochs)

    class OverTime(FatalError):
        pass

    class Watch(keras.callbacks.Callback):
        """Notes when the best epoch so far was reached; KerasTuner's tuners copy callbacks, so what it notes belongs to the class."""

        start, trace, weights, model_of, begun = 0.0, [], None, None, 0
        limited = method != METHODS[0]

        def on_train_begin(self, logs=None):
            Watch.begun += 1

        def on_train_batch_end(self, batch, logs=None):
            if self.limited and time.monotonic() > Watch.start + 60 * minutes:
                raise OverTime("The time is over.")

        def on_epoch_end(self, epoch, logs=None):
            value = logs["val_accuracy"]
            if not Watch.trace or value >= Watch.trace[-1][1]:
                Watch.trace.append([round(time.monotonic() - Watch.start, 1), round(float(value), 4)])
                if self.limited:
                    Watch.weights, Watch.model_of = self.model.get_weights(), self.model

    with tempfile.TemporaryDirectory() as folder:
        common = {"objective": "val_accuracy", "seed": seed, "directory": folder, "project_name": "project"}
        if method == METHODS[0]:
            tuner = Tuner(hypermodel, sampler="gp", pruner="asha", max_minutes=minutes, **common)
        elif method == METHODS[1]:
            tuner = keras_tuner.BayesianOptimization(hypermodel, max_trials=10**6, max_consecutive_failed_trials=10**6, **common)
        else:
            tuner = keras_tuner.Hyperband(hypermodel, max_epochs=epochs, hyperband_iterations=10**6, max_consecutive_failed_trials=10**6, **common)
        Watch.start = time.monotonic()
        try:
            tuner.search(*train, validation_data=validation, callbacks=[Watch()], verbose=0)
        except OverTime:
            pass
        seconds = time.monotonic() - Watch.start
        if Watch.limited:
            model = Watch.model_of
            model.set_weights(Watch.weights)
        else:
            model = tuner.get_best_models()[0]
        accuracy = float(np.mean(model.predict(test[0], 512, verbose=0).argmax(1) == test[1]))
        values = dict(tuner.get_best_hyperparameters()[0].values) if tuner.get_best_hyperparameters() else None
    result = {"method": method, "seed": seed, "minutes": minutes, "epochs": epochs, "seconds": round(seconds, 1), "test_accuracy": round(accuracy, 4)}
    return result | {"trainings": Watch.begun, "trace": Watch.trace, "values": values}


def table(lines: list[dict]) -> str:
    import numpy as np

    minutes = lines[0]["minutes"]
    head = [f"validation accuracy after {minutes * mark:g}" for mark in MARKS[:-1]] + [f"after {minutes:g} minutes"]
    out = ["| search | seeds | test accuracy | trainings begun | " + " | ".join(head) + " |", "|" + "---|" * (4 + len(MARKS))]
    for method in METHODS:
        runs = [line for line in lines if line["method"] == method]
        if not runs:
            continue
        at = lambda run, mark: max((value for seconds, value in run["trace"] if seconds <= 60 * minutes * mark + 5), default=np.nan)
        accuracy = np.array([run["test_accuracy"] for run in runs])
        error = accuracy.std(ddof=1) / len(runs) ** 0.5 if len(runs) > 1 else np.nan
        cells = [f"{np.nanmean([at(run, mark) for run in runs]):.3f}" for mark in MARKS]
        begun = np.mean([run["trainings"] for run in runs])
        out.append(f"| {method} | {len(runs)} | {accuracy.mean():.4f} +- {error:.4f} | {begun:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("search_images.jsonl"))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/images")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(search(args.one[0], int(args.one[1]), args.minutes, args.data)))
        return
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["method"], line["seed"], line["minutes"]) for line in lines}
    for seed in range(args.seeds):
        for method in METHODS:
            if (method, seed, args.minutes) not in done:
                command = [sys.executable, __file__, "--minutes", str(args.minutes), "--data", str(args.data), "--one", method, str(seed)]
                found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
                with args.out.open("a") as file:
                    file.write(found + "\n")
                lines.append(json.loads(found))
                print({name: lines[-1][name] for name in ("method", "seed", "seconds", "test_accuracy", "trainings")}, flush=True)
    print(table([line for line in lines if line["minutes"] == args.minutes]))


if __name__ == "__main__":
    main()
