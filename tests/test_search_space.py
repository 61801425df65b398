import keras_tuner
import numpy as np
import pytest

from keras_optlab.search.space import LISTED, Space, differences


def everything() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.Choice("optimizer", ["sgd", "adam", "lion"])
    for name in ("sgd", "adam", "lion"):
        with hp.conditional_scope("optimizer", [name]):
            hp.Float(f"{name}/rate", 1e-5, 1.0, sampling="log")
            hp.Boolean(f"{name}/clip")
            with hp.conditional_scope(f"{name}/clip", [True]):
                hp.Float(f"{name}/norm", 0.1, 10.0, step=10, sampling="log")
    hp.Int("layers", 0, 10, step=3)
    hp.Int("batch", 2, 32, step=2, sampling="log")
    hp.Int("small", 1, 4, sampling="log")
    hp.Int("width", 1, 10**6, sampling="log")
    hp.Int("many", 0, 10**6, step=7)
    hp.Float("dropout", 0, 1, step=0.1)
    hp.Float("momentum", 0.1, 0.99, sampling="reverse_log")
    hp.Float("ratio", 0.1, 0.8, step=2, sampling="reverse_log")
    hp.Choice("size", [16, 32, 64])
    hp.Fixed("epochs", 3)
    hp.Float("one", 2.0, 2.0)
    return hp


def test_every_kind_survives_the_way_there_and_back():
    hp = everything()
    space = Space(hp.space)
    rows = space.draw(np.random.default_rng(0).random((200, len(space))))
    for row in rows:
        values = space.decode(row)
        assert np.allclose(space.encode([values])[0], row, atol=1e-12)
        kept = keras_tuner.HyperParameters.from_config(hp.get_config() | {"values": dict(values)})
        kept.ensure_active_values()
        assert kept.values == values  # exactly the active parameters, by KerasTuner's own rules
        assert type(values["width"]) is int and 1 <= values["width"] <= 10**6
        assert values["many"] % 7 == 0 and values["layers"] in (0, 3, 6, 9) and values["batch"] in (2, 4, 8, 16, 32)
        assert values["dropout"] in [i / 10 for i in range(11)] and 0.1 <= values["momentum"] <= 0.99
        assert values["ratio"] in (0.1, 0.5, 0.7, 0.8)


def test_all_values_are_drawn_equally_often():
    hp = keras_tuner.HyperParameters()
    hp.Int("n", 1, 3)
    hp.Choice("c", ["a", "b", "c", "d"])
    space = Space(hp.space)
    values = [space.decode(row) for row in space.draw(np.random.default_rng(0).random((3000, 2)))]
    assert all(abs(sum(v["n"] == n for v in values) / 3000 - 1 / 3) < 0.04 for n in (1, 2, 3))
    assert all(abs(sum(v["c"] == c for v in values) / 3000 - 1 / 4) < 0.04 for c in "abcd")


def test_scales_are_those_of_keras_tuner():
    hp = keras_tuner.HyperParameters()
    hp.Float("log", 1e-4, 1.0, sampling="log")
    hp.Float("reverse", 0.01, 1.0, sampling="reverse_log")
    hp.Float("linear", -3.0, 5.0)
    space = Space(hp.space)
    for parameter in space.parameters:
        theirs = next(p for p in hp.space if p.name == parameter.name)
        for u in (0.0, 0.1, 0.5, 0.9, 1.0):
            assert parameter.value(u) == pytest.approx(theirs.prob_to_value(u))


def test_inactive_parameters_do_not_tell_configurations_apart():
    space = Space(everything().space)
    values = space.decode(space.start())
    other = values | {f"{name}/rate": 0.5 for name in ("adam", "lion")}
    assert values["optimizer"] == "sgd" and np.array_equal(space.encode([values]), space.encode([other]))


def test_the_order_of_declaration_does_not_matter():
    hp = everything()
    values = Space(hp.space).decode(Space(hp.space).start())
    assert Space(list(reversed(hp.space))).decode(Space(list(reversed(hp.space))).start()) == values


def test_the_start_is_the_declared_default_or_the_middle():
    hp = keras_tuner.HyperParameters()
    hp.Float("declared", 1e-5, 1.0, sampling="log", default=1e-3)
    hp.Float("not_declared", 1e-4, 1.0, sampling="log")
    hp.Choice("first", ["a", "b", "c"])
    space = Space(hp.space)
    assert space.decode(space.start()) == pytest.approx({"declared": 1e-3, "not_declared": 1e-2, "first": "a"})


def test_a_conditional_tree_is_listed_without_its_inactive_branches():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", [f"k{i}" for i in range(10)])
    for i in range(10):
        with hp.conditional_scope("kind", [f"k{i}"]):
            hp.Int(f"k{i}/n", 1, 3)
    rows = Space(hp.space).listing()  # the product of all parameters has 590,490 rows
    assert len(rows) == len(np.unique(rows, axis=0)) == 30
    hp.Int("large", 1, LISTED)
    assert Space(hp.space).listing() is None


def test_one_name_under_two_conditions():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Int("n", 1, 5)
    with hp.conditional_scope("kind", ["b"]):
        hp.Float("n", 0.1, 0.9)
    space = Space(hp.space)
    for values in ({"kind": "a", "n": 5}, {"kind": "b", "n": 0.25}):
        assert space.decode(space.encode([values])[0]) == pytest.approx(values)


def test_distributions_hold_the_values():
    space = Space(everything().space)
    for row in space.draw(np.random.default_rng(1).random((50, len(space)))):
        values = space.decode(row)
        kept = {name: (value, distribution) for name, _, value, distribution in space.for_optuna(values)}
        assert set(kept) == set(values) - {"epochs", "one"}
        for value, distribution in kept.values():
            inner = distribution.to_internal_repr(value)
            assert distribution.to_external_repr(inner) == value and not distribution.single()


def test_unknown_kinds_are_refused():
    class Odd(keras_tuner.engine.hyperparameters.HyperParameter):
        pass

    with pytest.raises(TypeError, match="`odd` must be a Choice"):
        Space([Odd("odd")])


def test_differences_are_listed():
    def space(high, extra):
        hp = keras_tuner.HyperParameters()
        hp.Float("x", 0.0, high)
        if extra:
            hp.Boolean(extra)
        return hp.get_config()["space"]

    assert differences(space(1.0, "a"), space(1.0, "a")) == []
    found = " ".join(differences(space(1.0, "a"), space(2.0, "b")))
    assert "`x` was Float" in found and "max_value=2.0" in found and "`a` Boolean(default=False) is gone" in found and "`b`" in found
    assert len(differences(space(1.0, "a"), space(2.0, "b"), complete=False)) == 1
