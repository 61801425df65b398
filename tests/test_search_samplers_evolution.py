"""cmaes, genetic and nsga2, and searches with several objectives."""

import math

import keras_tuner
import numpy as np
import optuna
import pytest

from keras_optlab.search import samplers
from keras_optlab.search.samplers.genetic import Breeding
from keras_optlab.search.samplers.nsga2 import Generations
from keras_optlab.testing.samplers import mixed, search, space


def square(n):
    return space(lambda hp: [hp.Float(f"x{i}", 0.0, 1.0) for i in range(n)])


def tree(hp):
    hp.Choice("kind", ["a", "b", "c"])
    for kind in "abc":
        with hp.conditional_scope("kind", [kind]):
            hp.Float(f"{kind}/rate", 1e-4, 1.0, sampling="log")
    hp.Int("depth", 1, 6)


def growth(values):
    kind = values["kind"]
    return {"a": 0.0, "b": 1.0, "c": 0.6}[kind] - abs(math.log10(values[f"{kind}/rate"]) + 2.5) - 0.1 * abs(values["depth"] - 4)


def bowl(values):
    return -sum((x - c) ** 2 for x, c in zip(values.values(), (0.2, 0.8, 0.6, 0.9), strict=True))


@pytest.mark.parametrize("name", ["cmaes", "genetic"])
@pytest.mark.parametrize("where, score, least", [(square(4), bowl, -0.4), (space(tree), growth, -0.45)])
def test_they_find_more_than_random(name, where, score, least):
    """The median random configuration is at -.66 and -.62."""
    late = [r for seed in range(4) for _, r in search(samplers.get(name), where, 40, score, seed=seed)[25:]]
    assert np.median(late) > least


def test_cmaes_comes_to_the_bottom_of_a_turned_valley():
    def valley(v):
        x, y, z = v.values()
        return -(((x + y - 1.1) * 5) ** 2) - ((x - y + 0.4) ** 2) - ((z - 0.3) ** 2)

    told = search(samplers.get("cmaes"), square(3), 100, valley)
    assert max(r for _, r in told) > -2e-2 and np.median([r for _, r in told[80:]]) > -0.1 > np.median([r for _, r in told[:10]])


@pytest.mark.parametrize("declare", [lambda hp: hp.Float("x", 0.0, 1.0), lambda hp: [hp.Choice(f"c{i}", list("abcde")) for i in range(6)], tree])
def test_cmaes_takes_one_dimension_and_categories_and_conditions(declare):
    score = lambda v: sum(str(x) == "d" or type(x) is float and abs(x - 0.3) < 0.1 for x in v.values())
    told = search(samplers.get("cmaes"), space(declare), 40, score)
    assert len(told) == 40 and np.mean([r for _, r in told[20:]]) > np.mean([r for _, r in told[:10]])


def test_cmaes_goes_on_from_what_another_sampler_found():
    where = square(5)
    score = lambda v: -sum((x - 0.7) ** 2 for x in v.values())
    others = search(samplers.get("random"), where, 40, score)
    told = search(samplers.get("cmaes"), where, 70, score, others)
    assert max(r for _, r in told[40:]) > 0.5 * max(r for _, r in others) and np.median([r for _, r in told[55:]]) > np.median([r for _, r in others])


def test_cmaes_survives_a_far_point_late_in_the_search():
    where = square(3)
    score = lambda v: -sum((x - 0.5) ** 2 for x in v.values())
    told = search(samplers.get("cmaes"), where, 40, score)
    told[-2:] = [({"x0": 0.0, "x1": 1.0, "x2": 0.0}, 9.0), ({"x0": 1.0, "x1": 1.0, "x2": 1.0}, None)]
    told = search(samplers.get("cmaes"), where, 56, score, told)
    assert len(told) == 56 and max(r for _, r in told[48:]) > -0.3


@pytest.mark.parametrize("name", ["cmaes", "genetic", "nsga2"])
def test_they_leave_a_region_that_fails(name):
    told = [r for seed in range(4) for _, r in search(samplers.get(name), square(2), 40, lambda v: v["x0"] if v["x1"] < 0.5 else None, seed=seed)[20:]]
    assert sum(r is None for r in told) < 30  # of 80; chance: 40


def test_a_child_is_made_of_the_best():
    """Without mutations every gene comes from one of the best that succeeded, a conditional one from a parent that used it."""
    told = [({"kind": "b", "b/rate": 10.0 ** (-i / 10), "depth": 2 + i % 2}, float(i)) for i in range(30)]
    told += [({"kind": "c", "c/rate": 0.5, "depth": 6}, None)] * 3 + [({"kind": "a", "a/rate": 0.9, "depth": 1}, -1.0)]
    engine = Breeding(10, seed=0)
    engine.mutations = 0.0
    study = optuna.create_study(sampler=engine, direction="maximize")
    for values, score in told:
        about = {"params": values, "distributions": {n: optuna.distributions.CategoricalDistribution([v]) for n, v in values.items()}}
        about["distributions"] |= {n: optuna.distributions.FloatDistribution(1e-4, 1.0) for n in values if "rate" in n}
        about["distributions"] |= {"depth": optuna.distributions.IntDistribution(1, 6)}
        study.add_trial(optuna.trial.create_trial(value=score or 0.0, constraints={"failed": 1.0 if score is None else -1.0}, **about))
    rates = {values["b/rate"] for values, _ in told[20:30]}
    children = [study.ask().relative_params for _ in range(40)]
    assert {child["b/rate"] for child in children} <= rates and {child["depth"] for child in children} == {2, 3}
    assert np.mean([math.log10(child["b/rate"]) for child in children]) < np.mean(np.log10(list(rates)))  # tournaments


