"""Population based training beside searches without copying, at the same number of epochs, on the scans of digits that scikit-learn brings.

    python benchmarks/search_population.py [--seeds 5] [--population 8] [--rounds 6] [--epochs-per-round 2] [--methods population,random,qmc]

A small dense network, trained with SGD and momentum on 400 digits; 400 others choose, the remaining 997 test. The other samplers train `population`
configurations for `rounds` x `epochs_per_round` epochs each; those of "qmc" are the ones with which the population begins. A line of JSON per run; in the end
the means with their standard errors, and the differences by pairs of a seed.
"""

import argparse
import gc
import json
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_optlab.search import PopulationBasedTuner, Tuner


def build(hp) -> keras.Model:
    rate = hp.Float("learning_rate", 1e-4, 1.0, sampling="log")
    decay, momentum = hp.Float("weight_decay", 1e-5, 1e-1, sampling="log"), hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")
    dropout, noise = hp.Float("dropout", 0.0, 0.6), hp.Float("noise", 0.0, 0.5)
    layers = [keras.Input((64,)), keras.layers.GaussianNoise(noise), keras.layers.Dense(64, "relu"), keras.layers.Dropout(dropout), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate, momentum, weight_decay=decay), loss, metrics=["accuracy"], jit_compile=False)
    return model


def run(method: str, seed: int, options: argparse.Namespace, folder: str) -> dict:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order].astype("float32") / 16, y[order]
    common = {"seed": seed, "directory": folder, "project_name": f"{method}_{seed}"}
    keras.utils.set_random_seed(seed)
    fit = {"validation_data": (x[400:800], y[400:800]), "batch_size": 100, "verbose": 0}
    if method == "population":
        sizes = {"population": options.population, "rounds": options.rounds, "epochs_per_round": options.epochs_per_round}
        tuner = PopulationBasedTuner(build, options.objective, **sizes, **common)
    else:
        tuner = Tuner(build, options.objective, method, max_trials=options.population, **common)
        fit["epochs"] = options.rounds * options.epochs_per_round
    begun = time.monotonic()
    tuner.search(x[:400], y[:400], **fit)
    best = tuner.oracle.get_best_trials(1)[0]
    loss, accuracy = tuner.get_best_models()[0].evaluate(x[800:], y[800:], verbose=0)
    found = {"method": method, "seed": seed, options.objective: best.score, "test_loss": loss, "test_accuracy": accuracy}
    return found | {"seconds": round(time.monotonic() - begun, 1)} | ({"schedule": tuner.schedule()} if method == "population" else {})


def main() -> None:
    gc.freeze()  # Keras collects garbage before every model
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs-per-round", type=int, default=2)
    parser.add_argument("--objective", default="val_loss")
    parser.add_argument("--methods", default="population,random,qmc")
    options = parser.parse_args()
    found: dict[str, list[dict]] = {method: [] for method in options.methods.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for method in found:
                found[method].append(run(method, seed, options, folder))
                print(json.dumps(found[method][-1]), flush=True)
    for name in (options.objective, "test_loss", "test_accuracy"):
        values = {method: np.array([result[name] for result in results]) for method, results in found.items()}
        for method, one in values.items():
            error = one.std(ddof=1) / len(one) ** 0.5 if len(one) > 1 else float("nan")
            difference = values["population"] - one if method != "population" and "population" in values else None
            paired = f", population minus it {difference.mean():+.4f} +- {difference.std(ddof=1) / len(one) ** 0.5:.4f}" if difference is not None else ""
            print(f"{name} {method}: {one.mean():.4f} +- {error:.4f}{paired}")


if __name__ == "__main__":
    main()
