"""Static facts of data, for a record: ranges, types, classes, and what could not be read."""

import itertools
from collections.abc import Mapping

import keras
import numpy as np

from keras_optlab.diagnosis.rules.bad_labels import MARKED

MOST = 2_000_000  # numbers that are looked at, in whole examples from the beginning and the end
LARGEST = 50_000_000  # numbers that are copied for a short training
BATCHES = 20  # of a dataset
APART, VARIED = 5.0, 8  # times the span of so many others or more, from which on a number that recurs is a mark
CLASSES = 1000  # more values than this are no classes


class Unreadable(ValueError):
    """Data of which nothing can be said, and why."""


def read(x, y=None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], bool]:
    """Arrays of the inputs and targets by name ("x", or "x/name" where there are several), and whether that is all there is.

    Args:
        x: arrays, nested in lists or dicts; lists of numbers; pandas frames; a `tf.data.Dataset`, a `keras.utils.PyDataset` or a PyTorch `DataLoader` of
            (x, y), of which the first batches are read.
        y: likewise; `None` with a dataset, or where there is none.

    Raises:
        Unreadable: saying why, if they cannot be read without harm or are no numbers.
    """
    if is_stream(x):
        batches = [
            _pair(batch)
            for batch in (map(x.__getitem__, range(min(BATCHES, len(x)))) if isinstance(x, keras.utils.PyDataset) else itertools.islice(x, BATCHES))
        ]
        if not batches:
            raise Unreadable("the dataset is empty")
        join = lambda *parts: np.concatenate([np.asarray(part) for part in parts]) if np.ndim(parts[0]) else np.asarray(parts)
        try:
            xs, ys = (keras.tree.map_structure(join, *side) if side[0] is not None else None for side in zip(*batches))
        except (ValueError, TypeError) as error:
            raise Unreadable(f"its batches do not fit together: {error}") from error
        return _named("x", xs), _named("y", ys), len(batches) < BATCHES
    if x is None:
        raise Unreadable("there is none")
    if is_spent_by_reading(x):
        raise Unreadable(f"a {type(x).__name__} can be read only once, and training needs it: give arrays, a tf.data.Dataset or a PyDataset")
    return _named("x", x), _named("y", y), True


def data_facts(inputs: dict[str, np.ndarray], targets: dict[str, np.ndarray], whole: bool = True) -> dict:
    """What is known of data, as JSON.

    Returns:
        "examples", "targets": how many. "whole": whether these are all. "x": for each input `{"name", "shape", "dtype", "min", "max", "mean", "std", "rms",
        "typical", "nonfinite"}`; "typical" is the median over examples of their own root mean squares, the last one the share of NaN and infinity, which the
        others leave out. "y": for each target the same, and "deviation" (from the means of the columns; "std" is that from one mean), "low" and "high" (between
        which nine tenths lie), "integer" (whether all are whole numbers), "classes" (how many different ones, or columns where each row is one-hot; `None` for
        none or too many), "largest" (share of the largest class), "one_hot", "mark" (a number that recurs far away from all others, and its
        share), "row_sum" (least and most sum of a row, where there are several columns).
    """
    sides = [*inputs.values(), *targets.values()]
    return {
        "examples": len(sides[0]) if sides and sides[0].ndim else 0,
        "targets": len(next(iter(targets.values()), sides[0])) if sides and all(side.ndim for side in sides) else 0,
        "whole": whole,
        "x": [_numbers(name, value) for name, value in inputs.items()],
        "y": [_numbers(name, value) | _labels(value) for name, value in targets.items()],
    }


