import math

import numpy as np
import pytest

from keras_optlab import testing
from keras_optlab.search import samplers
from keras_optlab.search.samplers import gp
from keras_optlab.testing.samplers import bowl, mixed, search
from keras_optlab.testing.samplers import space as space_of

NAMES = samplers.names()


def run(name, space, seed, trials, score, told=()):
    return search(samplers.get(name), space, trials, score, told, seed)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name == "auto" else []) for name in NAMES])  # so far gp
def test_every_sampler_obeys_the_laws(name):
    testing.check_sampler(name)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_suggestions(name):
    assert run(name, space_of(mixed), 3, 9, bowl) != run(name, space_of(mixed), 4, 9, bowl)


def test_gp_leaves_the_neighbourhood_of_a_failure_at_once():
    space = space_of(lambda hp: [hp.Float("x", 0.0, 1.0), hp.Float("y", 0.0, 1.0)])
    for corner in ({"x": 0.3, "y": 0.3}, {"x": 0.7, "y": 0.6}):
        sampler = samplers.get("gp")(space, 0)
        sampler.tell(corner, None)
        values = sampler.ask()
        assert math.dist(values.values(), corner.values()) > 0.2


def test_gp_stops_running_into_a_wall():
    space = space_of(lambda hp: [hp.Float("x", 0.0, 1.0), hp.Float("y", 0.0, 1.0)])
    for seed in range(3):
        told = run("gp", space, seed, 22, lambda v: v["x"] if v["x"] <= 0.5 else None)
        assert sum(result is None for _, result in told) <= 11  # KerasTuner's Bayesian search fails 22 times in a row here
        assert max(result for _, result in told if result is not None) > 0.45


def test_gp_and_tpe_find_more_than_random():
    def declare(hp):
        for i in range(4):
            hp.Float(f"x{i}", 0.0, 1.0)
        hp.Choice("kind", ["a", "b", "c"])

    def value(v):
        return {"a": 0.0, "b": 1.0, "c": 0.5}[v["kind"]] - sum((v[f"x{i}"] - c) ** 2 for i, c in enumerate((0.2, 0.8, 0.5, 0.9)))

    seeds = {"gp": 3, "tpe": 12, "random": 12}  # tpe scatters
    best = {name: np.mean([max(r for _, r in run(name, space_of(declare), seed, 25, value)) for seed in range(n)]) for name, n in seeds.items()}
    assert best["gp"] > 0.97 and best["tpe"] > best["random"] + 0.02


def test_tpe_learns_from_failures():
    space = space_of(lambda hp: [hp.Float("x", 0.0, 1.0), hp.Float("y", 0.0, 1.0)])
    told = [r for seed in range(3) for _, r in run("tpe", space, seed, 30, lambda v: 1 - v["x"] if v["x"] <= 0.5 else None)[12:]]
    assert sum(r is None for r in told) <= 14  # of 54; chance: 27


def test_tpe_takes_ordered_and_unordered_choices_and_whole_numbers_apart():
    def declare(hp):
        hp.Choice("unordered", ["a", "b", "c"])
        hp.Choice("ordered", [1, 10, 100])
        hp.Int("n", 1, 5000, sampling="log")

    score = lambda v: (v["unordered"] == "b") - abs(math.log10(v["n"]) - 2) - abs(math.log10(v["ordered"]) - 1)
    late = [values for seed in range(3) for values, _ in run("tpe", space_of(declare), seed, 40, score)[-20:]]
    for hits, chance in ((v["unordered"] == "b" for v in late), 20), ((v["ordered"] == 10 for v in late), 20), ((30 < v["n"] < 300 for v in late), 16):
        assert sum(hits) > 1.4 * chance


def test_quasi_random_points_fill_the_space_evenly():
    space = space_of(lambda hp: [hp.Float("x", 0.0, 1.0), hp.Float("y", 1e-4, 1.0, sampling="log")])
    told = run("qmc", space, 0, 32, lambda v: 0.0)
    for column in space.encode([values for values, _ in told]).T:
        assert max(np.diff([0.0, *np.sort(column), 1.0])) < 3 / 32


def test_a_grid_takes_numbers_evenly_and_all_of_the_rest():
    def declare(hp):
        hp.Float("x", 1e-4, 1.0, sampling="log")
        hp.Choice("kind", list("abcdefghijk"))
        with hp.conditional_scope("kind", ["a"]):
            hp.Int("n", 1, 100)

    told = run("grid", space_of(declare), 0, 9999, lambda v: 0.0)
    assert len(told) == 9 * 10 + 9 * 9
    assert len({v["kind"] for v, _ in told[:40]}) > 5  # not one corner first
    assert sorted({round(math.log10(v["x"]), 6) for v, _ in told}) == [-4 + i / 2 for i in range(9)]
    with pytest.raises(ValueError, match="at most 2000 .* Received: 12"):
        samplers.get("grid")(space_of(lambda hp: [hp.Float(f"x{i}", 0.0, 1.0) for i in range(12)]), 0).ask()


def test_an_inactive_parameter_does_not_disturb_the_active_ones():
    def declare(hp):
        hp.Choice("kind", ["a", "b"])
        hp.Float("x", 0.0, 1.0)
        with hp.conditional_scope("kind", ["b"]):
            hp.Float("y", 0.0, 1.0)

    told = [({"kind": "a", "x": x}, -((x - 0.3) ** 2)) for x in (0.1, 0.25, 0.5, 0.8, 0.95)]
    noisy = [(values | {"y": y}, result) for (values, result), y in zip(told, (0.1, 0.9, 0.4, 0.7, 0.2), strict=True)]
    suggested = []
    for history in (told, noisy):
        sampler = samplers.get("gp")(space_of(declare), 0)
        for values, result in history:
            sampler.tell(values, result)
        suggested.append(sampler.ask())
    assert suggested[0] == suggested[1]


def test_pending_suggestions_are_spread():
    space = space_of(lambda hp: hp.Float("x", 0.0, 1.0))
    sampler = samplers.get("gp")(space, 0)
    for x in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        sampler.tell({"x": x}, -((x - 0.55) ** 2))
    xs = sorted(sampler.ask()["x"] for _ in range(3))
    assert min(np.diff(xs)) > 0.005


def test_first_points_of_a_gp_search_are_spread():
    for seed in range(5):
        space = space_of(lambda hp: [hp.Float(f"x{i}", 0.0, 1.0) for i in range(3)])
        rows = [list(values.values()) for values, _ in run("gp", space, seed, 4, lambda v: 0.0)]
        assert min(math.dist(a, b) for i, a in enumerate(rows) for b in rows[:i]) > 0.15  # a thinned Sobol sequence gives nearly equal ones


def test_log_expected_improvement_is_exact_far_below_the_best():
    z = np.array([-1e5, -40.0, -5.0, -1.0, 0.0, 3.0])
    value = gp.log_expected_improvement(z)
    assert value[3:] == pytest.approx([-2.48510, math.log(1 / math.sqrt(2 * math.pi)), 1.09873], abs=1e-4)
    asymptotic = -(z[:2] ** 2) / 2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(-z[:2])
    assert value[:2] == pytest.approx(asymptotic, rel=1e-4)


def test_names_and_classes():
    class Own(samplers.Random):
        pass

    assert samplers.get(Own) is Own and samplers.get("gp") is samplers.GaussianProcess
    with pytest.raises(ValueError, match="Did you mean 'random'"):
        samplers.get("randm")
    with pytest.raises(ValueError, match="Received: sampler=3"):
        samplers.get(3)
