"""A second, measuring train function, and the switch that calls it on sampled steps.

Nothing is added to the model: no variable, no metric, no log entry. The plain train function is neither changed nor traced again. On TensorFlow and PyTorch the
measuring one takes its place for that step and returns its numbers beside the step's logs. On JAX it only looks, and the plain one trains: XLA rounds another
program in another way, so a step taken by another program would not be bit for bit the same.
"""

import contextlib
import threading
from collections import namedtuple
from functools import partial
from itertools import islice
from types import GeneratorType

import keras
import numpy as np
from keras import ops

from keras_optlab.training import keras_seams as seams
from keras_optlab.training.facts import describe
from keras_optlab.training.optimizer_facts import innermost

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "torch":
    import torch
else:
    import jax

STATISTICS = 5  # per weight: gradient norm (-1: no gradient), weight norm, update norm, share of zeros, share of non-finite entries
INSIDE = "the training step calls the optimizer inside a function that is compiled by itself, or in one branch of a condition"
TWIN = "_keras_optlab_measuring"
FOLDED = ("Add", "AddN", "AddV2", "Cast", "Identity", "Mul", "Neg", "RealDiv", "Reshape", "Sub")  # TensorFlow's operations that it folds into others
Measured = namedtuple("Measured", "logs sample")
_caught = threading.local()  # MirroredStrategy traces each replica in a thread of its own


class Sample:
    """What one measured step told, still on the device.

    Args:
        weights: facts of the weight of each `STATISTICS` numbers.
        row: float32 vector, `STATISTICS` numbers a weight and the learning rate at the end.
        counts: the optimizer's real updates before and after the step.
        logs: the step's logs.
        batch: what the step was trained on, as `train_step` gets it; `None` under a strategy.
    """

    def __init__(self, weights, row, counts, logs, batch=None):
        self.weights, self.row, self.counts, self.logs, self.batch = weights, row, counts, logs, batch

    def read(self):
        """Waits for the device. Returns (weights x `STATISTICS` array, learning rate, updates before, updates after)."""
        row = ops.convert_to_numpy(self.row).astype("float64").reshape(-1)
        before, after = (int(n) for n in ops.convert_to_numpy(self.counts).reshape(-1))
        return row[:-1].reshape(-1, STATISTICS), float(row[-1]), before, after


class Switch:
    """Stands in for `model.train_function` during one fit.

    A listener has `wants(call) -> bool`, `call` counting from the start of the fit, and `receive(call, sample)`.
    """

    def __init__(self, model):
        self.model, self.plain, self.measuring = model, model.train_function, measuring_function(model)
        self.fit, self.calls, self.listeners, self.logs = getattr(model, "history", None), 0, [], None

    @property
    def stale(self) -> bool:
        """Whether it was left behind by a fit that raised: each fit gives its model a new History."""
        return getattr(self.model, "history", None) is not self.fit

    def __call__(self, *args):
        call, self.calls = self.calls, self.calls + 1
        if self.stale:
            self.remove()
        wanting = [] if self.stale else [listener for listener in self.listeners if listener.wants(call)]
        if wanting:
            out, sample = self.measuring(*args)
        else:
            out, sample = self.plain(*args), None
        self.logs = out[0] if BACKEND == "jax" else out
        if sample:
            row, counts, *batch = sample
            sample = Sample(self.measuring.facts(), row, counts, self.logs, *batch)
            for listener in wanting:
                listener.receive(call, sample)
        return out

    def epoch_logs(self, logs):
        """Like Keras' own, with what the listeners add to the logs of the training epoch that just ended."""
        result = getattr(type(self.model), seams.EPOCH_LOGS)(self.model, logs)
        if logs is not self.logs or logs is None or self.stale:  # an evaluation
            return result
        added = {name: value for listener in self.listeners for name, value in listener.epoch_logs().items()}
        return {**result, **added}

    def install(self):
        self.model.train_function = self
        if hasattr(type(self.model), seams.EPOCH_LOGS):
            vars(self.model)[seams.EPOCH_LOGS] = self.epoch_logs

    def remove(self):
        if self.model.train_function is self:  # `compile` may have dropped it
            self.model.train_function = self.plain
        vars(self.model).pop(seams.EPOCH_LOGS, None)


