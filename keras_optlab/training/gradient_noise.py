"""How far the gradients of parts of the training data lie apart, all at the same weights: what stopping without validation data is judged by."""

import itertools

import keras
import numpy as np
from keras import ops, tree

from keras_optlab.optimizers.shell.run import read
from keras_optlab.training import data_facts, instrument
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.facts import has_own_step
from keras_optlab.training.look import restored

BACKEND = keras.backend.backend()
BATCHES, PARTS = 5, 32  # batches an epoch, as in Forouzesh & Thiran; parts into which all of them together are cut, about
ALIKE = "there are too few examples, or the loss takes no sample weights, by which they are told apart"


def gradient_disparity(gradients) -> float:
    """The mean distance between two of the gradients, given as vectors. NaN for less than two."""
    distances = [float(np.linalg.norm(one - other)) for one, other in itertools.combinations(list(gradients), 2)]
    return float(np.mean(distances)) if distances else np.nan


def eb_criterion(gradients) -> float:
    """1 - |S|/D sum_k (g_k^2 / variance_k), where g is the mean of the |S| gradients, given as vectors one after the other, and variance_k how entry k varies.

    Above 0 the mean is no larger than gradients like these, drawn around 0, would make it. The D entries are those that vary; NaN if there are none.
    """
    count, mean, scatter = 0, 0.0, 0.0
    for gradient in gradients:
        count += 1
        off = gradient - mean
        mean = mean + off / count
        scatter = scatter + off * (gradient - mean)
    varies = np.asarray(scatter) > 0
    return 1 - float(np.mean(count * (count - 1) * mean[varies] ** 2 / scatter[varies])) if varies.any() else np.nan


