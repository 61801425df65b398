"""Pruners as pure deciders: curves in, decisions out."""

import math

import numpy as np
import pytest

from keras_optlab.search import pruners
from keras_optlab.search.pruners import ASHA, Curve, Hyperband, Median
from keras_optlab.search.pruners.forecast import forecast


def climb(top: float, epochs: int) -> list[float]:
    return [top * (1 - 0.8**epoch) for epoch in range(1, epochs + 1)]


def search(pruner, tops, whole=lambda i: 27, fails=()):
    """A search by one worker: the curves at its end, who was promoted in which order, and the epochs after which each was stopped."""
    curves, promoted, stopped, left = {}, [], {}, list(enumerate(tops))
    while True:
        trial_id = pruner.promote(curves, ending=not left)
        if trial_id is not None:
            promoted.append(trial_id)
        elif left:
            number, top = left.pop(0)
            trial_id = f"{number:04d}"
            curves[trial_id] = Curve([], whole(number))
        else:
            return curves, promoted, stopped
        values, epochs = list(curves[trial_id].values), curves[trial_id].epochs
        while len(values) < epochs:
            values.append(tops[int(trial_id)] * (1 - 0.8 ** (len(values) + 1)))
            curves[trial_id] = Curve(list(values), epochs)
            if int(trial_id) in fails:
                break
            if len(values) < epochs and not pruner.goes_on(trial_id, curves):
                stopped.setdefault(trial_id, []).append(len(values))
                curves[trial_id] = Curve(list(values), epochs, paused=True)
                break


def lengths(curves) -> list[int]:
    return [len(curve.values) for curve in curves.values()]


@pytest.mark.parametrize(
    "epochs, warmup, rungs",
    [(27, 0, [3, 9]), (81, 0, [9, 27]), (50, 0, [6, 18]), (10, 0, [3]), (5, 0, [3]), (4, 0, []), (1, 0, []), (27, 5, [5, 15]), (9, 8, [])],
)
def test_rungs(epochs, warmup, rungs):
    assert ASHA(warmup=warmup).rungs(epochs) == rungs


@pytest.mark.parametrize("name", pruners.names())
def test_nothing_is_judged_before_the_third_epoch_the_warmup_and_a_ninth(name):
    rng = np.random.default_rng(0)
    for epochs, warmup, first in ((27, 0, 3), (90, 0, 10), (27, 7, 7)):
        curves, _, stopped = search(type(pruners.get(name))(warmup=warmup), rng.random(30), whole=lambda i, e=epochs: e)
        assert stopped and min(min(s) for s in stopped.values()) == first


def test_asha_stops_two_thirds_at_each_rung_and_lets_the_rest_through_at_once():
    rng = np.random.default_rng(1)
    curves, _, stopped = search(ASHA(), tops := list(rng.random(90)))
    counts = [sum(n >= epoch for n in lengths(curves)) for epoch in (3, 9, 27)]
    assert counts[0] == 90 and 30 <= counts[1] <= 40 and 10 <= counts[2] <= 16
    best = f"{int(np.argmax(tops)):04d}"
    assert len(curves[best].values) == 27


def test_asha_lets_the_best_go_on_at_once_and_promotes_whoever_comes_into_the_best_third_later():
    curves, promoted, stopped = search(ASHA(), [0.1, 0.5, 0.9, 0.2, 0.3, 0.4], whole=lambda i: 10)
    assert "0000" not in stopped  # there was no whole training yet
    assert "0002" not in stopped  # the third to arrive, the best of them: it never waits
    assert promoted == ["0001"]  # with six at the rung there is a second place
    assert lengths(curves) == [10, 10, 10, 3, 3, 3]