def cleaned(values: np.ndarray) -> np.ndarray:
    """The numbers of `Sample.read` as a record has them: NaN for what is not there, infinity for a norm that is not finite."""
    missing = values[:, 0] < 0
    values = np.where(np.isfinite(values), values, [np.inf, np.inf, np.inf, np.nan, 1.0])
    values[missing, 0], values[missing, 3:] = np.nan, np.nan
    return values


def listen(model, listener) -> Switch | None:
    """Lets `listener` receive samples of the model's training steps until it leaves. None if there is nothing to measure yet."""
    if not model.compiled or model.optimizer is None:
        return None
    switch = model.train_function
    if isinstance(switch, Switch) and switch.stale:
        switch.remove()
        switch = None
    if not isinstance(switch, Switch):
        model.make_train_function()
        switch = Switch(model)
        switch.install()
    if listener not in switch.listeners:
        switch.listeners.append(listener)
    return switch


def leave(switch: Switch, listener) -> None:
    switch.listeners = [other for other in switch.listeners if other is not listener]
    if not switch.listeners:
        switch.remove()


def renew(model) -> None:
    """Makes the train function anew in the middle of a fit, for what is a constant in it, such as a norm to clip to; who listens goes on listening."""
    switch, step = model.train_function, model.train_step
    with _swapped(model, train_step=lambda *arguments: step(*arguments)):  # JAX knows what it has compiled by the function, and would find the old one
        model.make_train_function(force=True)
    if isinstance(switch, Switch):
        switch.plain, switch.measuring = model.train_function, measuring_function(model)
        switch.install()


def measuring_function(model):
    """The measuring twin of the model's train function, made once for each."""
    twin = vars(model).get(TWIN)
    if twin is None or twin.plain is not model.train_function:
        twin = vars(model)[TWIN] = _Measuring(model)
    return twin


