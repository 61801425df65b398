"""Images in every accepted form, what is refused, and the saved model that takes raw pixels."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_optlab import data
from keras_optlab.data import PARTS, load, read_image
from keras_optlab.layers import ClassNames, SmoothedCrossentropy, class_names, raw_pixel_model

RNG = np.random.default_rng(0)


def picture(height, width, channels=3):
    """A smooth picture: what JPEG and resizing are made for."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin((x * (k + 1) + y * (3 - k)) / 9) for k in range(channels)]
    return np.stack(waves, -1).astype("uint8")


def folder(root, counts, draw=lambda name, i: picture(12, 12), suffix=".png"):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(draw(name, i).squeeze()).save(root / name / f"{i:03d}{suffix}")
    return root


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def sample(n=30, classes=3, shape=(6, 5, 3)):
    return {"x": RNG.integers(0, 256, (n, *shape), "uint8"), "y": np.arange(n) % classes}


def refusal(*words, **arguments):
    with pytest.raises(ValueError) as caught:
        load(**arguments)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 500 and message.count("\n") < 2


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_digits_are_raw_bytes_in_stratified_parts(digits):
    assert digits.image_shape == (8, 8, 1) and digits.class_names == [str(i) for i in range(10)] and digits.name == "digits"
    assert {part: sum(counts) for part, counts in digits.counts.items()} == {"train": 1259, "validation": 269, "test": 269}
    x, y = digits.arrays("train")
    assert x.dtype == "uint8" and x.min() == 0 and x.max() == 255 and y.dtype == "int64"
    assert np.bincount(y).tolist() == digits.counts["train"]
    assert all(max(counts) - min(counts) <= 9 for counts in digits.counts.values())
    assert digits.majority("test") == max(digits.counts["test"]) / 269
    assert digits.train.cardinality().numpy() == 1259
    assert np.mean(y[:-1] == y[1:]) < 0.2  # not sorted by class


def test_the_seed_decides_the_parts(digits):
    same, other = load("digits"), load("digits", seed=1)
    np.testing.assert_array_equal(digits.arrays("test")[0], same.arrays("test")[0])
    assert digits.fingerprint() == same.fingerprint() != other.fingerprint()
    whole = np.concatenate([other.arrays(part)[0] for part in PARTS])
    assert len({image.tobytes() for image in whole}) == len({image.tobytes() for part in PARTS for image in digits.arrays(part)[0]})


def test_batches_drop_nothing_and_shuffle_by_seed(digits):
    sizes = [len(y) for _, y in digits.batches("train", 100)]
    assert sizes == [100] * 12 + [59]
    first = digits.batches("train", 2000, shuffle=True)
    passes = [next(iter(first))[1].numpy() for _ in range(2)]
    assert not np.array_equal(*passes) and sorted(passes[0]) == sorted(passes[1])
    again = digits.batches("train", 2000, shuffle=True)
    np.testing.assert_array_equal(next(iter(again))[1].numpy(), passes[0])
    assert sum(len(y) for _, y in digits.batches("test", 256, repeat=True).take(5)) > 2 * 269
    with pytest.raises(ValueError, match="`part`"):
        digits.batches("dev", 8)


def test_arrays_are_limited(digits):
    x, y = digits.arrays("validation", limit=7)
    assert x.shape == (7, 8, 8, 1) and len(y) == 7
    assert digits.arrays("validation", limit=0)[0].shape == (0, 8, 8, 1)


def test_image_size_resizes_arrays_as_the_layer_does(digits):
    larger = load("digits", image_size=(20, 13))
    layer = keras.layers.Resizing(20, 13, antialias=True)
    x, _ = digits.arrays("test", 50)
    np.testing.assert_array_equal(larger.arrays("test", 50)[0], np.round(layer(x.astype("float32"))))


@pytest.mark.parametrize("size", [(5, 7), (64, 9), (8, 96)])
def test_resizing_agrees_with_the_layer_for_any_size(size, tmp_path):
    for height, width in ((1, 1), (3, 200), (97, 64)):
        x = RNG.integers(0, 256, (2, height, width, 3), "uint8")
        layer = keras.layers.Resizing(*size, interpolation="bilinear", antialias=True)
        resized = data._resized(x, size)
        assert resized.dtype == "uint8"
        np.testing.assert_array_equal(resized, np.round(layer(x.astype("float32"))))
        np.testing.assert_allclose(resized, layer(x.astype("float32")), atol=0.5001)


