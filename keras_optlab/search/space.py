"""A KerasTuner search space as rows of numbers in [0, 1], with which samplers compute, and as Optuna's distributions, which the store keeps."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import keras_tuner
import numpy as np
from keras_tuner.engine import hyperparameters as kinds
from optuna import distributions

from keras_optlab.search.log import logger

LISTED = 2000  # a finite space up to this size is listed: no configuration is missed and the end is known
EXPLICIT = 1000  # a number that can take more values than this is rounded instead of listed


@dataclasses.dataclass(frozen=True, eq=False)
class Parameter:
    """One declared hyperparameter. The code of a value, in [0, 1], is its place in the parameter's own scale.

    Args:
        name: its name; parameters under different conditions may share one.
        kind: "choice", "int" or "float".
        when: conditions, all of which must hold: (name, values it may have).
        default: the declared default.
        low: smallest number.
        high: largest number.
        step: distance of neighbouring numbers, 0 if there is none.
        sampling: "linear", "log" or "reverse_log".
        ordered: whether neighbouring values resemble each other.
        values: every value in order; `None` where there are too many.
        codes: the increasing codes of `values`.
    """

    name: str
    kind: str
    when: tuple = ()
    default: object = None
    low: float = 0.0
    high: float = 1.0
    step: float = 0.0
    sampling: str = "linear"
    ordered: bool = True
    values: tuple | None = None
    codes: np.ndarray | None = None

    @property
    def levels(self) -> int | None:
        return None if self.values is None else len(self.values)

    @property
    def unordered(self) -> bool:
        return not self.ordered and self.levels > 1

    @property
    def even(self) -> bool:
        """Whether it is a list of values at equal distances on its scale."""
        return self.values is not None and np.allclose(np.diff(self.codes), 1 / max(self.levels - 1, 1))

    def place(self, numbers):
        low, high = self.low, self.high
        numbers = np.clip(numbers, low, high)
        if high == low:
            return 0.5 + 0.0 * numbers
        if self.sampling == "log":
            return np.log(numbers / low) / math.log(high / low)
        if self.sampling == "reverse_log":
            return 1 - np.log((low + high - numbers) / low) / math.log(high / low)
        return (numbers - low) / (high - low)

    def number(self, codes):
        low, high = self.low, self.high
        if self.sampling == "log":
            v = low * (high / low) ** codes
        elif self.sampling == "reverse_log":
            v = low + high - low * (high / low) ** (1 - codes)
        else:
            v = low + codes * (high - low)
        if self.step:
            v = low + self.step * np.round((v - low) / self.step)
        return np.clip(v, low, high)

    def snap(self, codes: np.ndarray) -> np.ndarray:
        """The nearest codes that stand for a value."""
        codes = np.clip(codes, 0, 1)
        if self.values is not None:
            return self.codes[np.searchsorted((self.codes[1:] + self.codes[:-1]) / 2, codes)]
        return self.place(self.number(codes)) if self.step else codes

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Codes from uniform random numbers: the values of an evenly spaced parameter are equally likely."""
        if self.even:
            return self.codes[np.minimum((uniform * self.levels).astype(int), self.levels - 1)]
        return self.snap(uniform)

    def code(self, value) -> float:
        """Code of a value; what is no value of this parameter counts as its default."""
        if self.kind == "choice":
            return float(self.codes[self.values.index(value if value in self.values else self.default)])
        number = self.default if isinstance(value, str) else value
        return float(self.snap(np.array([self.place(float(number))]))[0])

    def value(self, code: float):
        """Value of a code, in the plain type that KerasTuner hands out."""
        if self.values is not None:
            return self.values[int(np.argmin(np.abs(self.codes - code)))]
        return int(round(float(self.number(code)))) if self.kind == "int" else float(self.number(code))

    def start(self) -> float:
        """Code to try first: a default that was declared, else the middle (KerasTuner's own default is the lowest value)."""
        if self.unordered or self.code(self.default) > 0:
            return self.code(self.default)
        return 0.5 if self.values is None else float(self.codes[(self.levels - 1) // 2])

    def distribution(self) -> distributions.BaseDistribution:
        """Optuna's word for it; a multiplicative step, which Optuna lacks, becomes the whole range."""
        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.values)
        low, high = (self.low, self.high) if self.values is None else (self.values[0], self.values[-1])
        linear = self.sampling == "linear" and self.step
        if self.kind == "int":
            return distributions.IntDistribution(int(low), int(high), log=self.sampling == "log", step=int(self.step) if linear else 1)
        return distributions.FloatDistribution(low, high, log=self.sampling == "log", step=self.step if linear and high > low else None)


def parameter(hp: kinds.HyperParameter) -> Parameter:
    """Translates a KerasTuner hyperparameter: a `Choice`, `Boolean`, `Fixed`, `Int` or `Float`.

    Raises:
        TypeError: for any other kind.
    """
    common = {"name": hp.name, "default": hp.default, "when": tuple((c.name, tuple(c.values)) for c in hp.conditions)}
    if isinstance(hp, kinds.Choice | kinds.Boolean | kinds.Fixed):
        values = (False, True) if isinstance(hp, kinds.Boolean) else tuple(dict.fromkeys(hp.values))
        codes = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([0.5])
        return Parameter(kind="choice", ordered=isinstance(hp, kinds.Choice) and hp.ordered, values=values, codes=codes, **common)
    if not isinstance(hp, kinds.Int | kinds.Float):
        raise TypeError(f"Hyperparameter `{hp.name}` must be a Choice, Boolean, Fixed, Int or Float. Received: {hp!r}.")
    low, high, kind = float(hp.min_value), float(hp.max_value), "int" if isinstance(hp, kinds.Int) else "float"
    common |= {"kind": kind, "low": low, "high": high, "sampling": hp.sampling}
    step = float(hp.step or (1 if kind == "int" else 0))
    if hp.sampling != "linear" and hp.step:
        powers = low * step ** np.arange(int(math.log(high / low, step) + 1e-8) + 1)
        numbers = powers if hp.sampling == "log" else np.sort(low + high - powers)
        step = 0.0
    elif low == high:
        numbers = np.array([low])
    elif step and (high - low) / step < EXPLICIT:
        numbers = low + step * np.arange(int((high - low) / step + 1e-8) + 1)
    else:
        top = low + step * ((high - low) // step) if step else high
        return Parameter(step=step, **common | {"high": top})
    values = tuple(int(round(v)) if kind == "int" else float(f"{v:.12g}") for v in numbers)
    even = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([0.5])
    codes = even if hp.step or low == high else Parameter(**common).place(np.array(values, float))
    return Parameter(step=step, values=values, codes=codes, **common)


class Space:
    """The declared parameters, parents first, in an order that does not depend on the order of declaration.

    A configuration is a row with one code per parameter. In a clean row every active code stands for a value and every inactive one is
    fixed (.5, or -1 for an unordered choice), so two clean rows are equal exactly where they mean the same training.

    Args:
        hyperparameters: KerasTuner's hyperparameters, such as `hp.space`.
    """

    def __init__(self, hyperparameters: Iterable[kinds.HyperParameter]):
        left = sorted((parameter(hp) for hp in hyperparameters), key=lambda p: (p.name, repr(p.when)))
        self.parameters: list[Parameter] = []
        while left:
            names = {p.name for p in left}
            ready = [p for p in left if not any(parent in names for parent, _ in p.when)] or left
            self.parameters += ready
            left = [p for p in left if p not in ready]
        self.columns: dict[str, list[int]] = {}
        for j, p in enumerate(self.parameters):
            self.columns.setdefault(p.name, []).append(j)
        self.unordered = np.array([p.unordered for p in self.parameters], bool)
        self._parents = [[[(q, self._codes(q, values)) for q in self.columns.get(name, [])] for name, values in p.when] for p in self.parameters]

    def __len__(self) -> int:
        return len(self.parameters)

    def _codes(self, column: int, values: tuple) -> np.ndarray:
        p = self.parameters[column]
        return np.array([p.code(v) for v in values if p.values is None or v in p.values])

    def _active(self, U: np.ndarray, active: np.ndarray, j: int) -> np.ndarray:
        """Which rows have parameter `j` active, given the columns before it."""
        on = np.ones(len(U), bool)
        for parents in self._parents[j]:
            met = [active[:, q] & (np.abs(U[:, q, None] - codes) < 1e-9).any(1) for q, codes in parents]
            on &= np.any(met, axis=0) if met else False
        for twin in self.columns[self.parameters[j].name]:
            if twin < j:  # KerasTuner holds one value per name: the first active declaration has it
                on &= ~active[:, twin]
        return on

    def clean(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clean rows, and which of their parameters are active."""
        U, active = U.copy(), np.zeros(U.shape, bool)
        for j, p in enumerate(self.parameters):
            U[:, j], active[:, j] = p.snap(U[:, j]), self._active(U, active, j)
            U[~active[:, j], j] = -1 if p.unordered else 0.5
        return U, active

    def twins(self) -> list[list[int]]:
        """Columns of all parameters that vary; ordered ones of which never two are active and whose names end alike ("adam/rate", "lion/rate") together."""
        groups: list[list[int]] = []
        for j, p in enumerate(self.parameters):
            if p.levels != 1:
                alike = (columns for columns in groups if all(exclusive(p, self.parameters[q]) for q in columns))
                home = next(alike, None)
                if home is None:
                    groups.append([j])
                else:
                    home.append(j)
        return groups

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Clean rows from uniform random numbers of the same shape."""
        U = uniform.copy()
        for j, p in enumerate(self.parameters):
            U[:, j] = p.draw(U[:, j])
        return self.clean(U)[0]

    def start(self) -> np.ndarray:
        """The clean row to try first."""
        return self.clean(np.array([[p.start() for p in self.parameters]]))[0][0]

    def encode(self, configurations: Sequence[dict]) -> np.ndarray:
        """Clean rows of configurations; an active parameter that one does not name had its default."""
        codes = [[p.code(values.get(p.name, p.default)) for p in self.parameters] for values in configurations]
        return self.clean(np.array(codes, float).reshape(len(configurations), len(self)))[0]

    def decode(self, row: np.ndarray) -> dict:
        """The active parameters of a clean row and their values."""
        active = self.clean(row[None])[1][0]
        return {p.name: p.value(row[j]) for j, p in enumerate(self.parameters) if active[j]}

    def walk(self, choose: Callable[[int], float]) -> np.ndarray:
        """A clean row whose active parameters, parents first, get the codes `choose(column)`."""
        U, active = np.zeros((1, len(self))), np.zeros((1, len(self)), bool)
        for j, p in enumerate(self.parameters):
            active[:, j] = self._active(U, active, j)
            U[:, j] = p.snap(np.array([choose(j)])) if active[0, j] else -1 if p.unordered else 0.5
        return U[0]

    def listing(self, levels: int | None = None) -> np.ndarray | None:
        """Every configuration as a clean row, or `None` where there are more than 2000.

        Args:
            levels: how many values at most a number takes, evenly spaced on its scale; by default all of them.
        """
        U, active = np.zeros((1, len(self))), np.zeros((1, len(self)), bool)
        for j, p in enumerate(self.parameters):
            on, codes = self._active(U, active, j), p.codes
            if levels and p.kind != "choice" and (p.levels or levels + 1) > levels:
                codes = np.unique(p.snap(np.linspace(0, 1, levels)))
            if on.any() and (codes is None or on.sum() * len(codes) + (~on).sum() > LISTED):
                return None
            copies = np.where(on, 1 if codes is None else len(codes), 1)
            level = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
            U, active, on = np.repeat(U, copies, 0), np.repeat(active, copies, 0), np.repeat(on, copies)
            U[:, j], active[:, j] = -1 if p.unordered else 0.5, on
            if on.any():
                U[on, j] = codes[level[on]]
        return U

    def for_optuna(self, values: dict) -> list[tuple]:
        """What Optuna keeps of a configuration: (name, longer name if that one is taken, value, distribution) of what can vary."""
        active = self.clean(self.encode([values]))[1][0]
        found = [p for j, p in enumerate(self.parameters) if active[j] and p.levels != 1 and p.name in values]
        return [(p.name, " ".join([p.name, *(f"[{n}={'|'.join(map(str, v))}]" for n, v in p.when)]), values[p.name], p.distribution()) for p in found]


def exclusive(p: Parameter, q: Parameter) -> bool:
    """Whether two ordered parameters are one by their name and scale, and stand under different values of one parent."""
    ends, ordered = {x.name.rsplit("/", 1)[-1] for x in (p, q)}, not (p.unordered or q.unordered)
    alike = len(ends) == 1 and ordered and (p.kind, p.sampling) == (q.kind, q.sampling)
    return alike and any(name == other and not set(values) & set(others) for name, values in p.when for other, others in q.when)


def declarations(space: list[dict]) -> keras_tuner.HyperParameters:
    """What declares a stored space, the `"space"` part of KerasTuner's `HyperParameters.get_config()`."""
    own = copy.deepcopy(space)  # KerasTuner changes what it reads
    return keras_tuner.HyperParameters.from_config({"space": own, "values": {}})


def merged(space: list[dict], declared: keras_tuner.HyperParameters) -> keras_tuner.HyperParameters:
    """What declares a stored space, and what else is declared now."""
    both = keras_tuner.HyperParameters()
    both.merge(declarations(space))
    both.merge(declared, overwrite=False)
    return both


def differences(stored: list[dict], declared: list[dict], complete: bool = True) -> list[str]:
    """Sentences on what separates two spaces, given as the `"space"` part of KerasTuner's `HyperParameters.get_config()`.

    Args:
        stored: the space of the search so far.
        declared: the space of now.
        complete: whether `declared` must have all of `stored`; otherwise only what is in both is compared.
    """

    def index(space: list[dict]) -> dict:
        return {(hp["config"]["name"], repr([(c["config"]["name"], c["config"]["values"]) for c in hp["config"]["conditions"]])): hp for hp in space}

    def show(hp: dict) -> str:
        return f"{hp['class_name']}({', '.join(f'{k}={v!r}' for k, v in hp['config'].items() if k not in ('name', 'conditions') and v is not None)})"

    old, new = index(stored), index(declared)
    out = [f"`{key[0]}` was {show(hp)}, is {show(new[key])}" for key, hp in old.items() if key in new and (show(hp) != show(new[key]))]
    if complete:
        out += [f"`{key[0]}` {show(hp)} is gone" for key, hp in old.items() if key not in new]
        out += [f"`{key[0]}` {show(hp)} is new" for key, hp in new.items() if key not in old]
    return out


class Compared(keras_tuner.HyperParameters):
    """The hyperparameters of a trial, which tell once where the code declares one otherwise than the search knows it.

    What `build` declares is compared when a search begins, what `fit` and `run_trial` declare can be only here. It is no error: a range may depend on another
    value, and of several declarations the first one holds, as in KerasTuner.
    """

    told: set[str] = set()

    @classmethod
    def of(cls, hyperparameters: keras_tuner.HyperParameters, told: set[str]) -> "Compared":
        """The same hyperparameters.

        Args:
            hyperparameters: those of a trial.
            told: names that are not compared; grows by those that were told.
        """
        same = cls.from_config(hyperparameters.get_config())
        same.told = told
        return same

    def _retrieve(self, hp):
        """What KerasTuner calls for every declaration."""
        known = [one for one in self.space if one.name == hp.name and one.conditions == hp.conditions]
        configs = [[{"class_name": type(one).__name__, "config": one.get_config()}] for one in (*known[:1], hp)]
        if known and hp.name not in self.told and (changed := differences(*configs)):
            self.told.add(hp.name)
            logger.warning("In this search %s: the first declaration holds. Start anew with `overwrite=True` for the second one.", changed[0])
        return super()._retrieve(hp)