class _Measuring:
    """Takes what the plain train function takes. Returns what it returns, and the sample: row and counts, empty where the step did not call the optimizer.

    Attributes:
        failure: why a step cannot be measured, `None` where it can. Then the plain function goes on alone.
    """

    def __init__(self, model):
        self.model, self.plain, self.own = model, model.train_function, model.train_step
        if inner := getattr(type(model).train_step, "python_function", None):  # a tf.function, of which nothing could be taken out
            self.own = partial(inner, model)
        self.weights, self.described, self.failure = [], None, None
        if BACKEND == "jax":
            self.function = jax.jit(self.look) if model.jit_compile and not model.run_eagerly else self.look
            return
        try:
            with _swapped(model, train_step=self.train_step):
                model.make_train_function(force=True)
            self.function = model.train_function
        finally:
            model.train_function = self.plain

    def train_step(self, data):
        _caught.sample, _caught.graph = (), _graph()
        logs = self.own(data)
        measured, _caught.sample = Measured(logs, (*_caught.sample, data) if _caught.sample and self.alone() else _caught.sample), None
        return measured

    def alone(self) -> bool:
        """Whether a batch is on one device."""
        return not (BACKEND == "tensorflow" and tf.distribute.has_strategy())

    def look(self, state, data):
        _caught.sample = ()
        self.own(state, data)
        sample, _caught.sample = _caught.sample, None
        return sample

    def __call__(self, *args):
        if self.failure:
            return self.plain(*args), ()
        return self.beside(*args) if BACKEND == "jax" else self.instead(*args)

    def instead(self, *args):
        optimizer = self.model.optimizer
        step = {"train_step": self.train_step} if BACKEND == "torch" else {}  # PyTorch's train function looks the step up at each call
        given = [*args[0]] if isinstance(args[0], GeneratorType) else None  # of `train_on_batch`, which a step that fails would have used up
        arguments = lambda: args if given is None else (iter(given),)
        with _swapped(optimizer, apply=partial(self.apply, optimizer.apply)), _swapped(self.model, **step):
            try:
                out = self.function(*arguments())
            except Exception as error:
                if not _came_of_tracing(error, self.model):
                    raise
                self.failure, out = f"{type(error).__name__}: {error}"[:300], None
        if out is None:
            return self.plain(*arguments()), ()
        return out if isinstance(out, Measured) else Measured(out, ())  # a train function of the user's that does not call `train_step`

    def beside(self, state, iterator):
        *before, last = [*islice(iterator, self.model.steps_per_execution)] or [None]
        if last is None:
            return self.plain(state, iterator), ()  # raises what it raises at the end of the data
        if before:
            _, state = self.plain(state, iter(before))
        optimizer = self.model.optimizer
        with _swapped(optimizer, stateless_apply=partial(self.stateless_apply, optimizer.stateless_apply)):
            try:
                sample = self.function(state, last)
            except Exception as error:  # if the step itself is at fault, the plain one raises it again
                sample, self.failure = (), f"{type(error).__name__}: {error}"[:300]
        if any(isinstance(one, jax.core.Tracer) for one in sample):
            sample, self.failure = (), INSIDE
        return self.plain(state, iter([last])), (*sample, last) if sample else sample

    def facts(self) -> list[dict]:
        self.described = self.described or describe(self.model, self.weights)
        return self.described

    def apply(self, apply, grads, trainable_variables=None):
        optimizer = self.model.optimizer
        if getattr(_caught, "sample", None) != ():  # the optimizer is called a second time, or outside the step
            return apply(grads, trainable_variables)
        if _caught.graph is not _graph():  # whose tensors do not get out
            self.failure = INSIDE
            return apply(grads, trainable_variables)
        grads = list(grads)
        weights = list(seams.trainable_variables(optimizer) if trainable_variables is None else trainable_variables)
        with _without_gradients():
            old, before, rate = [_copy(w) for w in weights], _count(optimizer), _rate(optimizer)
            G = true_gradients(optimizer, grads, weights)
        _caught.sample = None
        out = apply(grads, trainable_variables)
        with _without_gradients():
            self.keep(weights, G, old, [_copy(w) for w in weights], rate, before, _count(optimizer))
        return out

    def stateless_apply(self, stateless_apply, optimizer_variables, grads, trainable_variables):
        optimizer = self.model.optimizer
        with keras.StatelessScope(list(zip(optimizer.variables, optimizer_variables))):
            before, rate = _count(optimizer), _rate(optimizer)
            G = true_gradients(optimizer, list(grads), seams.trainable_variables(optimizer))
        new, new_optimizer_variables = stateless_apply(optimizer_variables, grads, trainable_variables)
        with keras.StatelessScope(list(zip(optimizer.variables, new_optimizer_variables))):
            after = _count(optimizer)
        self.keep(seams.trainable_variables(optimizer), G, trainable_variables, new, rate, before, after)
        return new, new_optimizer_variables

    def keep(self, weights, G, old, new, rate, before, after):
        self.weights, self.described = weights, None
        _caught.sample = (_statistics(G, old, new, rate), ops.reshape(ops.stack([before, after]), (1, 2)))


def _graph():
    return tf.compat.v1.get_default_graph() if BACKEND == "tensorflow" else None


def _came_of_tracing(error: Exception, model) -> bool:
    """Whether an error came before anything was computed, so that the plain function can be called: if the step itself is at fault, it raises it again."""
    return BACKEND == "tensorflow" and not model.run_eagerly and not isinstance(error, tf.errors.OpError)


@contextlib.contextmanager
def _swapped(thing, **members):
    """Shadows methods on the instance. Straight in its dictionary, past the attribute tracking of Keras and PyTorch."""
    kept = {name: vars(thing)[name] for name in members if name in vars(thing)}
    vars(thing).update(members)
    try:
        yield
    finally:
        for name in members:
            vars(thing).pop(name, None)
        vars(thing).update(kept)


def true_gradients(optimizer, grads, weights) -> list:
    """What the optimizer sees: dense, summed over replicas, without loss scale, averaged over the accumulated micro-batches so far."""
    grads = _reduced([None if g is None else _dense(g, w) for g, w in zip(grads, weights)])
    inner = innermost(optimizer)
    scale = ops.convert_to_tensor(optimizer.dynamic_scale) if hasattr(optimizer, "dynamic_scale") else inner.loss_scale_factor
    if scale is not None:
        grads = [None if g is None else g / scale for g in grads]
    n, sums = inner.gradient_accumulation_steps, _sums(inner)
    if n and sums:
        known = {id(w): s for w, s in zip(seams.trainable_variables(inner), sums)}
        grads = [g if g is None or known.get(id(w)) is None else (g + ops.cast(known[id(w)], "float32")) / n for g, w in zip(grads, weights)]
    return grads