def test_npz_with_its_own_parts(tmp_path):
    x, y = sample(40, 4).values()
    parts = {"x_train": x[:20], "y_train": y[:20], "x_val": x[20:28], "y_val": y[20:28], "x_test": x[28:], "y_test": y[28:]}
    path = npz(tmp_path, **parts, label_names=np.array(["a", "b", "c", "d"]))
    found = load(path)
    assert found.class_names == ["a", "b", "c", "d"] and found.name == "set"
    assert {part: sum(counts) for part, counts in found.counts.items()} == {"train": 20, "validation": 8, "test": 12}
    order = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    assert all(order[image.tobytes()] == label for part in PARTS for image, label in zip(*found.arrays(part), strict=True))


def test_npz_without_validation_takes_it_from_training(tmp_path):
    x, y = sample(40, 2).values()
    found = load(npz(tmp_path, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:]), validation=0.2)
    assert found.counts == {"train": [12, 12], "validation": [3, 3], "test": [5, 5]}


@pytest.mark.parametrize("kind", ["float", "bool", "grey", "rgba", "strings", "bytes", "column", "gaps", "unused name", "names in bytes", "float 255"])
def test_npz_of_many_kinds(kind, tmp_path):
    arrays, names = sample(), ["0", "1", "2"]
    expected = arrays["x"]
    if kind == "float":
        arrays["x"] = (expected / 255).astype("float32")
    elif kind == "float 255":
        arrays["x"] = expected.astype("float64")
    elif kind == "bool":
        arrays["x"] = expected > 127
        expected = np.where(arrays["x"], 255, 0)
    elif kind == "grey":
        arrays["x"] = expected[..., 0]
        expected = expected[..., :1]
    elif kind == "rgba":
        alpha = np.resize([0, 128, 255], expected.shape[:3])[..., None].astype("uint8")
        arrays["x"] = np.concatenate([expected, alpha], -1)
        expected = np.round(expected * (alpha / 255) + 255 * (1 - alpha / 255))
    elif kind in ("strings", "bytes"):
        names = ["cat", "dog", "eel"]
        arrays["y"] = np.array(names, "S" if kind == "bytes" else "U")[arrays["y"]]
    elif kind == "column":
        arrays["y"] = arrays["y"][:, None]
    elif kind == "gaps":
        arrays["y"], names = arrays["y"] * 5 + 2, ["2", "7", "12"]
    elif kind == "unused name":
        arrays["label_names"], arrays["y"], names = np.array(["a", "b", "c", "d"]), arrays["y"] + 1, ["b", "c", "d"]
    elif kind == "names in bytes":
        arrays["label_names"], names = np.array([b"a", "\u00e9".encode(), b"c"]), ["a", "\u00e9", "c"]
    found = load(npz(tmp_path, **arrays))
    assert found.class_names == names
    images = np.concatenate([found.arrays(part)[0] for part in PARTS])
    assert sorted(image.tobytes() for image in images) == sorted(image.astype("uint8").tobytes() for image in expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.zeros((30, 4, 4, 2), "uint8")}, ["(30, 4, 4, 2)", "channels"]),
        ({"x": np.zeros((30, 16), "uint8")}, ["(30, 16)"]),
        ({"x": np.zeros((0, 4, 4), "uint8"), "y": np.zeros(0, int)}, ["(0, 4, 4)"]),
        ({"x": np.full((30, 4, 4), np.nan)}, ["NaN"]),
        ({"x": np.full((30, 4, 4), -1.0)}, ["0..255", "-1.0"]),
        ({"x": np.full((30, 4, 4), 4000, "uint16")}, ["0..255", "4000"]),
        ({"x": np.full((30, 4, 4), "a")}, ["finite numbers"]),
        ({"y": np.arange(29) % 3}, ["(30, 6, 5, 3)", "labels (29,)"]),
        ({"y": np.array(3)}, ["labels ()"]),
        ({"x": np.array(3)}, ["shape ()"]),
        ({"y": np.arange(30) % 3 - 1}, ["at least 0", "-1"]),
        ({"y": np.arange(30) % 3, "label_names": np.array(["a", "b"])}, ["in 0..1", "0 to 2"]),
        ({"y": np.eye(3)[np.arange(30) % 3]}, ["one-hot"]),
        ({"y": np.arange(30) / 3}, ["integers or strings"]),
        ({"y": np.zeros(30, int)}, ["two classes"]),
        ({"y": np.array([0] * 28 + [1] * 2)}, ["Class '1' has 2", "training and test and validation"]),
        ({"y": np.array([0, 1, None] * 10)}, ["Python objects", "never unpickled"]),
    ],
)
def test_npz_refused(change, words, tmp_path):
    refusal(*words, source=npz(tmp_path, **{**sample(), **change}))