def test_a_promotion_to_the_last_rung_comes_before_one_to_the_first():
    low, high = Curve([0.1, 0.2, 0.9], 27, paused=True), Curve(climb(0.8, 9), 27, paused=True)
    curves = (
        {"low": low, "high": high} | {str(i): Curve(climb(0.1, 9), 27, paused=True) for i in range(2)} | {str(i): Curve([0.0] * 3, 27) for i in range(2, 5)}
    )
    assert ASHA().promote(curves) == "high"
    assert ASHA().promote(curves | {"high": Curve(climb(0.8, 9), 27)}) == "low"
    assert ASHA().promote(curves | {"high": Curve(climb(0.8, 9), 27), "low": Curve([0.1, 0.2, 0.9], 27)}) is None


@pytest.mark.parametrize("pruner", [ASHA(), Hyperband()])
def test_a_search_that_ends_has_a_whole_training_however_short_it_was(pruner):
    for count in range(1, 12):
        curves, _, _ = search(pruner, [i / 20 for i in range(count, 0, -1)])
        assert max(lengths(curves)) == 27


@pytest.mark.parametrize("name", pruners.names())
def test_a_training_without_a_finite_value_is_not_whole_and_disturbs_no_other(name):
    pruner = pruners.get(name)
    bad = {str(i): Curve([math.nan, math.inf, -math.inf], 27, paused=True) for i in range(9)}
    good = {f"whole {i}": Curve(climb(0.5, 27), 27) for i in range(5)}
    curves = bad | good | {"now": Curve([math.nan, 0.9, math.nan], 27)}
    assert pruner.promote(bad, ending=True) is None
    assert Median().goes_on("now", curves) and ASHA().goes_on("now", curves)
    assert not Median().goes_on("0", curves) and not ASHA().goes_on("0", curves)


@pytest.mark.parametrize("name", pruners.names())
def test_what_fails_costs_its_own_place_only(name):
    rng = np.random.default_rng(3)
    curves, _, _ = search(pruners.get(name), list(rng.random(40)), fails={0, 3, 5, 17})
    assert sum(n == 27 for n in lengths(curves)) >= 4
    assert [len(curves[f"{i:04d}"].values) for i in (0, 3, 5, 17)] == [1] * 4


def test_trainings_under_way_in_parallel_count_where_they_have_arrived():
    waiting = {str(i): Curve(climb(0.1 * i, 3), 27) for i in range(1, 6)}
    assert ASHA().goes_on("5", waiting) and not ASHA().goes_on("4", waiting)
    shorter = waiting | {"4": Curve(climb(0.4, 2), 27)}
    assert len(ASHA().best(3, 0, shorter, ASHA().brackets(shorter))) == 1


def test_trainings_of_different_length_are_compared_after_as_many_epochs():
    curves, _, stopped = search(ASHA(), list(np.random.default_rng(2).random(60)), whole=lambda i: (10, 27)[i % 2])
    assert {stop for stops in stopped.values() for stop in stops} <= {3, 9}
    assert {len(c.values) for c in curves.values() if c.epochs == 10} == {3, 10} and {len(c.values) for c in curves.values() if c.epochs == 27} == {3, 9, 27}


def test_the_brackets_of_hyperband_get_about_as_many_epochs_each():
    curves = {str(i): Curve([], 27) for i in range(100)}
    brackets = list(Hyperband().brackets(curves).values())
    costs = Hyperband().costs(27)
    assert costs == [3 + 2 + 2, 9 + 6, 27]
    shares = [brackets.count(b) * costs[b] for b in range(3)]
    assert max(shares) - min(shares) <= 27
    assert list(Hyperband().brackets(dict(list(curves.items())[:30])).values()) == brackets[:30]  # a bracket is for ever


def test_hyperband_judges_within_the_bracket_and_leaves_some_alone():
    curves, _, stopped = search(Hyperband(), list(np.random.default_rng(4).random(60)))
    brackets = Hyperband().brackets(curves)
    assert {stop for i, stops in stopped.items() for stop in stops if brackets[i] == 1} == {9}
    assert not any(brackets[i] == 2 for i in stopped)
    assert all(len(curves[i].values) == 27 for i, b in brackets.items() if b == 2)


