"""Image files as 8-bit pixels."""

import os
import threading
import warnings
from pathlib import Path

import numpy as np

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B"}

_opening = threading.Lock()


def read_image(path: str | os.PathLike, channels: int) -> np.ndarray:
    """Reads one image file the way `keras_optlab.data.load` does: turned as its EXIF data say, transparency on white, 8 bits.

    Args:
        path: A file in any format that Pillow reads; the first frame is taken.
        channels: 1 for grey or 3 for RGB, whatever the file holds.

    Returns:
        uint8 pixels, (height, width, channels).

    Raises:
        ValueError: the file is missing or cannot be read as an image, or `channels` is neither 1 nor 3.

    Example:
        >>> read_image("photo.jpg", 3)[None]  # a batch of one for a model saved by keras_optlab
    """
    from PIL import Image, ImageOps

    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 (grey) or 3 (RGB). Received: {channels!r}")
    try:
        with _open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "F":
                raise ValueError("floating point pixels have no fixed range")
            if image.mode.startswith("I"):
                image = Image.fromarray(np.clip(np.round(np.asarray(image) / 257), 0, 255).astype("uint8"))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            mode = "L" if channels == 1 else "RGB"
            return np.array(image if image.mode == mode else image.convert(mode)).reshape(image.height, image.width, channels)
    except Exception as error:  # a damaged file can raise nearly anything out of Pillow's decoders
        raise ValueError(f"Cannot read the image {os.fspath(path)}: {reason(error)}") from error


def header(path: Path) -> tuple[str, int, int] | str:
    """Pillow's mode, width and height of an image file, or why it is none."""
    if not path.is_file():
        return "no regular file"
    try:
        with _open(path) as image:
            return image.mode, *image.size
    except Exception as error:  # as above
        return reason(error)


def is_grey(path: Path) -> bool:
    """Whether a file holds no colour; one that cannot be read holds none."""
    try:
        pixels = read_image(path, 3)
    except ValueError:
        return True
    return bool((pixels == pixels[..., :1]).all())


def images_in(folder: Path) -> list[Path]:
    """Image files at any depth, in the order of their names."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(files) if is_image(name)]
    return found


def is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def reason(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _open(path):
    from PIL import Image

    with _opening, warnings.catch_warnings():  # Pillow warns of large images, and refuses those of more than 179 million pixels
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)