def test_npz_files_that_are_none(tmp_path):
    refusal("does not exist", source=tmp_path / "no.npz")
    refusal("x_train", "Received: a", source=npz(tmp_path, a=np.zeros(3)))
    path = tmp_path / "set.npz"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    refusal("none of them", source=path)
    path.write_bytes(b"PK\x03\x04 damaged")
    refusal("cannot be read", source=path)
    path.write_bytes(b"")
    refusal("cannot be read", source=path)
    path.write_bytes(b"text that is no array")
    refusal("no .npz file", source=path)
    good = npz(tmp_path, **sample())
    content = bytearray(good.read_bytes())
    content[400:420] = bytes(20)
    good.write_bytes(content)
    refusal("cannot be read", source=good)


def test_npz_members_of_parts_must_fit(tmp_path):
    x, y = sample().values()
    refusal("one shape", source=npz(tmp_path, x_train=x, y_train=y, x_test=x[:, :4], y_test=y))
    refusal("one shape and kind", source=npz(tmp_path, x_train=x, y_train=y, x_test=x / 255, y_test=y))
    refusal("Class '5' has 0", source=npz(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y + 5))
    refusal("both", source=npz(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y.astype("U")))


def test_keras_datasets(monkeypatch):
    x, y = RNG.integers(0, 256, (60, 28, 28), "uint8"), np.arange(60) % 10
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: ((x[:40], y[:40].astype("uint8")), (x[40:], y[40:].astype("uint8"))))
    found = load("fashion_mnist")
    assert found.class_names[9] == "Ankle boot" and found.image_shape == (28, 28, 1) and sum(found.counts["test"]) == 20

    def fail():
        raise Exception("URL fetch failure on https://example.org")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    refusal("could not be downloaded", "URL fetch failure", source="mnist")


def test_unknown_sources(tmp_path):
    refusal("Did you mean 'digits'", source="digit")
    refusal("Did you mean 'cifar10'", source="CIFAR_10")
    refusal("neither a folder", source=str(tmp_path / "nowhere"))
    (tmp_path / "a.csv").write_text("1,2")
    refusal("Received the file", source=tmp_path / "a.csv")
    refusal("`image_size`", source="digits", image_size=0)
    refusal("`image_size`", source="digits", image_size=(8, 8, 1))
    refusal("`validation`", source="digits", validation=0.6, test=0.5)
    refusal("`validation`", source="digits", test=0)


def draw_kinds(root):
    """Class folders whose files are of every kind that is read, and the number of each."""
    (root / "a").mkdir(parents=True)
    (root / "b" / "deeper").mkdir(parents=True)
    rgb, grey = Image.fromarray(picture(40, 30)), Image.fromarray(picture(40, 30, 1).squeeze())
    for place in (root / "a", root / "b", root / "b" / "deeper"):
        rgb.save(place / "rgb.jpg")
        grey.save(place / "grey.jpeg")
        rgb.convert("CMYK").save(place / "cmyk.jpg")
        rgb.save(place / "rgb.bmp")
        rgb.save(place / "still.GIF")
        grey.save(place / "moving.gif", save_all=True, append_images=[grey.rotate(90), grey.rotate(180)])
        rgb.save(place / "rgb.webp")
        rgb.save(place / "rgb.tiff")
        rgb.quantize(16).save(place / "palette.png", transparency=3)
        rgb.convert("RGBA").save(place / "alpha.png")
        grey.convert("LA").save(place / "grey alpha.png")
        grey.convert("1").save(place / "bit.png")
        Image.fromarray(picture(40, 30, 1).squeeze().astype("uint16") * 257).save(place / "16 bit.png")
        Image.new("RGB", (1, 1), "red").save(place / "pixel.png")
        Image.new("L", (3000, 2), 200).save(place / "wide.png")
        (place / "notes.txt").write_text("no image")
        (place / ".hidden.png").write_bytes(b"")
    (root / ".git" / "x").mkdir(parents=True)
    rgb.save(root / ".git" / "x" / "y.png")
    rgb.save(root / "loose.png")
    (root / "empty").mkdir()
    return {"a": 15, "b": 30}


