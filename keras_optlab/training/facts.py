"""Static facts of a model, for a record: which layer a weight belongs to, and what follows it."""

import keras

from keras_optlab.training import keras_seams as seams

FUNCTIONS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
KEEPS_UNITS = (keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.GaussianNoise)


def describe(model, weights) -> list[dict]:
    """For each weight: its path, its layer's name and kind, its shape, and the activation that each of its units goes through."""
    owner = {}
    for layer in seams.layers(model):  # parents first: the innermost layer stays
        owner |= {id(v): layer for v in layer.trainable_variables}
    readers = followers(model)
    paths = _unique([getattr(w, "path", w.name) for w in weights])
    shared = {p.split("/")[0] for p in paths}
    strip = 1 if len(shared) == 1 and min((p.count("/") for p in paths), default=0) > 1 else 0  # the model's own name
    described = []
    for w, path in zip(weights, paths):
        layer = owner.get(id(w))
        name = "/".join(path.split("/")[strip:-1]) or path
        facts = {"path": path, "layer": name, "kind": type(layer).__name__, "shape": [int(n) for n in w.shape]}
        described.append(facts | {"activation": _activation(layer, readers)})
    return described


def _unique(paths):
    return [p if paths.index(p) == i else f"{p}#{i}" for i, p in enumerate(paths)]


def followers(model) -> dict:
    """{id of a layer: the one layer that reads its output}, of the layers of a Sequential or functional model."""
    readers: dict = {}
    for layer in seams.layers(model):
        for x in keras.tree.flatten(symbolic(layer, "input")):
            readers.setdefault(id(x), []).append(layer)
    found = {}
    for layer in seams.layers(model):
        outputs = keras.tree.flatten(symbolic(layer, "output"))
        reading = [r for x in outputs for r in readers.get(id(x), [])]
        if len(reading) == 1:
            found[id(layer)] = reading[0]
        if isinstance(layer, keras.Sequential):  # `add` calls its layers again, so that they do not tell their own output any more
            chain = layer.layers
            found |= {id(one): reader for one, reader in zip(chain, chain[1:]) if chain.count(one) == 1}
    return found


def distributed(model) -> bool:
    """Whether several devices share its training."""
    strategy = getattr(model, "distribute_strategy", None)  # of TensorFlow
    return strategy is not None and strategy.num_replicas_in_sync > 1 or keras.distribution.distribution() is not None


def has_own_step(model) -> bool:
    """Whether its training step is not Keras'."""
    return type(model).train_step is not keras.Model.train_step


def symbolic(layer, side):
    try:
        return getattr(layer, side)
    except (AttributeError, ValueError):  # called eagerly, or more than once
        return []


def _activation(layer, followers) -> str | None:
    """The name of the elementwise function between the units of this layer and the next weights; None if there is none or it is not known."""
    while layer is not None:
        name = type(layer).__name__.lower() if isinstance(layer, FUNCTIONS) else None
        function = getattr(layer, "activation", None)
        name = name or (getattr(function, "__name__", None) if callable(function) else None)
        if name not in (None, "linear"):
            return name
        layer = followers.get(id(layer))
        if not isinstance(layer, (keras.layers.Activation, *FUNCTIONS, *KEEPS_UNITS)):
            return None
    return None
