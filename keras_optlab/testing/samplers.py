"""The laws every sampler of the search obeys."""

import copy
import math
import random
from collections.abc import Callable, Iterable

import numpy as np


def space(declare: Callable):
    """The space that `declare(hp)` declares on KerasTuner's hyperparameters."""
    import keras_tuner

    from keras_optlab.search.space import Space

    hp = keras_tuner.HyperParameters()
    declare(hp)
    return Space(hp.space)


def search(make, where, trials: int, result: Callable, told: Iterable = (), seed: int = 0) -> list[tuple]:
    """What a search suggests that goes on from `told`, and its results; a new sampler each time, as after a restart."""
    told = list(told)
    while len(told) < trials:
        sampler = make(where, seed)
        for values, score in told:
            sampler.tell(values, score)
        values = sampler.ask()
        if values is None:
            break
        told.append((values, result(values)))
    return told


def different(configurations: Iterable[dict]) -> int:
    return len({repr(sorted(values.items())) for values in configurations})


def mixed(hp) -> None:
    hp.Choice("kind", ["a", "b", "c"])
    hp.Float("rate", 1e-5, 1.0, sampling="log")
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("n", 1, 9)
    hp.Boolean("flag")


def bowl(values: dict) -> float:
    return -abs(math.log10(values["rate"]) + 2) - 0.1 * values.get("n", 4) + 0.5 * values["flag"]


def law_resumed(make):
    """The same seed and history give the same suggestions, whether the search was resumed or not."""
    where = space(mixed)
    once = search(make, where, 9, bowl, seed=3)
    for at in (1, 5):
        again = search(make, where, 9, bowl, once[:at], seed=3)
        assert again == once, f"resumed after {at} trainings it suggests {again[at:]}, not {once[at:]}: draw random numbers from `self.rng` only"
    sampler = make(where, 3)
    for i, (values, score) in enumerate(once):
        found = sampler.ask()
        assert found == values, f"suggestion {i} is {found} in one go and {values} after a restart: keep nothing that `ask` does not work out from the history"
        sampler.tell(values, score)


def law_values(make):
    """Only values of the space are suggested: active parameters, all of them, of KerasTuner's kinds and in plain Python types."""

    def numbers(hp):
        hp.Int("int", 3, 9)
        hp.Int("step", 2, 21, step=4)
        hp.Int("log", 16, 512, step=2, sampling="log")
        hp.Float("float", -1.0, 1.0)
        hp.Float("grid", 0.0, 1.0, step=0.25)
        hp.Float("rate", 1e-5, 1.0, sampling="log")
        hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")

    def choices(hp):
        hp.Choice("unordered", ["x", "y", "z"])
        hp.Choice("ordered", [1, 10, 100])
        hp.Boolean("flag")
        hp.Fixed("fixed", 7)
        with hp.conditional_scope("unordered", ["x", "y"]):
            hp.Choice("outer", ["p", "q"])
            with hp.conditional_scope("outer", ["q"]):
                hp.Float("inner", 0.0, 1.0)

    allowed = {
        "int": range(3, 10),
        "step": range(2, 22, 4),
        "log": [16, 32, 64, 128, 256, 512],
        "float": (-1.0, 1.0),
        "grid": [0.0, 0.25, 0.5, 0.75, 1.0],
        "rate": (1e-5, 1.0),
        "momentum": (0.5, 0.99),
        "unordered": ["x", "y", "z"],
        "ordered": [1, 10, 100],
        "flag": [False, True],
        "fixed": [7],
        "outer": ["p", "q"],
        "inner": (0.0, 1.0),
    }
    rest = {"ordered": 10, "flag": True, "fixed": 7}
    histories = [(numbers, list(allowed)[:7], [])]
    for branch in ({"unordered": "z"}, {"unordered": "x", "outer": "p"}, {"unordered": "y", "outer": "q", "inner": 0.3}):
        histories.append((choices, list(allowed)[7:], [(branch | rest, 1.0)]))
    for declare, names, told in histories:
        for values, _ in search(make, space(declare), 9, lambda v: -float(len(v)), told):
            hidden = {"outer", "inner"} if values.get("unordered") == "z" else set() if values.get("outer") == "q" else {"inner"}
            active = set(names) - hidden
            assert set(values) == active, f"it suggests values for {sorted(values)} where {sorted(active)} are active: `suggest` must return a clean row"
            for name, value in values.items():
                rule = allowed[name]
                right = rule[0] <= value <= rule[1] if isinstance(rule, tuple) else value in rule
                kinds = float if isinstance(rule, tuple) else type(rule[0])
                assert right and type(value) is kinds, f"`{name}` is {value!r}; allowed is {rule}: `Space.clean` rows before they are returned"


def law_once(make):
    """Nothing is suggested twice, and a finite space ends with `None` when each of its configurations was."""

    def finite(hp):
        hp.Choice("kind", ["a", "b", "c"])
        with hp.conditional_scope("kind", ["a"]):
            hp.Int("n", 1, 6)
        hp.Choice("size", [1, 2, 4])

    told = search(make, space(finite), 30, lambda v: v["size"] + v.get("n", 0))
    count = different(values for values, _ in told)
    assert len(told) == count, f"{len(told) - count} of {len(told)} suggestions were made before: return `self.fresh(rows)` or `self.random_row()`"
    assert count == 24, f"a space of 24 configurations ended after {count}: fall back on `self.random_row()`"
    large = search(make, space(lambda hp: hp.Int("n", 1, 5000)), 25, lambda v: -abs(v["n"] - 99))
    assert different(values for values, _ in large) == len(large), "in a space that is too large to list a suggestion was made twice: return `self.fresh(rows)`"


