"""Images and their labels as train, validation and test parts: bundled digits, a folder, an .npz file, a `keras.datasets` name."""

import difflib
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_optlab import image_arrays
from keras_optlab.image_files import GREY_MODES, header, images_in, is_grey, is_image, read_image, reason

PARTS = ("train", "validation", "test")
KERAS_DATASETS = {
    "mnist": None,
    "fashion_mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": None,
}
NAMES = ("digits", *KERAS_DATASETS)
FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
KEPT_BYTES = 256 * 2**20
DECODED_AT_LOAD = 10**9  # pixels, some ten seconds of decoding: below it every file is known to be good before training starts


def load(
    source: str | os.PathLike,
    *,
    validation: float = 0.15,
    test: float = 0.15,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> "ImageData":
    """Reads labelled images and parts them, stratified by class, into train, validation and test.

    A folder holds one folder per class (classes are sorted by name, images in deeper folders count too), or `train/` and `test/` and/or `val/` which hold
    these. JPEG, PNG, BMP, GIF (first frame), WebP and TIFF of any size are read as `read_image` does. Hidden and other files are ignored, unreadable images
    listed in `skipped`. A folder of up to a billion pixels is decoded at once; a larger one is streamed, and its resized images are kept in memory only if all
    of them take less than 256 MB.

    An `.npz` holds `x_train, y_train, x_test, y_test[, x_val, y_val]` or `x, y`, and maybe `label_names`. Images are (n, h, w[, c]) with c = 1, 3 or 4 and
    values 0..255; floats that all lie in 0..1 are multiplied by 255. Labels are strings, or integers from 0 on: indices of `label_names` where that is given.
    A class without any image is left out.

    Args:
        source: "digits" (bundled with scikit-learn), "mnist", "fashion_mnist", "cifar10" or "cifar100" (downloaded by `keras.datasets`), or the path of a
            folder or an `.npz` file.
        validation: Share of the images, or of the given training part, for validation, above 0; unused where the source has a validation part.
        test: Share for testing, likewise. `validation + test` is below 1. Every class is in every part.
        image_size: Side, or (height, width), in pixels. By default that of the arrays; for a folder the median side, at least 8 and at most 96.
        seed: Seed of the split and of shuffling.

    Raises:
        ValueError: the source is unknown, missing or malformed, has fewer than two classes, or a class has too few images.

    Example:
        >>> data = load("digits")
        >>> data.image_shape, data.class_names[:3]
        ((8, 8, 1), ['0', '1', '2'])
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ValueError(f"`validation` and `test` must be shares above 0 with a sum below 1. Received: validation={validation}, test={test}")
    size = _size(image_size)
    name = os.fspath(source)
    path = Path(name).expanduser()
    if isinstance(source, str) and source in NAMES:
        return _from_arrays(source, *(_digits() if source == "digits" else _keras_dataset(source)), size, validation, test, seed)
    if path.is_dir():
        return _from_folder(path, size, validation, test, seed)
    if path.suffix == ".npz":
        return _from_arrays(path.stem, *image_arrays.read_npz(path), size, validation, test, seed)
    if path.exists():
        raise ValueError(f"`source` must be a folder of class folders, an .npz file or one of {', '.join(NAMES)}. Received the file: {name}")
    close = difflib.get_close_matches(name.lower(), NAMES, 1)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"`source` is neither a folder, nor an .npz file, nor one of {', '.join(NAMES)}. Received: {name!r}{hint}")


class ImageData:
    """Labelled images in three parts, made by `load`.

    Attributes:
        name: What the set is called: a bundled name, or the name of the folder or file.
        class_names: Names of the classes; a label is an index into it.
        image_shape: (height, width, channels).
        train, validation, test: `tf.data.Dataset`s of single (uint8 image, int64 label), in a fixed random order. Their cardinality is known unless images are
            still to be decoded.
        skipped: (path, reason) of the unreadable images; grows while a large folder is streamed.
    """

    def __init__(self, name: str, class_names: list[str], image_shape: tuple[int, int, int], source, indices: dict[str, np.ndarray], seed: int):
        self.name, self.class_names, self.image_shape, self.skipped = name, class_names, image_shape, source.skipped
        self._source, self._indices, self._seed = source, indices, seed
        self.train, self.validation, self.test = (source.read(tf.data.Dataset.from_tensor_slices(indices[part])) for part in PARTS)

    def __repr__(self):
        parts = ", ".join(f"{part} {sum(counts)}" for part, counts in self.counts.items())
        return f"<ImageData {self.name}: {len(self.class_names)} classes, {'x'.join(map(str, self.image_shape))}, {parts}>"

    @property
    def counts(self) -> dict[str, list[int]]:
        """Number of readable images per part and class."""
        labels, good, classes = self._source.labels, self._source.good, len(self.class_names)
        return {part: np.bincount(labels[i[good[i]]], minlength=classes).tolist() for part, i in self._indices.items()}

    def batches(self, part: str, batch_size: int, shuffle: bool = False, repeat: bool = False) -> tf.data.Dataset:
        """Batches of one part, prefetched; the last one may be smaller.

        Args:
            part: "train", "validation" or "test".
            batch_size: Images per batch.
            shuffle: Whether each pass has another order, the same for the same seed.
            repeat: Whether to go on for ever.

        Example:
            >>> data = load("digits")
            >>> model.fit(data.batches("train", 32, shuffle=True), validation_data=data.batches("validation", 256), shuffle=False)
        """
        indices = self._part(part)
        dataset = tf.data.Dataset.from_tensor_slices(indices)
        if shuffle:
            dataset = dataset.shuffle(max(1, len(indices)), seed=self._seed, reshuffle_each_iteration=True)
        dataset = self._source.read(dataset).batch(batch_size)
        return (dataset.repeat() if repeat else dataset).prefetch(tf.data.AUTOTUNE)

    def arrays(self, part: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One part as NumPy arrays: uint8 images (n, height, width, channels) and int64 labels (n,).

        Args:
            part: "train", "validation" or "test".
            limit: At most so many images. Defaults to all.
        """
        self._part(part)
        batches = list(getattr(self, part).take(-1 if limit is None else limit).batch(256).as_numpy_iterator())
        if not batches:
            return np.empty((0, *self.image_shape), "uint8"), np.empty(0, "int64")
        images, labels = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the images outside the test part, readable or not: rows of `held_out`."""
        return self._source.labels[np.concatenate([self._indices["train"], self._indices["validation"]])]

    def held_out(self, rows) -> "ImageData":
        """The same images, of which some of those outside the test part are the validation part and all others of them the training part.

        Args:
            rows: indices into `labels`; none leaves the validation part empty.
        """
        both, rows = np.concatenate([self._indices["train"], self._indices["validation"]]), np.asarray(rows, int)
        indices = self._indices | {"train": np.delete(both, rows), "validation": both[rows]}
        return ImageData(self.name, self.class_names, self.image_shape, self._source, indices, self._seed)

    def majority(self, part: str) -> float:
        """Share of the largest class of a part: the accuracy of always answering it."""
        self._part(part)
        counts = self.counts[part]
        return max(counts) / sum(counts)

    def fingerprint(self) -> str:
        """A short hash of images, labels and parts: equal where a model sees the same data. Files count by their path in the folder and their size."""
        digest = hashlib.blake2b(repr((self.class_names, self.image_shape)).encode(), digest_size=8)
        for chunk in (*self._source.identity(), *(self._indices[part].tobytes() for part in PARTS)):
            digest.update(chunk)
        return digest.hexdigest()

    def _part(self, part: str) -> np.ndarray:
        if part not in PARTS:
            raise ValueError(f"`part` must be one of {', '.join(PARTS)}. Received: {part!r}")
        return self._indices[part]


class _Arrays:
    """Images in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, skipped=(), identity=None):
        self.labels, self.good, self.skipped = labels, np.ones(len(labels), bool), list(skipped)
        with tf.device("CPU"):
            self._tensors = tf.constant(images), tf.constant(labels)
        self.identity = identity or (lambda: [tensor.numpy() for tensor in self._tensors])

    def read(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        return indices.map(lambda i: tuple(tf.gather(tensor, i) for tensor in self._tensors), tf.data.AUTOTUNE)


class _Files:
    """Images on disk, decoded when they are asked for and kept if all of them fit into memory."""

    def __init__(self, root: Path, paths: list[Path], labels: np.ndarray, image_shape: tuple[int, int, int], skipped: list[tuple[str, str]]):
        self.paths, self.labels, self.skipped = paths, labels, skipped
        self.good, self._shape = np.ones(len(paths), bool), image_shape
        self._root, self._sizes = root, [path.stat().st_size for path in paths]
        self.fits = len(paths) * np.prod(image_shape) <= KEPT_BYTES
        self._kept = np.empty((len(paths), *image_shape), "uint8") if self.fits else None
        self._read = np.zeros(len(paths), bool)
        self._skipping = threading.Lock()

    def identity(self):
        files = zip(self.paths, self._sizes, self.labels, strict=True)
        return (f"{path.relative_to(self._root).as_posix()} {size} {label}\n".encode() for path, size, label in files)

    def fetch(self, i: int) -> tuple[np.ndarray, np.bool_]:
        if self._read[i]:
            return self._kept[i], self.good[i]
        image = np.zeros(self._shape, "uint8")
        if self.good[i]:
            try:
                image = _resized(read_image(self.paths[i], self._shape[-1])[None], self._shape[:2])[0]
            except ValueError as error:
                with self._skipping:  # two iterators may meet the same file
                    if self.good[i]:
                        self.skipped.append((str(self.paths[i]), reason(error.__cause__)))
                    self.good[i] = False
        if self._kept is not None:
            self._kept[i], self._read[i] = image, True
        return image, self.good[i]

    def in_memory(self) -> tuple[_Arrays, np.ndarray]:
        """All readable images decoded now, and which of the files they are."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each thread may hold an image of 300 MB
            list(pool.map(self.fetch, range(len(self.paths))))
        good = np.flatnonzero(self.good)
        return _Arrays(self._kept[good], self.labels[good], self.skipped, self.identity), good

    def read(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        labels = tf.constant(self.labels)

        def read(i):
            image, good = tf.numpy_function(self.fetch, [i], (tf.uint8, tf.bool))
            return tf.ensure_shape(image, self._shape), tf.gather(labels, i), tf.ensure_shape(good, ())

        found = indices.map(read, tf.data.AUTOTUNE).filter(lambda image, label, good: good)
        return found.map(lambda image, label, _: (image, label))


def _size(image_size) -> tuple[int, int] | None:
    if image_size is None:
        return None
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side >= 1 for side in size):
        raise ValueError(f"`image_size` must be a side or (height, width) in whole pixels, at least 1. Received: {image_size!r}")
    return int(size[0]), int(size[1])


def _resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What a `Resizing(antialias=True)` layer and rounding make of uint8 images (n, h, w, c)."""
    if images.shape[1:3] == size:
        return images
    with tf.device("CPU"):
        resized = (tf.image.resize(images[i : i + 256], size, antialias=True) for i in range(0, len(images), 256))
        return np.concatenate([tf.cast(tf.round(batch), tf.uint8).numpy() for batch in resized])


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {"train": (np.round(digits.images * (255 / 16)).astype("uint8"), digits.target)}, [str(name) for name in digits.target_names]


def _keras_dataset(name: str):
    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # keras.utils.get_file raises a plain Exception
        raise ValueError(f"`keras.datasets.{name}` could not be downloaded: {reason(error)}. Give a folder or an .npz file instead") from error
    return {"train": train, "test": test}, KERAS_DATASETS[name]


def _split(labels: np.ndarray, given: np.ndarray, class_names: list[str], validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Indices of the parts; those that `given` (an index into PARTS per image) lacks are taken from the training part, class by class."""
    if len(class_names) < 2:
        raise ValueError(f"`source` must have at least two classes. Received: {', '.join(class_names) or 'none'}")
    shares = {code: share for code, share in ((2, test), (1, validation)) if not (given == code).any()}
    generator = np.random.default_rng(seed)
    part_of = given.copy()
    for label, name in enumerate(class_names):
        rest = generator.permutation(np.flatnonzero((labels == label) & (given == 0)))
        if len(rest) < 1 + len(shares):
            parts = " and ".join(["training", *(PARTS[code] for code in shares)])
            raise ValueError(f"Class {name!r} has {len(rest)} readable images for {parts}, and each part needs one. Add images or remove the class")
        total = len(rest)
        for left, (code, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
            count = min(max(1, round(total * share)), len(rest) - left)
            part_of[rest[:count]], rest = code, rest[count:]
    return {part: generator.permutation(np.flatnonzero(part_of == code)) for code, part in enumerate(PARTS)}


def _from_arrays(name, parts, class_names, size, validation, test, seed) -> ImageData:
    parts = {part: (np.asarray(x), np.asarray(y)) for part, (x, y) in parts.items()}
    images = image_arrays.pixels({part: x for part, (x, _) in parts.items()})
    for part, (x, y) in parts.items():
        if x.shape[:1] != y.shape[:1]:
            raise ValueError(f"`source`: each image needs one label. Received: images {x.shape} and labels {y.shape} in the {part} part")
    labels, class_names = image_arrays.classes({part: y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for part, (_, y) in parts.items()}, class_names)
    given = np.concatenate([np.full(len(x), PARTS.index(part)) for part, x in images.items()])
    indices = _split(labels, given, class_names, validation, test, seed)
    images = np.concatenate([_resized(x, size or x.shape[1:3]) for x in images.values()])
    return ImageData(name, class_names, images.shape[1:], _Arrays(images, labels), indices, seed)


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {path.name: found for path in folders if (found := images_in(path))}


def _folder_parts(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Part -> class -> files."""
    parts = {part: found for part, names in FOLDERS.items() for name in names if (root / name).is_dir() and (found := _class_folders(root / name))}
    if "train" in parts and len(parts) > 1 and not any(is_image(path.name) for path in (root / "train").iterdir()):
        return parts
    return {"train": _class_folders(root)}


def _from_folder(root: Path, size, validation, test, seed) -> ImageData:
    parts = _folder_parts(root)
    class_names = sorted({name for classes in parts.values() for name in classes})
    files = [(path, class_names.index(name), PARTS.index(part)) for part, classes in parts.items() for name, paths in classes.items() for path in paths]
    if not files:
        loose = len(images_in(root))
        raise ValueError(f"`source` must be a folder with one folder of images per class. Received: {root} with {loose} images, none of them in such a folder")
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(header, [path for path, _, _ in files]))
    skipped = [(str(file[0]), found) for file, found in zip(files, headers, strict=True) if isinstance(found, str)]
    readable = [(file, found) for file, found in zip(files, headers, strict=True) if not isinstance(found, str)]
    if not readable:
        raise ValueError(f"`source` {root} has no readable image among {len(files)} files. The first one: {': '.join(skipped[0])}")
    paths, labels, given = zip(*(file for file, _ in readable), strict=True)
    if size is None:
        side = int(np.clip(np.median([sides for _, (_, *sides) in readable]), 8, 96))
        size = side, side
    unsure = [path for (path, _, _), (mode, _, _) in readable if mode not in GREY_MODES]
    channels = 1 if all(is_grey(path) for path in unsure[:: -(-len(unsure) // 64) or 1]) else 3
    labels, given = np.array(labels), np.array(given)
    source = _Files(root, list(paths), labels, (*size, channels), skipped)
    if source.fits and sum(width * height for _, (_, width, height) in readable) <= DECODED_AT_LOAD:
        source, good = source.in_memory()
        labels, given = labels[good], given[good]
    return ImageData(root.resolve().name, class_names, (*size, channels), source, _split(labels, given, class_names, validation, test, seed), seed)
