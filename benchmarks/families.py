"""What each family of `ImageClassifier` reaches at its defaults, and how long it takes.

    python benchmarks/families.py [--data digits,FILE.npz] [--families conv,vit] [--rates 0.001,0.003] [--seeds 1] [--epochs 5]

Prints for each set, family and peak rate the accuracy on the test part, the epochs, CPU milliseconds per training image, and the operations per CPU second
behind `SLOWNESS` of each family and `usual_speed`.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner

from keras_optlab import data
from keras_optlab.search import ImageClassifier
from keras_optlab.search.families import FAMILIES


class Clock(keras.callbacks.Callback):
    """CPU seconds of each epoch, the first one with its tracing apart."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.process_time() - self.started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--rates", default="")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    print(f"{'data':22}{'family':10}{'rate':>7}{'seed':>5}{'test':>8}{'epochs':>8}{'width':>7}{'CPU ms / image':>16}{'operations / CPU s':>20}")
    for source in arguments.data.split(","):
        images = data.load(source)
        size = sum(images.counts["train"])
        for family in arguments.families.split(","):
            for rate in arguments.rates.split(","):
                for seed in range(arguments.seeds):
                    keras.utils.set_random_seed(seed)
                    hypermodel = ImageClassifier(images.image_shape, len(images.class_names), size, families=(family,), epochs=arguments.epochs)
                    hp, clock = keras_tuner.HyperParameters(), Clock()
                    hp.values = {"adamw/learning_rate": float(rate)} if rate else {}
                    model = hypermodel.build(hp)
                    hypermodel.fit(hp, model, images, callbacks=[clock], verbose=0)
                    accuracy = model.evaluate(images.batches("test", 256), verbose=0)[1]
                    seconds, width = statistics.median(clock.seconds[1:]) / size, hp.get(f"{family}/width")
                    operations = 6 * FAMILIES[family].operations(images.image_shape[:2], width, hp.get(f"{family}/depth"))
                    print(
                        f"{images.name:22}{family:10}{rate or 'usual':>7}{seed:5d}{accuracy:8.3f}{hp.get('epochs'):8d}{width:7d}"
                        f"{1000 * seconds:16.3f}{operations / seconds:20.2e}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
