"""Cross-validation: what each training of a trial is given, the same for all trials of a search."""

import keras
import numpy as np
from keras_tuner.errors import FatalValueError

NAMES = ("x", "y", "sample_weight")


def fold(number: int, index: int, seed: int, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """What `search` was given, parted into training and validation data.

    Args:
        number: how many folds there are.
        index: which of them is held out.
        seed: of the shuffling.
        args: what `search` was given: arrays x and y, or an `ImageData`.
        kwargs: likewise.

    Raises:
        keras_tuner.errors.FatalValueError: if there are validation data already, or the data are no arrays.
    """
    if kwargs.get("validation_data") is not None or kwargs.get("validation_split"):
        raise FatalValueError(
            "`cross_validation` takes the validation data out of what it is given. Give it all, without `validation_data` and `validation_split`, "
            f"or search with `cross_validation=None`. Received: cross_validation={number}."
        )
    data = args[0] if args else kwargs.get("x")
    if hasattr(data, "held_out"):
        part = data.held_out(parts(data.labels, len(data.labels), number, seed)[index][1])
        return ((part, *args[1:]), kwargs) if args else (args, kwargs | {"x": part})
    given, rest = arrays(args, kwargs, "cross_validation")
    training, held = (taken(given, rows) for rows in parts(given["y"], len(keras.tree.flatten(given["y"])[0]), number, seed)[index])
    return put(training, len(args), rest | {"validation_data": tuple(held.values())})


def parts(y, count: int, number: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows for training and for validation of each fold: stratified where labels are classes of at least as many members as there are folds."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if count < number:
        raise FatalValueError(f"`cross_validation` must be at most the number of samples, {count}. Received: cross_validation={number}.")
    labels = classes(y)
    if labels is None or np.unique(labels, return_counts=True)[1].min() < number:
        labels, kind = np.zeros(count), KFold
    else:
        kind = StratifiedKFold
    return list(kind(number, shuffle=True, random_state=seed % 2**32).split(labels, labels))


def classes(y) -> np.ndarray | None:
    """One label per sample, if `y` is whole numbers, strings or one-hot rows."""
    if not isinstance(y, np.ndarray):
        return None
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all():
        return y.argmax(1)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    y = y.astype(str) if y.dtype.kind == "O" and all(isinstance(label, str) for label in y.flat) else y  # as pandas keeps strings
    return y if y.ndim == 1 and (y.dtype.kind in "biuUS" or y.dtype.kind == "f" and (y == np.round(y)).all()) else None


def arrays(args: tuple, kwargs: dict, argument: str) -> tuple[dict, dict]:
    """x, y and maybe sample_weight among what `search` was given, each an array or a list or dict of arrays; and the other keyword arguments.

    Raises:
        keras_tuner.errors.FatalValueError: if they are something else.
    """
    found = dict(zip(NAMES, args)) | {name: kwargs[name] for name in NAMES if kwargs.get(name) is not None}
    leaves = keras.tree.flatten([found.get(name) for name in NAMES[:2]] + [found.get("sample_weight", np.zeros(1))])
    if len(args) > 2 or not all(hasattr(leaf, "__array__") for leaf in leaves):
        kinds = ", ".join(f"{name} {type(value).__name__}" for name, value in found.items()) or "neither x nor y"
        raise FatalValueError(
            f"`{argument}` needs the data as arrays x and y, and everything else by name, or as a `keras_optlab.data.ImageData`. Received: {kinds}, "
            f"{len(args)} arguments without a name. Turn a dataset or a generator into arrays, or search without `{argument}`."
        )
    found = {name: keras.tree.map_structure(np.asarray, found[name]) for name in NAMES if name in found}
    counts = {name: sorted({len(leaf) for leaf in keras.tree.flatten(value)}) for name, value in found.items()}
    if len(set(sum(counts.values(), []))) > 1:
        raise FatalValueError(f"`{argument}` needs as many samples in each array. Received: {counts}.")
    return found, {name: value for name, value in kwargs.items() if name not in NAMES}


def taken(given: dict, rows: np.ndarray) -> dict:
    """The same arrays with some of their rows."""
    return {name: keras.tree.map_structure(lambda array: array[rows], value) for name, value in given.items()}


def put(given: dict, positional: int, rest: dict) -> tuple[tuple, dict]:
    """Arrays as arguments of `HyperModel.fit`, the first ones without their names where `search` was given them so."""
    names = list(given)
    return tuple(given[name] for name in names[:positional]), rest | {name: given[name] for name in names[positional:]}