def test_a_mutation_stays_inside_and_moves_at_least_one_level():
    engine = Breeding(10, seed=0)
    for _ in range(300):
        assert engine.mutated(3, optuna.distributions.IntDistribution(1, 5)) in (1, 2, 4, 5)
        assert engine.mutated(1, optuna.distributions.IntDistribution(0, 1)) in (0, 1)
        assert 0 <= engine.mutated(0.99, optuna.distributions.FloatDistribution(0.0, 1.0)) <= 1
        assert engine.mutated("a", optuna.distributions.CategoricalDistribution(list("abc"))) in "bc"


def test_nsga2_selects_generation_by_generation_in_the_order_told():
    sampler = samplers.get("nsga2")(square(2), 0)
    for i in range(30):
        sampler.tell({"x0": i / 30, "x1": 0.5}, [float(i), float(-i)] if i % 10 else None)
    sampler.ask()
    study = sampler.study()
    assert isinstance(study.sampler, Generations)
    assert [t.number for t in study.sampler.get_population(study, 1)] == list(range(12, 24))
    parents = study.sampler.get_parent_population(study, 2)
    assert len(parents) == 12 and all(t.number < 24 and t.number % 10 for t in parents)  # failures are never parents


def test_nsga2_takes_a_history_of_thousands():
    sampler = samplers.get("nsga2")(square(1), 0)
    for i in range(2500):
        sampler.tell({"x0": i / 2500}, float(i))
    assert sampler.ask()["x0"] > 0.5  # the generations are gone through one after the other, not by recursion


def volume(points, reference=(0.0, 0.0)):
    """Area dominated by points of two objectives."""
    area, height = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        if y > height:
            area, height = area + (x - reference[0]) * (y - height), y
    return area


def goals(values):
    x, y = values["x0"], sum(abs(v - 0.5) for v in list(values.values())[1:])
    return [x - 0.4 * y, 1 - x**2 - 0.4 * y]


@pytest.mark.parametrize("name", ["nsga2", "genetic", "cmaes", "tpe", "gp"])
def test_several_objectives_spread_along_the_front(name):
    trials, reached = 18 if name == "gp" else 45, {}
    for sampler, seeds in ((name, 1 if name == "gp" else 2), ("random", 8)):
        runs = [search(samplers.get(sampler), square(5), trials, goals, seed=seed) for seed in range(seeds)]
        reached[sampler] = np.mean([volume([r for _, r in told]) for told in runs])
    assert reached[name] > reached["random"] + 0.02


def test_one_score_of_several_objectives_weighs_all_of_them():
    sampler = samplers.get("random")(square(1), 0)
    for i in range(20):
        sampler.tell({"x0": i / 20}, None if i == 7 else (1e6 * i, -1e-6 * i, 5.0))
    winners = set()
    for _ in range(20):
        sampler.ask()
        assert sampler.objectives.shape == (20, 3) and np.flatnonzero(np.isnan(sampler.scores)).tolist() == [7]
        winners.add(int(np.nanargmax(sampler.scores)))
    assert len(winners) > 5  # whatever the scales, each weighing has its best compromise
    with pytest.raises(ValueError, match="`score` must hold 3 numbers.*Received"):
        sampler.tell({"x0": 0.99}, (1.0, 2.0))


def test_dominated_trainings_never_win_a_scalarization():
    sampler = samplers.get("random")(square(1), 0)
    rng = np.random.default_rng(0)
    points = rng.random((40, 2))
    for i, point in enumerate(points):
        sampler.tell({"x0": i / 40}, point)
    for _ in range(20):
        sampler.ask()
        winner = points[np.argmax(sampler.scores)]
        assert not ((points >= winner).all(1) & (points > winner).any(1)).any()


def test_whole_numbers_on_a_log_scale_are_drawn_on_it():
    hp = keras_tuner.HyperParameters()
    hp.Int("width", 1, 900, sampling="log")
    for name in ("tpe", "nsga2"):
        first = [values["width"] for seed in range(4) for values, _ in search(samplers.get(name), samplers.base.Space(hp.space), 9, lambda v: 0.0, seed=seed)]
        assert sum(width < 30 for width in first) > 0.3 * len(first)


@pytest.mark.parametrize("name", ["cmaes", "genetic", "nsga2"])
def test_a_small_space_with_pending_trainings_ends_at_its_size(name):
    sampler = samplers.get(name)(space(lambda hp: [hp.Boolean("a"), hp.Choice("b", ["x", "y", "z"]), hp.Int("c", 1, 3)]), 1)
    found, under_way = [], []
    while (values := sampler.ask()) is not None:
        found.append(values)
        under_way.append(values)
        if len(under_way) == 3:
            done = under_way.pop(0)
            sampler.tell(done, float(done["c"]))
    assert len(found) == 18 == len({repr(sorted(v.items())) for v in found})


def test_kinds_of_the_mixed_space_are_all_reached():
    for name in ("cmaes", "genetic", "nsga2"):
        told = search(samplers.get(name), space(mixed), 30, lambda v: 0.0)
        assert {v["kind"] for v, _ in told} == set("abc") and {v["flag"] for v, _ in told} == {False, True}