def test_a_folder_of_every_kind_of_image(tmp_path):
    counts = draw_kinds(tmp_path)
    found = load(tmp_path)
    assert found.class_names == ["a", "b"] and found.skipped == [] and found.name == tmp_path.name
    assert [sum(pair) for pair in zip(*found.counts.values(), strict=True)] == list(counts.values())
    assert found.image_shape == (32, 32, 3) or found.image_shape[0] in range(30, 41)
    for part in PARTS:
        x, y = found.arrays(part)
        assert x.dtype == "uint8" and np.bincount(y, minlength=2).tolist() == found.counts[part]


def test_streamed_and_decoded_folders_are_the_same(tmp_path, monkeypatch):
    draw_kinds(tmp_path)
    decoded = load(tmp_path, image_size=16)
    monkeypatch.setattr(data, "DECODED_AT_LOAD", 0)
    kept = load(tmp_path, image_size=16)
    monkeypatch.setattr(data, "KEPT_BYTES", 0)
    streamed = load(tmp_path, image_size=16)
    assert decoded.fingerprint() == kept.fingerprint() == streamed.fingerprint()
    assert decoded.train.cardinality() == sum(decoded.counts["train"]) and streamed.train.cardinality() == tf.data.UNKNOWN_CARDINALITY
    for part in PARTS:
        for other in (kept, kept, streamed):
            for a, b in zip(decoded.arrays(part), other.arrays(part), strict=True):
                np.testing.assert_array_equal(a, b)
    batches = [y.numpy() for _, y in streamed.batches("train", 8, shuffle=True)]
    assert sum(map(len, batches)) == sum(streamed.counts["train"])


