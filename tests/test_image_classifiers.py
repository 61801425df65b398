"""The searched image classifiers: their space, their training, their code, and the layer that moves images."""

import json
import math
import runpy

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from keras_optlab.data import load
from keras_optlab.layers import RandomAffine, raw_pixel_model
from keras_optlab.search import ImageClassifier, Infeasible, Tuner
from keras_optlab.search.families import FAMILIES
from keras_optlab.search.image_classifiers import TRAININGS, usual_speed


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def chosen(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = {name.replace("__", "/"): value for name, value in values.items()}
    return hp


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 8, 1), (28, 28, 1), (10, 200, 3), (96, 96, 3)])
def test_every_shape_builds_and_runs(shape, family):
    model = ImageClassifier(shape, 5, 3000, families=(family,)).build(keras_tuner.HyperParameters())
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("uint8")
    probabilities = keras.ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert model.count_params() < 2e6
    for layer in model.layers:
        assert not isinstance(layer, keras.layers.BatchNormalization) or layer.momentum < 0.97


def test_the_space():
    hp = keras_tuner.HyperParameters()
    model = ImageClassifier((8, 8, 1), 10, 1259).build(hp)
    assert hp.values["family"] == "conv" and hp.values["optimizer"] == "adamw" and hp.values["flip"] is False
    assert {"conv/width", "conv/depth", "adamw/learning_rate", "dropout", "label_smoothing", "augmentation", "batch_size", "schedule"} <= set(hp.values)
    assert not any(name.startswith(("residual/", "lion/", "muon/")) for name in hp.values)
    assert {"residual/width", "lion/learning_rate", "muon/learning_rate", "sgdw/momentum"} <= {parameter.name for parameter in hp.space}
    warmup = model.optimizer.get_config()["learning_rate"]["config"]
    assert warmup["steps"] + warmup["learning_rate"]["config"]["steps"] == 20 * 40
    model = ImageClassifier((8, 8, 1), 10, 1259).build(chosen(epochs=30))
    assert model.optimizer.get_config()["learning_rate"]["config"]["learning_rate"]["config"]["steps"] == 30 * 40 - 120
    assert json.loads(json.dumps(hp.get_config())) == hp.get_config()


