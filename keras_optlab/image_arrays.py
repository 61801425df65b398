"""Labelled images as arrays: what is in an `.npz` file, checked and brought to 8-bit pixels and class indices."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_optlab.image_files import reason


def read_npz(path: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str] | None]:
    """The (images, labels) of each part in an `.npz` file, and the names of the classes where it has some."""
    try:
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            arrays = {} if isinstance(file, np.ndarray) else {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise ValueError(f"`source` does not exist. Received: {path}") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error) and not zipfile.is_zipfile(path):
            raise ValueError(f"`source` {path} is no .npz file. Save it with `numpy.savez`") from None
        if "allow_pickle" in str(error):
            raise ValueError(f"`source` {path} holds Python objects, which are never unpickled. Save plain numbers and strings") from None
        raise ValueError(f"`source` {path} cannot be read: {reason(error)}") from error
    keys = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")}
    if {"x", "y"} <= set(arrays):
        keys = {"train": ("x", "y")}
    elif not {"x_train", "y_train", "x_test", "y_test"} <= set(arrays):
        raise ValueError(f"`source` {path} must hold x_train, y_train, x_test and y_test, or x and y. Received: {', '.join(arrays) or 'none of them'}")
    names = arrays["label_names"].ravel().tolist() if "label_names" in arrays else None
    return {part: (arrays[x], arrays[y]) for part, (x, y) in keys.items() if {x, y} <= set(arrays)}, names


def pixels(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of any of the accepted kinds as uint8 (n, h, w, 1 or 3)."""
    for part, x in images.items():
        if x.ndim not in (3, 4) or 0 in x.shape or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)):
            rule = "(n, height, width) or (n, height, width, channels) with 1, 3 or 4 channels"
            raise ValueError(f"`source`: images must be {rule}. Received: shape {x.shape} in the {part} part")
        if x.dtype.kind not in "buif" or not np.isfinite(x).all():
            found = f"{x.dtype} with NaN or infinity" if x.dtype.kind == "f" else x.dtype
            raise ValueError(f"`source`: pixels must be finite numbers. Received: {found} in the {part} part")
    kinds = {part: (x.shape[1:], {"f": "float", "b": "boolean"}.get(x.dtype.kind, "integer")) for part, x in images.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"`source`: images of all parts must be of one shape and kind. Received: {kinds}")
    low, high = min(x.min() for x in images.values()), max(x.max() for x in images.values())
    kind = next(iter(images.values())).dtype.kind
    scale = 255 if kind == "b" or (kind == "f" and high <= 1) else 1
    if low < 0 or high * scale > 255:
        raise ValueError(f"`source`: pixels must lie in 0..255, or floats in 0..1. Received: {low} to {high}")

    def converted(x: np.ndarray) -> np.ndarray:
        x = x if x.ndim == 4 else x[..., None]
        if x.shape[3] == 4:
            alpha = x[..., 3:] / (255 / scale)
            x = x[..., :3] * alpha + (255 / scale) * (1 - alpha)
        return x if x.dtype == "uint8" else np.round(x * float(scale)).astype("uint8")

    return {part: converted(x) for part, x in images.items()}


def classes(labels: dict[str, np.ndarray], names: list[str] | None) -> tuple[np.ndarray, list[str]]:
    """Labels as int64 indices of the classes that occur, and the names of these."""
    for part, y in labels.items():
        if y.ndim != 1 or y.dtype.kind not in "biuUS":
            rule = "integers or strings, (n,); turn one-hot rows into integers by argmax"
            raise ValueError(f"`source`: labels must be {rule}. Received: {y.dtype} {y.shape} in the {part} part")
    kinds = {y.dtype.kind in "US" for y in labels.values()}
    if len(kinds) > 1:
        raise ValueError("`source`: labels must be integers or strings in all parts alike. Received: both")
    values = np.concatenate(list(labels.values()))
    present, codes = np.unique(values, return_inverse=True)
    if True in kinds:
        return codes, [named(value) for value in present]
    if present[0] < 0 or (names is not None and present[-1] >= len(names)):
        rule = "at least 0" if names is None else f"in 0..{len(names) - 1}, the indices of `label_names`"
        raise ValueError(f"`source`: labels must be {rule}. Received: {present[0]} to {present[-1]}")
    return codes, [named(value if names is None else names[value]) for value in present]


def named(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