def test_median_waits_for_whole_trainings_and_then_stops_the_lower_half():
    curves, promoted, stopped = search(Median(startup=3), [0.5, 0.2, 0.8, 0.49, 0.51, 0.9, 0.1])
    assert lengths(curves) == [27, 27, 27, 3, 27, 27, 3] and not promoted
    late = {f"w{i}": Curve(climb(0.5, 27), 27) for i in range(5)} | {"now": Curve([0.3] * 5, 27)}
    assert Median().goes_on("now", late | {"now": Curve([0.3] * 3, 27)}) and not Median().goes_on("now", late)  # it may be overtaken later


def test_the_best_paused_ones_at_each_rung_are_worth_their_state():
    curves, _, _ = search(ASHA(), list(np.random.default_rng(5).random(60)))
    kept = ASHA().promotable(curves)
    assert [len(curves[i].values) for i in kept].count(3) == 3 == [len(curves[i].values) for i in kept].count(9)
    worst = min(curves[i].best() for i in kept if len(curves[i].values) == 3)
    assert sum(c.best() > worst for c in curves.values() if c.paused and len(c.values) == 3) == 2
    assert Median().promotable(curves) == []


def test_a_training_that_its_own_callback_has_ended_is_whole():
    early = {f"w{i}": Curve(climb(0.5, 4), 27, ended=True) for i in range(5)}
    assert not Median().goes_on("now", early | {"now": Curve(climb(0.3, 4), 27)})
    assert forecast(early | {"now": Curve(climb(0.3, 4), 27)})["now"] < forecast(early)["w0"] == climb(0.5, 4)[-1]


def test_names_and_instances():
    own = ASHA(factor=4)
    assert pruners.get(own) is own and pruners.get(None) is None and isinstance(pruners.get("median"), Median)
    with pytest.raises(ValueError, match="Did you mean 'hyperband'"):
        pruners.get("hyperbnd")
    with pytest.raises(ValueError, match=r"Received: pruner=\[3\]"):
        pruners.get([3])
    for make in (lambda: ASHA(factor=1), lambda: ASHA(warmup=-1), lambda: Median(startup=0), lambda: Hyperband(factor=2.5)):
        with pytest.raises(ValueError, match=r"\(\w+=...\) must be .* Received: \w+="):
            make()


def test_a_stopped_training_is_forecast_by_its_place_among_those_that_went_on():
    whole = {str(i): Curve([0.1 * i, 0.1 * i, 0.1 * i, *[0.5 + 0.1 * i] * 3], 6) for i in range(3)}
    stopped = {"at 0.15": [0.15], "at 0.1": [0.1], "better than all": [0.9], "worse than all": [-0.2], "nothing": [math.nan]}
    scores = forecast(whole | {i: Curve([0.0, -1.0, *v], 6) if i != "worse than all" else Curve([-0.3, -0.3, *v], 6) for i, v in stopped.items()})
    assert [scores[i] for i in "012"] == pytest.approx([0.5, 0.6, 0.7])
    assert scores["at 0.15"] == pytest.approx(0.65) and scores["at 0.1"] == pytest.approx(0.6)
    assert scores["better than all"] == pytest.approx(0.7) and scores["worse than all"] == pytest.approx(0.3)
    assert scores["nothing"] == pytest.approx(0.5)  # its best epoch was the first


def test_what_was_stopped_late_helps_to_forecast_what_was_stopped_early_and_without_whole_trainings_values_stand():
    late = {str(i): Curve(climb(0.1 * i, 9), 27) for i in range(1, 4)}
    assert forecast(late)["3"] == pytest.approx(climb(0.3, 9)[-1])
    scores = forecast(late | {"early": Curve(climb(0.2, 3), 27), "none": Curve([math.nan] * 3, 27), "failed": Curve([], 27)})
    assert scores["early"] == pytest.approx(climb(0.2, 9)[-1])
    assert scores["none"] == scores["failed"] == -math.inf
    order = [f"{i}" for i in range(20)]
    curves = {i: Curve(climb(float(i) / 20, 3), 27) for i in order} | {f"w{i}": Curve(climb(i / 5, 27), 27) for i in range(5)}
    assert sorted(order, key=forecast(curves).get) == order