def _sums(optimizer) -> list | None:
    state = getattr(optimizer, "state", None)  # a FormulaOptimizer's, by index
    if sums := getattr(state, "sums", None):
        return [sums.get(i) for i in range(len(seams.trainable_variables(optimizer)))]
    return seams.gradient_sums(optimizer)


def _statistics(G, old, new, rate):
    """(1, n) float32: `STATISTICS` numbers a weight and the rate. The leading axis is one that a strategy may average over. As few operations as can be."""
    given = [g for g in G if g is not None]
    where = [sum(g is not None for g in G[:i]) if g is not None else len(given) for i, g in enumerate(G)]
    spread = lambda x, missing: ops.take(ops.concatenate([x, ops.full((1,), missing, "float32")]), where)
    old, new = ([ops.cast(w, "float32") for w in weights] for weights in (old, new))
    gradient, weight, update = _norms(given), _norms(old), _norms([b - a for a, b in zip(old, new)])
    finite = ops.isfinite(ops.sum(gradient) + ops.sum(weight) + ops.sum(update))
    lost = lambda: ops.stack([1 - ops.mean(ops.cast(ops.isfinite(g), "float32")) for g in given])
    columns = [spread(gradient, -1), weight, update, spread(_zero_shares(given), 1), spread(ops.cond(finite, lambda: gradient * 0, lost), 0)]
    return ops.concatenate([ops.reshape(ops.stack(columns, axis=1), (1, -1)), ops.reshape(rate, (1, 1))], axis=1)


def _norms(X):
    if BACKEND == "tensorflow":
        return tf.sqrt(2 * tf.stack([tf.nn.l2_loss(x) for x in X]))  # one pass, no temporary
    return torch.stack([torch.linalg.vector_norm(x) for x in X]) if BACKEND == "torch" else ops.sqrt(ops.stack([ops.sum(x * x) for x in X]))


def _zero_shares(G):
    if BACKEND == "tensorflow":
        return 1 - 2 * tf.stack([tf.nn.l2_loss(tf.sign(g)) for g in G]) / tf.cast(tf.stack([tf.size(g) for g in G]), "float32")
    return ops.stack([ops.mean(ops.cast(ops.equal(g, 0), "float32")) for g in G])


def _dense(g, weight):
    """float32, duplicate rows of a sparse gradient summed."""
    if BACKEND == "tensorflow" and isinstance(g, tf.IndexedSlices):
        g = tf.math.unsorted_segment_sum(_apart(g.values), g.indices, weight.shape[0])
    return ops.cast(_apart(g) if BACKEND == "tensorflow" else g, "float32")


def _apart(g, depth=8):
    """The same number by operations of its own, where it is made of others that TensorFlow would fold into the optimizer's.

    TensorFlow reorders products and sums in a graph as long as nothing else reads what is between them, so that a gradient which is measured as well would
    be rounded in another way than one which is not. Equal operations are made one again unless their attributes differ.
    """
    if not (depth and tf.is_symbolic_tensor(g) and g.op.type in FOLDED and g.graph is tf.compat.v1.get_default_graph()):
        return g
    attributes = {**g.op.node_def.attr, TWIN: tf.compat.v1.AttrValue(b=True)}
    made = g.graph.create_op(g.op.type, [_apart(x, depth - 1) for x in g.op.inputs], [x.dtype for x in g.op.outputs], attrs=attributes)
    return made.outputs[g.value_index]


def _reduced(grads) -> list:
    if BACKEND != "tensorflow" or not tf.distribute.has_strategy() or tf.distribute.get_replica_context() is None:
        return grads
    summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, [g for g in grads if g is not None]))
    return [None if g is None else next(summed) for g in grads]


def _copy(weight):
    """The value now: a later update in place does not show in it."""
    value = ops.convert_to_tensor(weight)
    return value.detach().clone() if BACKEND == "torch" else tf.identity(value) if BACKEND == "tensorflow" else value


def _count(optimizer):
    return ops.convert_to_tensor(optimizer.iterations) + 0


def _rate(optimizer):
    return ops.cast(ops.convert_to_tensor(optimizer.learning_rate), "float32") + 0


def _without_gradients():
    return torch.no_grad() if BACKEND == "torch" else contextlib.nullcontext()
