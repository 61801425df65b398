"""A train step that gives an optimizer the gradients it asks for, at any point, on one batch with one set of seeds. The weights never move."""

import types

import keras
from keras import ops, tree

from keras_optlab.training.optimizer_facts import innermost

BACKEND = keras.backend.backend()


def attach(model) -> None:
    """Lets `fit` train a model whose optimizer takes its gradient elsewhere than at the weights (schedule-free, SAM).

    Call it after `model.compile`. It changes this model object only: files stay plain, so attach again after loading. With any other optimizer it
    does nothing.

    Args:
        model: a compiled `keras.Model` without a `train_step` of its own.

    Raises:
        ValueError: for a model that is not compiled or has its own `train_step`.

    Example:
        >>> model.compile(keras_optlab.optimizers.ScheduleFreeAdamW(2.5e-3), "sparse_categorical_crossentropy")
        >>> keras_optlab.training.attach(model)
    """
    if getattr(model, "optimizer", None) is None:
        raise ValueError("`attach(model)` needs a compiled model: call `model.compile(optimizer=...)` first. Received: a model without an optimizer")
    if not needs_attach(model):
        return
    own = model.__dict__.get("train_step", type(model).train_step)
    if getattr(own, "__func__", own) not in (keras.Model.train_step, STEP):
        raise ValueError(
            f"`attach(model)` would replace the model's own `train_step`. Received: {type(model).__name__}. Take the gradient in it yourself: "
            "`optimizer.take_gradient(grad)`, where `grad(P)` returns the gradients with the weights at P; then set `optimizer.attached = True`."
        )
    model.train_step = types.MethodType(STEP, model)
    model.train_function = None
    innermost(model.optimizer).attached = True


class Attach(keras.callbacks.Callback):
    """`attach(model)` as a callback: `model.fit(..., callbacks=[Attach()])`."""

    def set_model(self, model):
        super().set_model(model)
        attach(model)


def needs_attach(model) -> bool:
    return getattr(innermost(model.optimizer), "needs_attach", False)


def as_weights(weights, P):
    return [ops.cast(p, v.dtype) for p, v in zip(P, weights)]


def as_gradients(G, P):
    """float32; zero where the loss does not depend on a weight, because formulas count on tensors."""
    return [ops.zeros(p.shape, "float32") if g is None else ops.cast(g, "float32") for g, p in zip(G, P)]


def update_loss(model, loss, x) -> None:
    tracker = next(m for m in model.metrics if m.name == "loss")
    tracker.update_state(loss, sample_weight=ops.shape(next(i for i in tree.flatten(x) if i is not None))[0])


class Stateful:
    """One batch on TensorFlow or PyTorch, evaluated as often as wanted in a stateless scope. The first evaluation's loss, predictions and state count."""

    def __init__(self, model, data):
        self.model, self.batch, self.first = model, keras.utils.unpack_x_y_sample_weight(data), None
        self.optimizer = innermost(model.optimizer)
        if not self.optimizer.built:
            model(self.batch[0], training=False)  # layers that are built by their first call
        self.weights, self.resting = self.optimizer.weights_of(model.trainable_variables)
        moved = {id(v) for v in self.weights}  # a frozen one is among the non-trainable variables too
        self.other = [v for v in model.non_trainable_variables if id(v) not in moved]

    def loss_at(self, P):
        x, y, weight = self.batch
        with keras.StatelessScope(list(zip(self.weights, P)), collect_losses=True) as scope:
            y_pred = self.model(x, training=True)
            loss = self.model.compute_loss(x, y, y_pred, weight, training=True)
            scaled = self.model.optimizer.scale_loss(loss)
        # the losses of several outputs are metrics, which the first loss creates
        return loss, scaled, y_pred, [(v, scope.get_current_value(v)) for v in [*self.other, *self.model.metrics_variables]]

    def keep(self, loss, y_pred, state, G):
        if self.first is None:
            self.first = loss, y_pred, state
            self.resting += [i for i, g in enumerate(G) if g is None and i not in self.resting]

    def apply(self, G, replicas=1):
        for v, value in self.first[2]:
            if value is not None:
                v.assign(value)
        trainable = {id(v) for v in self.model.trainable_variables}
        moving = [(None if i in self.resting else g / replicas, v) for i, (g, v) in enumerate(zip(G, self.weights)) if id(v) in trainable]
        self.model.optimizer.apply(*zip(*moving))

    def metrics(self, replicas=1):
        x, y, weight = self.batch
        update_loss(self.model, self.first[0] * replicas, x)
        return self.model.compute_metrics(x, y, self.first[1], weight)


def step_tensorflow(model, data):
    import tensorflow as tf

    if not needs_attach(model):  # compiled anew with another optimizer
        return type(model).train_step(model, data)
    batch, replicas = Stateful(model, data), tf.distribute.get_strategy().num_replicas_in_sync

    def grad(P):
        P = as_weights(batch.weights, P)
        with tf.GradientTape() as tape:
            tape.watch(P)
            loss, scaled, y_pred, state = batch.loss_at(P)
        G = tape.gradient(scaled, P)
        batch.keep(loss, y_pred, state, G)
        G = as_gradients([None if g is None else tf.convert_to_tensor(g) for g in G], P)
        # SAM climbs along the gradient of the whole batch, not of a replica's part
        return G if replicas == 1 else tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, G)

    batch.apply(batch.optimizer.take_gradient(grad), replicas)
    return batch.metrics(replicas)


def step_torch(model, data):
    import torch

    if not needs_attach(model):
        return type(model).train_step(model, data)
    with torch.no_grad():
        batch = Stateful(model, data)

    def grad(P):
        with torch.enable_grad():
            P = [p.detach().requires_grad_() for p in as_weights(batch.weights, P)]
            loss, scaled, y_pred, state = batch.loss_at(P)
            G = torch.autograd.grad(scaled, P, allow_unused=True)
        batch.keep(loss.detach(), y_pred, state, G)
        return as_gradients(G, P)

    with torch.no_grad():
        batch.apply(batch.optimizer.take_gradient(grad))
    return batch.metrics()


def step_jax(model, state, data):
    import jax

    if not needs_attach(model):
        return type(model).train_step(model, state, data)
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    tv, ntv, ov, mv = state
    first, optimizer = [], innermost(model.optimizer)
    weights, resting = optimizer.weights_of(model.trainable_variables)
    if resting:
        raise optimizer.not_built_with(f"{len(tv)}, but with {len(weights)}")

    def grad(P):
        loss_at = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
        (_, aux), G = loss_at(as_weights(model.trainable_variables, P), ntv, mv, x, y, weight, training=True, optimizer_variables=ov)
        first.append(aux)
        return as_gradients(G, P)

    with keras.StatelessScope([*zip(model.trainable_variables, tv), *zip(model.optimizer.variables, ov)]):
        G = optimizer.take_gradient(grad)
    loss, y_pred, ntv, mv = first[0]
    tv, ov = model.optimizer.stateless_apply(ov, G, tv)
    with keras.StatelessScope(list(zip(model.metrics_variables, mv))) as scope:
        update_loss(model, loss, x)
        logs = model.compute_metrics(x, y, y_pred, weight)
    mv = [v.value if (new := scope.get_current_value(v)) is None else new for v in model.metrics_variables]
    return logs, (tv, ntv, ov, mv)


STEP = {"tensorflow": step_tensorflow, "jax": step_jax, "torch": step_torch}[BACKEND]