def test_damaged_files_are_listed_and_skipped(tmp_path, monkeypatch):
    noise = RNG.integers(0, 256, (2, 9, 60, 60, 3), "uint8")
    folder(tmp_path, {"a": 9, "b": 9}, lambda name, i: noise["ab".index(name), i], ".jpg")
    (tmp_path / "a" / "000.jpg").write_bytes(b"no image at all")
    (tmp_path / "a" / "001.jpg").write_bytes(b"")
    whole = (tmp_path / "b" / "008.jpg").read_bytes()
    (tmp_path / "b" / "008.jpg").write_bytes(whole[: len(whole) // 2])
    found = load(tmp_path)
    assert sorted(Path(path).name for path, _ in found.skipped) == ["000.jpg", "001.jpg", "008.jpg"]
    assert all(reason for _, reason in found.skipped)
    assert [sum(pair) for pair in zip(*found.counts.values(), strict=True)] == [7, 8]

    monkeypatch.setattr(data, "DECODED_AT_LOAD", 0)
    for kept in (data.KEPT_BYTES, 0):
        monkeypatch.setattr(data, "KEPT_BYTES", kept)
        streamed = load(tmp_path)
        assert len(streamed.skipped) == 2 and sum(map(sum, streamed.counts.values())) == 16
        for _ in range(2):
            pairs = [pair for part in PARTS for pair in zip(*streamed.arrays(part), strict=True)]
            assert len(pairs) == 15 and len(streamed.skipped) == 3
        assert sum(map(sum, streamed.counts.values())) == 15
        assert [sum(pair) for pair in zip(*streamed.counts.values(), strict=True)] == [7, 8]
        known = {data._resized(read_image(tmp_path / name / f"{i:03d}.jpg", 3)[None], streamed.image_shape[:2]).tobytes(): label
                 for label, name in enumerate("ab") for i in range(9) if not (name == "a" and i < 2 or name == "b" and i == 8)}  # fmt: skip
        assert all(known[image[None].tobytes()] == label for image, label in pairs)


def test_parts_given_as_folders(tmp_path):
    for part, count in (("train", 8), ("val", 3), ("test", 2)):
        folder(tmp_path / part, {"a": count, "b": count})
    assert load(tmp_path).counts == {"train": [8, 8], "validation": [3, 3], "test": [2, 2]}
    for path in list((tmp_path / "val").rglob("*.png")):
        path.unlink()
    assert load(tmp_path, validation=0.25).counts == {"train": [6, 6], "validation": [2, 2], "test": [2, 2]}
    folder(tmp_path / "test", {"c": 1})
    refusal("Class 'c' has 0", source=tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    folder(tmp_path, {"train": 4, "car": 4, "test": 4})
    assert load(tmp_path).class_names == ["car", "test", "train"]


def test_folders_refused(tmp_path):
    refusal("one folder of images per class", "0 images", source=tmp_path)
    Image.fromarray(picture(8, 8)).save(tmp_path / "loose.png")
    refusal("1 images, none of them in such a folder", source=tmp_path)
    folder(tmp_path, {"a": 4})
    refusal("two classes", "a", source=tmp_path)
    folder(tmp_path, {"b": 1})
    refusal("Class 'b' has 1", source=tmp_path)
    bad = tmp_path / "bad"
    for name in "ab":
        (bad / name).mkdir(parents=True)
        (bad / name / "x.png").write_bytes(b"x")
    refusal("no readable image", "cannot identify", source=bad)


def test_three_images_per_class_are_enough(tmp_path):
    found = load(folder(tmp_path, {"a": 3, "b": 4}), validation=0.45, test=0.45)
    assert found.counts == {"train": [1, 1], "validation": [1, 1], "test": [1, 2]}


def test_channels_and_size_come_from_the_images(tmp_path):
    def grey(name, i):
        return np.repeat(picture(20, 30, 1), 3, -1)

    assert load(folder(tmp_path / "grey", {"a": 4, "b": 4}, grey)).image_shape == (25, 25, 1)
    assert load(folder(tmp_path / "gif", {"a": 4, "b": 4}, lambda name, i: picture(20, 30, 1), ".gif")).image_shape == (25, 25, 1)
    assert load(folder(tmp_path / "one", {"a": 4, "b": 4}, lambda name, i: picture(20, 30) if (name, i) == ("b", 3) else grey(name, i))).image_shape[2] == 3
    assert load(folder(tmp_path / "large", {"a": 4, "b": 4}, lambda name, i: picture(300, 200))).image_shape == (96, 96, 3)
    assert load(folder(tmp_path / "small", {"a": 4, "b": 4}, lambda name, i: picture(1, 2, 1))).image_shape == (8, 8, 1)
    assert load(tmp_path / "large", image_size=(10, 20)).image_shape == (10, 20, 3)


def test_read_image(tmp_path):
    path = tmp_path / "x.png"
    turned = Image.new("RGB", (20, 10), "blue")
    turned.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    turned.save(path, exif=exif)
    pixels = read_image(path, 3)
    assert pixels.shape == (20, 10, 3) and pixels[0, -1].tolist() == [255, 0, 0] and pixels[0, 0].tolist() == [0, 0, 255]
    assert read_image(path, 1).shape == (20, 10, 1)

    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(path)
    assert (read_image(path, 3) == 255).all() and (read_image(path, 1) == 255).all()
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(path)
    assert (read_image(path, 3) == 204).all()
    Image.fromarray(np.array([[0, 128, 65535]], "uint16")).save(path)
    assert read_image(path, 1)[0, :, 0].tolist() == [0, 0, 255] and read_image(path, 3)[0, 2].tolist() == [255] * 3
    Image.fromarray(np.array([[True, False]])).save(path)
    assert read_image(path, 1)[0, :, 0].tolist() == [255, 0]
    Image.fromarray(np.array([[0.5]], "float32")).save(tmp_path / "x.tiff")
    for bad, word in ((tmp_path / "x.tiff", "floating"), (tmp_path / "none.png", "FileNotFoundError"), (tmp_path, "Directory")):
        with pytest.raises(ValueError, match=word):
            read_image(bad, 1)
    with pytest.raises(ValueError, match="`channels`"):
        read_image(path, 4)


def test_huge_images_are_read_and_refused_ones_listed(tmp_path):
    folder(tmp_path, {"a": 4, "b": 4}, lambda name, i: picture(8, 8, 1))
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a" / "huge.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "b" / "bomb.png")
    found = load(tmp_path, image_size=8)
    assert sum(map(sum, found.counts.values())) == 9
    ((path, reason),) = found.skipped
    assert path.endswith("bomb.png") and "DecompressionBomb" in reason


def classifier(shape, classes):
    keras.utils.set_random_seed(0)
    layers = [keras.Input(shape), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(classes, "softmax")]
    model = keras.Sequential(layers)
    model.compile("adam", SmoothedCrossentropy(0.1), metrics=["accuracy"])
    return model


def test_the_raw_pixel_model_agrees_and_survives_saving(tmp_path):
    found = load(folder(tmp_path / "set", {"a": 6, "b": 6, "c": 6}, lambda name, i: RNG.integers(0, 256, (20, 30, 3), "uint8")), image_size=11)
    model = classifier(found.image_shape, 3)
    model.fit(found.batches("train", 4), verbose=0, shuffle=False)
    raw = raw_pixel_model(model, found)
    x, y = found.arrays("test")
    np.testing.assert_allclose(raw.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    paths = sorted((tmp_path / "set").rglob("*.png"))
    pixels = np.stack([read_image(path, 3) for path in paths])
    resized = data._resized(pixels, (11, 11))
    np.testing.assert_allclose(raw.predict(pixels, verbose=0), model.predict(resized, verbose=0), atol=1e-5)
    np.testing.assert_allclose(raw.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), atol=1e-5)

    raw.save(tmp_path / "raw.keras")
    np.savez(tmp_path / "expected.npz", pixels=pixels, probabilities=raw.predict(pixels, verbose=0))
    script = f"""
import numpy as np, keras, keras_optlab.layers
model = keras.models.load_model(r"{tmp_path / "raw.keras"}")
expected = np.load(r"{tmp_path / "expected.npz"}")
np.testing.assert_allclose(model.predict(expected["pixels"], verbose=0), expected["probabilities"], atol=1e-5)
assert keras_optlab.layers.class_names(model) == ["a", "b", "c"]
assert model.loss.label_smoothing == 0.1 and model.optimizer.name == "adam"
"""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, capture_output=True)


def test_raw_pixel_model_refuses_what_does_not_fit(digits):
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*Received: \(9, 8, 1\)"):
        raw_pixel_model(classifier((9, 8, 1), 10), digits)
    with pytest.raises(ValueError, match=r"\(10,\).*\(3,\)"):
        raw_pixel_model(classifier((8, 8, 1), 3), digits)
    with pytest.raises(ValueError, match="no class names"):
        class_names(classifier((8, 8, 1), 10))


def test_class_names_layer_keeps_its_config():
    layer = ClassNames(["ä", "<b>", 3])
    assert ClassNames.from_config(layer.get_config()).class_names == ("ä", "<b>", "3")
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(layer(x), x)


def test_smoothed_crossentropy_is_the_dense_one():
    probabilities = RNG.dirichlet(np.ones(5), 7).astype("float32")
    labels = np.arange(7) % 5
    expected = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(np.eye(5)[labels], probabilities)
    for shape in ((7,), (7, 1)):
        np.testing.assert_allclose(SmoothedCrossentropy(0.2)(labels.reshape(shape), probabilities), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="label_smoothing"):
        SmoothedCrossentropy(1.0)


def test_a_pipe_among_the_images_is_skipped(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.full((8, 8), 40 * i, "uint8")).save(tmp_path / name / f"{i}.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert [Path(path).name for path, _ in load(tmp_path).skipped] == ["pipe.png"]