def some(x, y, examples: int | None = None) -> tuple:
    """Some examples, `None` for all, as the model takes them: of arrays from anywhere, for many are sorted by class; of datasets from the first batch."""
    if is_stream(x):
        x, y = _pair(x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x)))
    chosen: dict = {}  # rows by number of examples, the same for all arrays; drawn from a generator of its own

    def part(value) -> np.ndarray:
        array = np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value)
        rows = chosen.setdefault(len(array), np.sort(np.random.default_rng(0).permutation(len(array))[:examples]))
        return array[rows]

    whole = lambda value: isinstance(value, list) and not (value and getattr(value[0], "shape", ()) and not _is_row(value))  # a list of numbers or rows is one
    return tuple(None if side is None else part(side) if whole(side) else keras.tree.map_structure(part, side) for side in (x, y))


def batches(x, y, batch_size: int, most: int) -> list[tuple]:
    """At most so many batches, as the model takes them: of arrays each from all over them, of datasets their own first ones."""
    if is_stream(x):
        given = map(x.__getitem__, range(min(most, len(x)))) if isinstance(x, keras.utils.PyDataset) else itertools.islice(x, most)
        return [some(*_pair(batch)) for batch in given]
    numbers = sum(one[:1].size for one in keras.tree.flatten(some(x, y, 1)) if one is not None)
    drawn = some(x, y, batch_size * max(2, min(most, LARGEST // (batch_size * numbers))))
    count = max(1, len(keras.tree.flatten(drawn)[0]) // batch_size)
    part = lambda one, i: one if one is None else one[i::count][:batch_size]
    return [keras.tree.map_structure(lambda one: part(one, i), drawn) for i in range(count)]


def weights(y, class_weight=None, sample_weight=None) -> np.ndarray | None:
    """What each example of a single target counts in a loss, by the arguments of `fit`; `None` for 1."""
    if class_weight:
        y = np.asarray(y)
        y = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y))
        return np.array([class_weight.get(int(label), 1.0) if np.isfinite(label) else 1.0 for label in y])
    return None if sample_weight is None or np.ndim(sample_weight) != 1 else np.asarray(sample_weight)


def heaviest(y, weights) -> float | None:
    """The share of the class that counts most, of the numbers of classes or one-hot rows of a single target; 0 where nothing counts, `None` for no classes."""
    y = np.asarray(y)
    y = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y
    if not np.any(weights):
        return 0.0
    if y.size != len(y):  # a class for each place of a sequence or an image
        return None
    counts = np.bincount(np.unique(y.ravel(), return_inverse=True)[1].ravel(), weights=weights)
    return float(counts.max() / counts.sum()) if len(counts) <= CLASSES else None


def refused(name: str, value) -> str | None:
    """Why `fit` would not take it, though it can be read."""
    first, kind = value, type(value).__name__
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if isinstance(value, (list, tuple)) and (not hasattr(first, "shape") or first.shape == () or _is_row(value)):
        return f"`{name}` is a {kind} of numbers or rows, which `fit` does not take: make it an array, `np.asarray({name})`"
    return None


def is_stream(x) -> bool:
    """Whether it gives batches, and can do so again."""
    return hasattr(x, "element_spec") or isinstance(x, keras.utils.PyDataset) or hasattr(x, "dataset") and hasattr(x, "collate_fn")


def is_spent_by_reading(x) -> bool:
    """Whether what is read of it is gone."""
    return hasattr(x, "__next__") or callable(x)


def _pair(batch):
    batch = batch if isinstance(batch, (tuple, list)) else (batch,)
    return batch[0], batch[1] if len(batch) > 1 else None


def _named(name: str, value) -> dict[str, np.ndarray]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {path: array for key, one in value.items() for path, array in _named(f"{name}/{key}", one).items()}
    if isinstance(value, (list, tuple)) and value and hasattr(value[0], "shape") and len(value[0].shape) and not _is_row(value):
        return {path: array for i, one in enumerate(value) for path, array in _named(f"{name}/{i}", one).items()}
    return {name: _array(name, value)}


def _is_row(value) -> bool:
    """Whether a list holds examples, of which there are more than inputs of a model, rather than inputs."""
    return len(value) > 8 and len({getattr(one, "shape", None) for one in value}) == 1 and hasattr(value[0], "shape")


def _array(name: str, value) -> np.ndarray:
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value)
    except Exception as error:  # whatever a strange object raises when it is read: that is the finding
        raise Unreadable(f"`{name}` cannot be made an array: {type(error).__name__}: {error}") from error
    if array.dtype.kind == "O":
        lengths = sorted({len(one) for one in array.ravel()[:1000] if hasattr(one, "__len__") and not isinstance(one, str)})
        why = (
            f"its rows have different lengths ({lengths[0]} to {lengths[-1]})"
            if len(lengths) > 1
            else f"it holds objects of the type {type(array.ravel()[0]).__name__}"
        )
        raise Unreadable(f"`{name}` is no array of numbers: {why}" if array.size else f"`{name}` is empty")
    if array.dtype.kind not in "biufV":
        raise Unreadable(f"`{name}` holds no numbers but {'text' if array.dtype.kind in 'US' else array.dtype}")
    if not array.size:
        raise Unreadable(f"`{name}` is empty: its shape is {array.shape}")
    return array


def _part(array: np.ndarray) -> np.ndarray:
    """Examples from the beginning and the end, as float64."""
    rows = max(2, MOST // max(1, array[:1].size))
    part = array if len(array) <= rows else np.concatenate([array[: rows // 2], array[-rows // 2 :]])
    return part.astype("float64")


def _numbers(name: str, array: np.ndarray) -> dict:
    part = _part(array.reshape(1) if array.ndim == 0 else array)
    finite = np.isfinite(part)
    good = part if finite.all() else part[finite]
    with np.errstate(over="ignore"):
        sizes = {"min": good.min(), "max": good.max(), "mean": good.mean(), "std": good.std()} if good.size else {}
        rows = (part if good is part else np.where(finite, part, 0.0)).reshape(len(part), -1)
        squares = np.einsum("ij,ij->i", rows, rows)
        sizes |= {"rms": np.sqrt(squares.sum() / good.size), "typical": np.median(np.sqrt(squares / rows.shape[1]))} if good.size else {}
    return {"name": name, "shape": list(array.shape[1:]), "dtype": str(array.dtype), "nonfinite": 1 - good.size / part.size} | {
        k: float(v) for k, v in sizes.items()
    }


def _labels(array: np.ndarray) -> dict:
    facts: dict = {"integer": False, "classes": None, "largest": None, "one_hot": False, "row_sum": None}
    part = _part(array.reshape(1) if array.ndim == 0 else array)
    good = part[np.isfinite(part)]
    if not good.size:
        return facts
    facts["integer"] = bool((good == np.round(good)).all())
    facts |= dict(zip(("low", "high"), np.quantile(good, (0.05, 0.95)).tolist()))
    facts["deviation"] = float(np.sqrt(part.var(0).mean())) if good.size == part.size else float(good.std())
    flat = part.ndim == 1 or part.ndim == 2 and part.shape[1] == 1
    if flat:
        facts |= _mark(good)
    if flat and facts["integer"]:
        values, counts = np.unique(good, return_counts=True)
        if len(values) <= min(CLASSES, max(2, len(good) // 2)):
            facts |= {"classes": len(values), "largest": float(counts.max() / counts.sum())}
    elif part.ndim == 2 and np.isfinite(part).all():
        sums = part.sum(1)
        facts["row_sum"] = [float(sums.min()), float(sums.max())]
        facts["one_hot"] = bool(facts["integer"] and (sums == 1).all() and part.min() >= 0)
        if facts["one_hot"]:
            facts |= {"classes": part.shape[1], "largest": float(part.mean(0).max())}
    return facts


def _mark(values: np.ndarray) -> dict:
    """A number that recurs far away from all others, as -999 for what is missing."""
    for mark in (values.min(), values.max()):
        others = values[values != mark]
        share = 1 - len(others) / len(values)
        if mark and MARKED <= share < 0.5 and len(np.unique(others)) >= VARIED and np.abs(others - mark).min() > APART * np.ptp(others):
            return {"mark": [float(mark), share]}
    return {}