@pytest.mark.parametrize("family", FAMILIES)
def test_large_images_and_little_time_build(family):
    hypermodel = ImageClassifier((1000, 700, 3), 5, 50_000, families=(family,), minutes=1, memory_limit=2**40)
    assert hypermodel.epochs == 2 and hypermodel.widths[family] == FAMILIES[family].WIDTHS[0]
    hypermodel.build(chosen(**{f"{family}__width": hypermodel.widths[family] // 2}))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_its_own_sizes(family):
    hp = keras_tuner.HyperParameters()
    hypermodel = ImageClassifier((16, 16, 1), 10, 3000, families=(family,))
    usual = hypermodel.build(hp).count_params()
    assert {n for n in hp.values if "/" in n and n.split("/")[0] in FAMILIES} >= {f"{family}/width", f"{family}/depth"}
    assert not any(parameter.name.split("/")[0] in set(FAMILIES) - {family} for parameter in hp.space)
    for change in ({"width": hp.get(f"{family}/width") * 3 // 2}, {"depth": FAMILIES[family].DEPTHS[2]}):
        assert hypermodel.build(chosen(**{f"{family}__{name}": value for name, value in change.items()})).count_params() > usual
    if FAMILIES[family].STOCHASTIC_DEPTHS[1:]:
        model = hypermodel.build(chosen(**{f"{family}__stochastic_depth": 0.2}))
        rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.noise_shape]
        assert rates and rates == sorted(rates) and rates[-1] == 0.2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (64, 64, 3)])
def test_operations_are_those_of_the_model(family, shape):
    """All but stems and heads are counted: within a third of what the kernels of the built model say."""
    width, depth = FAMILIES[family].WIDTHS[1], FAMILIES[family].DEPTHS[1]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, FAMILIES[family].features(inputs, width, depth, 0.9, 0.0))
    counted = 0
    for layer in model.layers:
        positions = math.prod(layer.output.shape[1:-1])
        if isinstance(layer, keras.layers.MultiHeadAttention):
            counted += sum(math.prod(v.shape) for v in layer.trainable_weights if "kernel" in v.path) * positions + 2 * positions**2 * width
        else:
            counted += sum(math.prod(v.shape) for v in layer.trainable_weights if "kernel" in v.path) * positions
    assert 0.67 < FAMILIES[family].operations(shape[:2], width, depth) / counted < 1.5


def test_minutes_scale_the_space():
    def sizes(**arguments):
        hypermodel = ImageClassifier((32, 32, 3), 10, 20_000, families=tuple(FAMILIES), **arguments)
        return hypermodel, [hypermodel.epochs, *hypermodel.widths.values()]

    before = None
    for minutes in (2, 20, 200, 20_000):
        hypermodel, now = sizes(minutes=minutes, speed=1e11)
        assert before is None or all(a <= b for a, b in zip(before, now)) and now != before
        budget = 1e11 * 60 * minutes / TRAININGS
        if minutes > 20:
            assert all(hypermodel._cost(family, width, hypermodel.epochs) < 1.4 * budget for family, width in hypermodel.widths.items())
        before = now
    assert sizes(minutes=10, speed=1e11)[1] == sizes(minutes=10, speed=1e11)[1] < sizes(minutes=10, speed=1e12)[1]
    assert sizes(minutes=10, epochs=3)[0].epochs == 3
    assert usual_speed() >= 5e10
    unchanged = [ImageClassifier((8, 8, 1), 10, 1259, minutes=minutes, speed=1e11) for minutes in (None, 3)]
    assert unchanged[0].epochs == unchanged[1].epochs and unchanged[0].widths["conv"] == unchanged[1].widths["conv"]
    hp = keras_tuner.HyperParameters()
    sizes(minutes=10, epochs=3)[0].build(hp)
    assert hp.get("epochs") == 3


def test_a_model_without_room_is_infeasible():
    hypermodel = ImageClassifier((28, 28, 1), 10, 3000, memory_limit=60 * 2**20)
    hypermodel.build(chosen(batch_size=32, conv__width=16, conv__depth=1))
    with pytest.raises(Infeasible, match=r"MiB.*limit is 60 MiB.*Received: `batch_size` 128"):
        hypermodel.build(chosen(batch_size=128, conv__width=48, conv__depth=3))
    assert issubclass(Infeasible, MemoryError)


@pytest.mark.slow
def test_a_search_meets_the_wall_without_running_into_it(tmp_path):
    class Untrained(ImageClassifier):
        def fit(self, hp, model, *args, **kwargs):
            return {"val_accuracy": float(hp.get("conv/width"))}

    hypermodel = Untrained((28, 28, 1), 10, 3000, families=("conv",), memory_limit=150 * 2**20)
    tuner = Tuner(hypermodel, objective=keras_tuner.Objective("val_accuracy", "max"), sampler="random", max_trials=5, seed=0, directory=tmp_path)
    tuner.search(verbose=0)
    failed = [record for record in tuner.records() if record["error"]]
    assert 0 < len(failed) < 5 and all(record["error"].startswith("Infeasible: Training would take some") for record in failed)
    with pytest.raises(Infeasible, match="a larger limit can be given"):
        Tuner(Untrained((28, 28, 1), 10, 3000, memory_limit=2**20), objective="val_accuracy", max_trials=2, directory=tmp_path, project_name="none")


def test_sizes_follow_from_the_data():
    small, medium, large = (ImageClassifier((32, 32, 3), 10, size) for size in (100, 3000, 50_000))
    assert small.epochs > medium.epochs > large.epochs
    widths = []
    for hypermodel in (small, medium, large):
        hp = keras_tuner.HyperParameters()
        hypermodel.build(hp)
        widths.append((hp.values["batch_size"], -hp.values["conv/width"]))
    assert widths == sorted(widths) and widths[0] != widths[-1]
    assert ImageClassifier((8, 8, 1), 10, epochs=3).epochs == 3


def test_families_and_optimizers_can_be_chosen():
    hp = keras_tuner.HyperParameters()
    model = ImageClassifier((8, 8, 1), 10, 500, optimizers=("lion",), families=("residual",)).build(hp)
    assert type(model.optimizer).__name__ == "Lion" and any(isinstance(layer, keras.layers.Add) for layer in model.layers)
    assert not any(parameter.name.startswith(("conv/", "adamw/")) for parameter in hp.space)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"families": ("conv", "vti")}, "families"),
        ({"minutes": 0}, "minutes"),
        ({"speed": math.nan}, "speed"),
        ({"memory_limit": 0}, "memory_limit"),
        ({"families": ()}, "families"),
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"classes": 1}, "classes"),
        ({"train_size": 0}, "train_size"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_arguments_refused(change, word):
    with pytest.raises(ValueError, match=rf"ImageClassifier\({word}=.*Received"):
        ImageClassifier(**{"image_shape": (8, 8, 1), "classes": 10, **change})


class Model(keras.Sequential):
    """Notes what `fit` is given."""

    def fit(self, x=None, y=None, batch_size=None, epochs=1, shuffle=True, validation_data=None, callbacks=None):
        self.given = {
            "x": x,
            "y": y,
            "batch_size": batch_size,
            "epochs": epochs,
            "shuffle": shuffle,
            "validation_data": validation_data,
            "callbacks": callbacks,
        }


@pytest.mark.parametrize("kind", ["arrays", "ImageData", "single", "batched"])
def test_fit_takes_every_kind_of_data(kind, digits):
    hypermodel, model, hp = ImageClassifier(digits.image_shape, 10, 1259), Model(), chosen(batch_size=50)
    x, y = digits.arrays("train")
    arguments = {
        "arrays": ((x, y), {"validation_data": digits.arrays("validation")}),
        "ImageData": ((digits,), {}),
        "single": ((digits.train,), {"validation_data": digits.validation}),
        "batched": ((digits.batches("train", 7),), {"validation_data": digits.batches("validation", 7), "epochs": 2}),
    }[kind]
    hypermodel.fit(hp, model, *arguments[0], callbacks=["c"], **arguments[1])
    given = model.given
    assert given["callbacks"] == ["c"] and given["epochs"] == (2 if kind == "batched" else hypermodel.epochs)
    if kind == "arrays":
        assert given["batch_size"] == 50 and given["x"] is x and given["shuffle"] is True
        return
    size = 7 if kind == "batched" else 50
    assert given["batch_size"] is None and given["shuffle"] is False
    for data, part in ((given["x"], "train"), (given["validation_data"], "validation")):
        labels = [labels.numpy() for _, labels in data]
        assert len(labels[0]) == size and np.bincount(np.concatenate(labels)).tolist() == digits.counts[part]
    if kind != "batched":
        first, second = (np.concatenate([labels.numpy() for _, labels in given["x"]]) for _ in range(2))
        assert not np.array_equal(first, second) and not np.array_equal(first, y)


def test_a_given_batch_size_and_sample_weights_pass(digits):
    model, x = Model(), np.zeros((8, 8, 8, 1))
    ImageClassifier(digits.image_shape, 10).fit(chosen(batch_size=50), model, x, np.zeros(8), 4)
    assert model.given["batch_size"] == 4
    weighted = tf.data.Dataset.from_tensor_slices((x, np.zeros(8), np.ones(8)))
    ImageClassifier(digits.image_shape, 10).fit(chosen(batch_size=3), model, x=weighted, epochs=1)
    assert [len(batch) for *_, batch in model.given["x"]] == [3, 3, 2]


def test_training_learns_and_the_saved_model_is_the_same(digits, tmp_path):
    keras.utils.set_random_seed(0)
    hypermodel, hp = ImageClassifier(digits.image_shape, 10, 1259, epochs=3), keras_tuner.HyperParameters()
    model = hypermodel.build(hp)
    history = hypermodel.fit(hp, model, digits, verbose=0).history
    assert len(history["loss"]) == 3 and max(history["val_accuracy"]) > 0.8
    raw_pixel_model(model, digits).save(tmp_path / "digits.keras")
    x, y = digits.arrays("test")
    loaded = keras.models.load_model(tmp_path / "digits.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert loaded.evaluate(x, y, verbose=0)[1] == pytest.approx(model.evaluate(x, y, verbose=0)[1])


def nameless(config):
    """Keras numbers the names of objects that it makes itself."""
    return {key: nameless(value) for key, value in config.items() if key != "name"} if isinstance(config, dict) else config


CONFIGURATIONS = [
    {},
    {
        "augmentation": 0.0,
        "flip": True,
        "optimizer": "lion",
        "lion/learning_rate": 3e-4,
        "conv/width": 16,
        "conv/depth": 1,
        "label_smoothing": 0.0,
        "batch_size": 16,
    },
    {"family": "residual", "residual/width": 16, "residual/depth": 2, "optimizer": "muon", "schedule": "one_cycle", "dropout": 0.0},
    {"family": "convnext", "convnext/width": 16, "convnext/stochastic_depth": 0.1, "epochs": 30},
    {"family": "vit", "vit/width": 24, "vit/stochastic_depth": 0.2, "vit/depth": 2},
    {"family": "residual", "optimizer": "sgdw", "sgdw/learning_rate": 0.1, "sgdw/weight_decay": 1e-3, "schedule": "constant"},
]


@pytest.mark.parametrize("values", CONFIGURATIONS)
def test_the_code_builds_the_same_model(values, tmp_path):
    hypermodel = ImageClassifier((64, 48, 3) if "flip" in values else (8, 8, 1), 10, 1259, families=tuple(FAMILIES))
    hp = chosen(**values)
    model, text = hypermodel.build(hp), hypermodel.code(values)
    (tmp_path / "pasted.py").write_text(text)
    pasted = runpy.run_path(tmp_path / "pasted.py")
    other = pasted["model"]
    assert (pasted["batch_size"], pasted["epochs"]) == (hp.get("batch_size"), hp.get("epochs"))
    assert other.count_params() == model.count_params()
    assert nameless(other.optimizer.get_config()) == nameless(model.optimizer.get_config())
    assert other.loss.get_config() == model.loss.get_config()
    for a, b in zip(model.layers, other.layers, strict=True):
        assert type(a) is type(b) and {**a.get_config(), "name": ""} == {**b.get_config(), "name": ""}
    other.set_weights(model.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (3, *hypermodel.image_shape))
    np.testing.assert_allclose(other.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_code_attaches_what_needs_it(tmp_path):
    hypermodel = ImageClassifier((8, 8, 1), 10, 100, optimizers=("schedulefreeadamw",), epochs=1)
    (tmp_path / "pasted.py").write_text(hypermodel.code({"conv/depth": 1, "conv/width": 8}))
    x, y = np.zeros((8, 8, 8, 1)), np.zeros(8)
    for model in (runpy.run_path(tmp_path / "pasted.py")["model"], hypermodel.build(chosen(conv__depth=1, conv__width=8))):
        assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()


def moved(images, **amounts):
    layer = RandomAffine(**{"shift": 0, "zoom": 0, "rotation": 0, "seed": 1, **amounts})
    return keras.ops.convert_to_numpy(layer(images, training=True))


def test_random_affine_moves_each_image_in_its_own_way():
    x = np.tile(np.arange(21.0)[None, None, :, None], (6, 21, 1, 1)).astype("float32")
    shifted = moved(x, shift=0.2)
    steps = shifted[:, 10, 10, 0] - 10
    assert np.abs(steps).max() <= 0.2 * 21 + 1e-4 and len(np.unique(np.round(steps, 3))) == 6
    np.testing.assert_allclose(shifted[:, 6:15, 8:13], x[:, 6:15, 8:13] + steps[:, None, None, None], atol=1e-3)
    zoomed = moved(x, zoom=0.5)
    np.testing.assert_allclose(zoomed[:, 10, 10, 0], 10, atol=1e-4)
    slopes = zoomed[:, 10, 11, 0] - 10
    assert np.abs(slopes - 1).max() <= 0.5 + 1e-4 and np.ptp(slopes) > 0.2
    turned = moved(x, rotation=0.25)
    lengths = np.hypot(turned[:, 10, 11, 0] - 10, turned[:, 11, 10, 0] - 10)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)


def test_random_affine_leaves_images_alone_when_it_should():
    x = np.random.default_rng(0).uniform(0, 255, (2, 7, 9, 3)).astype("float32")
    np.testing.assert_allclose(moved(x), x, atol=1e-3)
    layer = RandomAffine(0.2, 0.2, 0.1)
    np.testing.assert_array_equal(layer(x), x)
    assert not np.allclose(layer(x, training=True), x)
    assert RandomAffine.from_config(layer.get_config()).get_config() == layer.get_config()
    np.testing.assert_array_equal(moved(x, shift=0.1), moved(x, shift=0.1))
    with pytest.raises(ValueError, match=r"RandomAffine\(zoom=...\).*Received: 1"):
        RandomAffine(0, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_defaults_reach_97_percent_on_digits(seed):
    keras.utils.set_random_seed(seed)
    data, hp = load("digits", seed=seed), keras_tuner.HyperParameters()
    hypermodel = ImageClassifier(data.image_shape, 10, sum(data.counts["train"]))
    model = hypermodel.build(hp)
    hypermodel.fit(hp, model, data, verbose=0)
    assert model.evaluate(data.batches("test", 256), verbose=0)[1] >= 0.97
