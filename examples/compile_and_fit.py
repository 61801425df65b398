"""Our optimizers, schedules and callbacks in a model and a `fit` that look like any other in Keras."""

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_optlab
from keras_optlab.callbacks import EarlyStopping, GradientMonitor
from keras_optlab.optimizers import Lion, Lookahead, ScheduleFreeAdamW
from keras_optlab.schedules import Cosine, Warmup
from keras_optlab.training import Attach

x, y = load_digits(return_X_y=True)
x = (x / 8 - 1).astype("float32")
train, test = (x[:1400], y[:1400]), (x[1400:], y[1400:])


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])


steps = 20 * 44  # epochs times batches
optimizers = {
    "by its name": "keras_optlab>AdamW",
    "with a schedule": Lookahead(Lion(Warmup(Cosine(1e-3, steps - 80), 80), clipnorm=1.0)),
    "without one": ScheduleFreeAdamW(2.5e-3),  # takes its gradient elsewhere than at the weights: Attach()
}
for title, optimizer in optimizers.items():
    model, monitor, stopping = build(), GradientMonitor(), EarlyStopping("val_accuracy", patience=8, restore_best_weights=True)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(*train, epochs=20, verbose=0, validation_data=test, callbacks=[Attach(), monitor, stopping]).history
    norm, best = np.mean(history["grad_norm"]), max(history["val_accuracy"])
    print(f"{title}: {best:.4f} in {len(history['loss'])} epochs, gradient norm {norm:.3f}, {len(monitor.findings)} findings")

model.save("saved_models/compile_and_fit.keras")
loaded = keras.models.load_model("saved_models/compile_and_fit.keras")  # needs `import keras_optlab`, because the optimizer is ours
print(f"keras_optlab {keras_optlab.__version__}: loaded, {loaded.evaluate(*test, verbose=0)[1]:.4f}")