class GradientNoise:
    """Takes the gradients of `BATCHES` batches at the end of each epoch of a `fit`, and leaves nothing behind.

    Of arrays that `fit` was given they are drawn once; of a stream they are the first ones of each epoch, which the measuring step hands out.

    Args:
        model: the model whose `fit` has begun.
        names: what to tell: "gradient_disparity", "eb_criterion".
    """

    def __init__(self, model, names):
        self.model, self.names, self.batches, self.given = model, names, [], seams.fit_arguments(model)
        x = self.given and self.given["x"]
        if x is None or data_facts.is_stream(x) or data_facts.is_spent_by_reading(x) or self.given["class_weight"]:
            self.given = None
        self.functions = {name: _compiled(model, _objective(model, name)) for name in names}
        self.switch = instrument.listen(model, self) if self.given is None else None

    def wants(self, call: int) -> bool:
        return len(self.batches) < BATCHES

    def receive(self, call: int, sample):
        self.batches.append(sample.batch)

    def epoch_logs(self) -> dict[str, float]:
        return {}  # told by the callback: not before the end of the epoch are the weights in place on all backends

    def leave(self):
        if self.switch is not None:
            instrument.leave(self.switch, self)

    def add_to(self, logs: dict) -> dict[str, str]:
        """Adds the figures of the epoch that just ended. Returns why it has none for some: a training must not end for what is only to be measured."""
        missing, reasons = [name for name in self.names if name not in logs], {}
        for name in missing:
            try:
                with restored(self.model):
                    logs[name] = self._figure(name, self._taken())
            except Exception as error:
                reasons[name] = f"{type(error).__name__}: {error}".strip().splitlines()[-1].strip()  # TensorFlow tells what it is at the end
        if self.given is None:
            self.batches = []
        return reasons

    def _taken(self) -> list:
        if has_own_step(self.model):
            raise ValueError("the model has a `train_step` of its own, whose gradient may be another one")
        if self.given is not None and not self.batches:
            self.batches = _drawn(self.given)
        if not self.batches or any(batch is None for batch in self.batches):
            raise ValueError("no batch of this stream can be had, as it is under a strategy. Give `fit` arrays")
        return self.batches

    def _figure(self, name, batches) -> float:
        examples = [len(_first(batch)) for batch in batches]
        if name == "eb_criterion":
            figure, parts = eb_criterion, _cut(batches, max(1, sum(examples) // PARTS))
        else:
            figure, parts = gradient_disparity, batches if len(batches) > 1 else _cut(batches, max(2, examples[0] // BATCHES))
        P, others = ([read(v) for v in variables] for variables in (self.model.trainable_variables, self.model.non_trainable_variables))
        gradient = lambda part: np.concatenate([ops.convert_to_numpy(g).ravel() for g in self.functions[name](P, others, part)])
        found = figure(map(gradient, parts))
        if found == 0 or np.isnan(found) and all(bool(ops.all(ops.isfinite(p))) for p in P):
            raise ValueError(ALIKE)
        return found


def _drawn(given) -> list:
    """Batches of the arrays that `fit` was given."""
    size = given["batch_size"] or 32
    x, y = data_facts.some(given["x"], given["y"], BATCHES * size)
    data = (x, y, data_facts.some(given["sample_weight"], None, BATCHES * size)[0])
    order = np.random.default_rng(0).permutation(len(_first(data)))  # they may be sorted
    tensor = lambda a: None if a is None else ops.convert_to_tensor(a[order], keras.config.floatx() if a.dtype.kind == "f" else None)
    return _cut([tree.map_structure(tensor, data)], min(size, len(order)))


def _first(batch):
    return next(leaf for leaf in tree.flatten(batch) if leaf is not None)


def _cut(batches, size: int) -> list:
    part = lambda batch, start: tree.map_structure(lambda t: None if t is None else t[start : start + size], batch)
    return [part(batch, start) for batch in batches for start in range(0, len(_first(batch)) - size + 1, size)]


def _objective(model, name):
    """(P, others, batch) -> what the gradient is taken of, with the trainable weights at P and the other variables at `others`."""

    def loss(P, others, batch, share=None):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        with keras.StatelessScope(list(zip(variables, [*P, *others])), collect_losses=True):
            y_pred = model(x, training=share is not None)
            if share is not None:
                spread = lambda dimensions: ops.reshape(share, (-1, *[1] * (dimensions - 1)))
                if weight is None:
                    weight = tree.map_structure(lambda p: spread(max(1, len(p.shape) - 1)), y_pred)  # as the losses, which have one dimension less
                else:
                    weight = tree.map_structure(lambda w: w * spread(len(w.shape)), weight)
            return model.compute_loss(x, y, y_pred, weight)

    def rescaled(P, others, batch):
        """The mean loss of the examples by its deviation over them. The share of an example is what the loss of the batch changes by with its weight."""
        count = ops.shape(_first(batch))[0]
        (losses,) = _gradient(lambda shares: loss(P, others, batch, shares[0]), [ops.ones((count,), "float32")])
        if losses is None:
            return 0 * ops.sum(P[0])  # as on JAX, where a gradient that is not there is zero
        mean = ops.mean(losses)
        deviation = ops.sqrt(ops.sum(ops.square(losses - mean)) / ops.cast(count - 1, "float32"))
        return ops.where(ops.abs(mean) > 1e-5 * deviation, mean / deviation, 0.0)  # a loss that is divided by the sum of the weights has no shares

    return loss if name == "eb_criterion" else rescaled


def _gradient(function, P) -> list:
    """Of a function of a list of tensors; `None` for what it does not depend on, zeros on JAX."""
    if BACKEND == "jax":
        import jax

        return jax.grad(function)(P)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(P)
            value = function(P)
        return tape.gradient(value, P)
    import torch

    inside = torch.is_grad_enabled()  # of a function that is itself differentiated
    with torch.enable_grad():
        P = [p.detach().requires_grad_() for p in P]
        return torch.autograd.grad(function(P), P, create_graph=inside, allow_unused=True)


def _compiled(model, objective):
    """(P, others, batch) -> the gradients, float32."""

    def gradients(P, others, batch):  # joined on the host: XLA would compute the products of matrices inside a concatenation, fifty times slower
        return [ops.cast(ops.convert_to_tensor(g), "float32") for g in _gradient(lambda P: objective(P, others, batch), P) if g is not None]

    if BACKEND == "torch":
        import torch

        return torch.no_grad()(gradients)
    if model.run_eagerly:
        return gradients
    if BACKEND == "jax":
        import jax

        return jax.jit(gradients)
    import tensorflow as tf

    return tf.function(gradients, reduce_retracing=True)