def law_waiting(make):
    """What is under way is not suggested again, and is told later in any order."""
    sampler = make(space(lambda hp: hp.Int("n", 1, 12)), 0)
    sampler.wait({"n": 5})
    found = [sampler.ask() for _ in range(11)]
    assert None not in found and sorted(v["n"] for v in found) == [n for n in range(1, 13) if n != 5], f"11 were left besides 5, it suggests {found}"
    assert sampler.ask() is None, "everything is under way, and it suggests more: what `wait` was given counts as tried"
    sampler = make(space(mixed), 0)
    under_way, suggested = [], []
    for i in range(16):
        under_way.append(sampler.ask())
        suggested.append(under_way[-1])
        if len(under_way) == 4:
            values = under_way.pop((7 * i) % 4)
            sampler.tell(values, bowl(values))
    assert None not in suggested and different(suggested) == 16, f"with four under way it suggests what it did before: {suggested}"


def law_failures(make):
    """Every kind of failure, huge scores and equal ones are survived."""
    results = [None, math.nan, math.inf, -math.inf, 1e300, -1e300, 1.0, *[1.0] * 5, None, 1e-300]
    for what, scores in (("mixed", results), ("nothing but failures", [None] * 12), ("the same score always", [2.0] * 12)):
        score = iter(scores)
        told = search(make, space(mixed), len(scores), lambda v: next(score))
        assert different(values for values, _ in told) == len(scores), f"after {len(told)} trainings it ends ({what}): failures are NaN in `self.scores`"


def law_history(make):
    """A history that it did not suggest itself, from another sampler or a smaller space, is taken over; the old trainings count with the default."""
    rng = np.random.default_rng(0)
    where = space(mixed)
    others = [(where.decode(row), None if i % 5 == 4 else float(i % 7)) for i, row in enumerate(where.draw(rng.random((20, len(where)))))]
    told = search(make, where, 24, bowl, others)
    assert len(told) == 24 and different(values for values, _ in told[20:]) == 4 and not [v for v, _ in told[20:] if v in [w for w, _ in others]], (
        "after 20 trainings that another sampler suggested it ends or repeats one of them: work with `self.rows`, not with what `suggest` returned"
    )
    small = lambda hp: hp.Int("n", 1, 3)
    grown = lambda hp: [small(hp), hp.Choice("late", ["x", "y"])]
    told = search(make, space(small), 2, lambda v: v["n"])
    told = search(make, space(grown), 99, lambda v: v["n"], told)
    count = len({(v["n"], v.get("late", "x")) for v, _ in told})
    assert len(told) == count == 6, f"a space that grew from 3 to 6 configurations gives {len(told)} trainings, {count} of them different"


def law_objectives(make):
    """Several objectives, failures among them, are taken, and a resumed search goes on alike."""
    where = space(mixed)
    two, three = (lambda v: (bowl(v), -v.get("n", 0)), lambda v: [bowl(v), v["flag"], math.nan if v["kind"] == "c" else 1e9 * v["rate"]])
    for goals in (two, three):
        once = search(make, where, 12, goals)
        assert different(values for values, _ in once) == 12, f"it ends after {len(once)} trainings: `self.scores` has one number per training"
        assert [v for v, _ in search(make, where, 12, goals, once[:7])] == [v for v, _ in once], (
            "a resumed search goes on otherwise: draw weights from `self.rng`"
        )


def law_hands_off(make):
    """It changes nothing that it was told, and leaves the global random generators alone."""
    where = space(mixed)
    told = [({"kind": "a", "rate": 10.0**-i, "flag": False}, [float(i), -float(i)] if i else None) for i in range(4)]
    before, state, python = copy.deepcopy(told), np.random.get_state(), random.getstate()
    sampler = make(where, 0)
    for values, score in told:
        sampler.tell(values, score)
    first = sampler.ask()
    assert told == before, f"it changes what it was told: {told}, was {before}: copy what you change"
    kept = copy.deepcopy(first)
    sampler.ask()
    assert first == kept, f"a suggestion changes after it was made: {first}, was {kept}"
    same = all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True)) and python == random.getstate()
    assert same, "it moves the global random generators: draw from `self.rng`"


def law_empty(make):
    """A space without parameters has one configuration."""
    sampler = make(space(lambda hp: None), 0)
    assert sampler.ask() == {}, "the only configuration of an empty space is {}"
    assert sampler.ask() is None, "an empty space has one configuration only"


LAWS = {name.removeprefix("law_"): law for name, law in list(globals().items()) if name.startswith("law_")}


def check_sampler(sampler, skip: tuple[str, ...] = ()) -> None:
    """Checks a sampler of the search against every law of this toolkit: some 200 suggestions in small spaces.

    Args:
        sampler: a name out of `keras_optlab.search.samplers.names()`, or a subclass of `keras_optlab.search.samplers.Sampler`.
        skip: names of laws that do not apply, from `LAWS` of this module.

    Raises:
        AssertionError: names the law, what it says, what was found and what to do.
        ValueError: for an unknown sampler or law.

    Example:
        >>> check_sampler(MySampler)
    """
    from keras_optlab.search import samplers

    if unknown := set(skip) - LAWS.keys():
        raise ValueError(f"`check_sampler(skip=...)` takes names of laws: {list(LAWS)}. Received: {sorted(unknown)}")
    make = samplers.get(sampler)
    for name, law in LAWS.items():
        if name not in skip:
            try:
                law(make)
            except Exception as error:
                raise AssertionError(f"{make.__name__} breaks the law `{name}` ({law.__doc__}): {type(error).__name__}: {error}") from error
