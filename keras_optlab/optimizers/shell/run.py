"""How the one pipeline runs on each backend: the only functions of the shell that know one."""

import contextlib
import math

import keras
from keras import ops

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch

# AutoGraph would otherwise rewrite the whole shell when a user's own @tf.function calls `apply`.
not_converted = tf.autograph.experimental.do_not_convert if BACKEND == "tensorflow" else lambda fn: fn


def outside_graph():
    """Where variables are created, also in the middle of a tf.function."""
    return tf.init_scope() if BACKEND == "tensorflow" else contextlib.nullcontext()


def without_gradients():
    return torch.no_grad() if BACKEND == "torch" else contextlib.nullcontext()


def read(variable):
    """The variable's value now. Keras' `convert_to_tensor` returns the variable itself on TensorFlow, which a later `assign` changes."""
    if BACKEND == "tensorflow":
        return tf.convert_to_tensor(variable.value if isinstance(variable, keras.Variable) else variable)
    value = variable.value
    return value.clone() if BACKEND == "torch" and not value.ndim else value  # scalars are assigned before their last use


def dense(g, v):
    """The gradient of v as a float32 tensor of its shape; of IndexedSlices (Embedding) duplicate rows are summed. None if the shape is another one."""
    if BACKEND == "tensorflow":
        g = tf.cast(tf.convert_to_tensor(g), tf.float32)
        if not g.shape.is_compatible_with(v.shape):
            return None
        g.set_shape(v.shape)
        return g
    g = g.float() if BACKEND == "torch" and isinstance(g, torch.Tensor) else ops.cast(g, "float32")
    return g if tuple(g.shape) == tuple(v.shape) else None


def assign(variables, new) -> None:
    """Assigns all at once. On PyTorch a new value may be another variable itself, as in `{"older": s["newer"]}`, and is copied before that one changes."""
    if BACKEND == "torch":
        held = {v.value.data_ptr() for v in variables}
        new = [x.clone() if x.data_ptr() in held and x.data_ptr() != v.value.data_ptr() else x for v, x in zip(variables, new)]
    for v, x in zip(variables, new):
        v.assign(x)


def on_each_replica(body, grads, anchor) -> None:
    """Calls body(*reduced gradients) once per device, where a mirrored variable reads and assigns its local copy: `cond` is allowed in there."""
    if BACKEND != "tensorflow" or not tf.distribute.has_strategy():
        body(*grads)
        return
    replica = tf.distribute.get_replica_context()
    if replica is None:
        raise ValueError(
            "`apply` must be called in a replica context: wrap the training step in `strategy.run(...)`. Received: a call in the cross-replica context."
        )
    grads = replica.all_reduce(tf.distribute.ReduceOp.SUM, grads)
    replica.merge_call(lambda strategy, *g: strategy.extended.update(anchor.value, lambda _, *g: body(*g), args=g, group=False), args=tuple(grads))


def compiles() -> bool:
    """Whether parts of an update are worth an XLA cluster of their own: only on TensorFlow's plain graph path."""
    return BACKEND == "tensorflow" and not (tf.executing_eagerly() or tf.config.functions_run_eagerly() or tf.distribute.has_strategy())


def stacks() -> bool:
    """Whether small weights are better moved as one stack: where each operation on each weight is a call, or a node of a graph."""
    return BACKEND == "torch" or compiles()


def compiled(fn) -> None:
    """Runs fn as one XLA cluster; the variables it assigns are updated in place."""
    tf.function(lambda: [fn(), None][1], jit_compile=True, autograph=False)()


def weight_first(new: list) -> list:
    """Makes XLA finish the weight before it begins its slots: it copies a slot that both read, because it does not choose an order itself."""
    p, *slots = new
    never = ops.where(ops.reshape(p, (-1,))[0] > math.inf, 1.0, 0.0)
    return [p, *[x + ops.cast(never, x.dtype) for x in slots]]


def branch(pred, true, false, variables) -> None:
    """`cond` for functions that assign variables and return nothing. On JAX every variable that a side reads or assigns must be listed."""
    if BACKEND == "jax":

        def pure(fn):
            def go(values):
                with keras.StatelessScope(list(zip(variables, values))) as scope:
                    fn()
                return [scope.get_current_value(v) for v in variables]

            return go

        for v, value in zip(variables, jax.lax.cond(pred, pure(true), pure(false), [v.value for v in variables])):
            v.assign(value)
    elif BACKEND == "tensorflow" and not tf.executing_eagerly():
        tf.cond(pred, lambda: [true(), tf.constant(0)][1], lambda: [false(), tf.constant(0)][1])
    else:
        true() if bool(pred) else false()


def stacked(fn, G: list, owned: list[list]) -> bool:
    """Assigns fn(g, *values) to the variables of each weight, for all weights at once. False where the backend cannot vectorize fn."""
    columns = [[v.value for v in column] if BACKEND == "torch" else [read(v) for v in column] for column in zip(*owned)]
    try:
        new = vectorized(fn, [G, *columns])
    except Exception:  # of whatever kind: a fault of the formula's own comes again when the weights move one by one
        return False
    if new is None:
        return False
    for column, variables, x in zip(columns, zip(*owned), new):
        if BACKEND == "torch":
            torch._foreach_copy_(column, x.unbind())
        else:
            for v, value in zip(variables, tf.unstack(x)):
                v.assign(value)
    return True


def vectorized(fn, rows: list[list]):
    if BACKEND == "torch":
        return torch.vmap(fn)(*map(torch.stack, rows))
    first = [tf.TensorSpec(row[0].shape, row[0].dtype) for row in rows]
    operations = tf.function(fn, autograph=False).get_concrete_function(*first).graph.get_operations()
    if any(word in op.type for op in operations for word in ("While", "If", "Case")):
        return None  # vectorized, it would have shapes that XLA refuses if the user compiles the whole step
    return tf.vectorized_map(lambda values: fn(*values), [tf.stack(row) for row in rows], fallback_to_while_loop=False)
