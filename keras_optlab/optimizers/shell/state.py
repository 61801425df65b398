"""What the shell keeps for each weight: the rule that moves it and its variables, saved by name."""

import json
import re
import warnings
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops

from keras_optlab.optimizers.shell import keras_seams as seams


@dataclass(frozen=True)
class Slot:
    """State of one weight.

    Args:
        shape: shape of the slot; `None`: the weight's own.
        dtype: dtype of the slot, whatever the weight's dtype is.
        start: "zeros", "param" (the weight before the first update) or a number.
    """

    shape: tuple[int, ...] | None = None
    dtype: str = "float32"
    start: str | float = "zeros"


@dataclass(frozen=True)
class Rule:
    """How one weight moves: its formulas, outermost first, and their static facts. A plain object, because Keras' loader walks containers."""

    chain: tuple
    plans: tuple[dict, ...]
    lr: float = 1.0
    decay: float = 1.0

    @property
    def fused(self) -> bool:
        return all(formula.fused for formula in self.chain)

    @property
    def weight_first(self) -> bool:
        return any(formula.weight_first for formula in self.chain)

    @property
    def slots(self) -> dict[str, Slot]:
        merged: dict[str, Slot] = {}
        for formula, plan in zip(self.chain, self.plans):
            own = formula.slots(plan) if callable(formula.slots) else dict.fromkeys(formula.slots, Slot())
            if twice := merged.keys() & own.keys():
                chain = " > ".join(type(f).__name__ for f in self.chain)
                raise ValueError(
                    f"Formulas around one weight must not share a slot name: {sorted(twice)} stands twice. Received: {chain}. Use each modifier once."
                )
            merged |= own
        return merged

    def update(self, g, p, s, ks):
        """The outermost formula's d, s'. It sees the formula inside it as `k.inner`, bound to this weight."""
        formula, k = self.chain[0], ks[0]
        if len(self.chain) > 1:
            inner = Rule(self.chain[1:], self.plans[1:])

            def step(g, p, s):
                d, new = inner.update(g, p, {n: s[n] for n in inner.slots}, ks[1:])
                return d, s | new

            k.inner = step
        d, new = formula.update(g, p, s, k)
        return d, complete(formula, "update", new, s)


def complete(formula, hook: str, new: dict, given: dict) -> dict:
    if new.keys() != given.keys():
        raise ValueError(f"`{type(formula).__name__}.{hook}` must return every slot it was given: {sorted(given)}. Received: {sorted(new)}")
    return new


def resolve(formula, variable, variables) -> Rule:
    """Follows the plans: a formula may hand a weight to another one ("formula") and scale its rate and decay ("lr", "decay")."""
    plan = dict(formula.plan(variable, variables))
    lr, decay, other = plan.pop("lr", 1.0), plan.pop("decay", 1.0), plan.pop("formula", None)
    if other is not None:
        rule = resolve(other, variable, variables)
        return Rule(rule.chain, rule.plans, lr * rule.lr, decay * rule.decay)
    inner = getattr(formula, "inner", None)
    rule = resolve(inner, variable, variables) if inner is not None else Rule((), ())
    return Rule((formula, *rule.chain), (plan, *rule.plans), lr * rule.lr, decay * rule.decay)


def exclusion(excluded, variables):
    """Whether a weight is among those that `exclude_from_weight_decay` named, by path or by pattern."""
    (paths, patterns), known = excluded, {path(v) for v in variables}
    here = lambda saved, v: saved == path(v) or saved not in known and saved.endswith("/" + path(v))  # a loaded Sequential's paths lack the model's name
    return lambda v: any(here(saved, v) for saved in paths) or any(re.search(x, path(v)) for x in patterns)


class State:
    """Rules and variables of every weight by index, and the named scalars of every formula. Plain as well, for the same reason."""

    def __init__(self, optimizer, variables):
        def new(v, name, slot=Slot()):
            shape = tuple(v.shape if slot.shape is None else slot.shape)
            start = "zeros" if isinstance(slot.start, str) else keras.initializers.Constant(slot.start)
            layout = seams.layout(v) if shape == tuple(v.shape) else None
            return optimizer.add_variable(shape, start, slot.dtype, layout=layout, name=f"{path(v).replace('/', '_')}_{name}")

        excluded = exclusion(optimizer.excluded, variables)
        self.rules = [replace(resolve(optimizer, v, variables), **{"decay": 0.0} if excluded(v) else {}) for v in variables]
        # weights of one kind may move as one stack
        self.kinds = [
            i if v.constraint else (tuple(v.shape), v.dtype, r.chain, repr(r.plans), r.lr, r.decay) for i, (v, r) in enumerate(zip(variables, self.rules))
        ]
        self.formulas = list(dict.fromkeys(f for rule in self.rules for f in rule.chain))
        self.specs, self.slots, self.average, self.sums = [], [], {}, {}
        for i, (v, rule) in enumerate(zip(variables, self.rules)):
            self.specs.append({} if overwritten(v) else rule.slots)
            self.slots.append({n: new(v, n, slot) for n, slot in self.specs[i].items()})
            if optimizer.use_ema and not overwritten(v):
                self.average[i] = new(v, "average")
            if optimizer.gradient_accumulation_steps:
                self.sums[i] = new(v, "accumulator")
        self.scalars = [
            {n: optimizer.add_variable((), keras.initializers.Constant(x), "float32", name=n) for n, x in f.scalars().items()} for f in self.formulas
        ]

    def named(self) -> dict:
        named = {f"{i}.{n}": v for i, slots in enumerate(self.slots) for n, v in slots.items()}
        named |= {f"{i}.average": v for i, v in self.average.items()} | {f"{i}.accumulator": v for i, v in self.sums.items()}
        return named | {f"{type(f).__name__}{j}.{n}": v for j, (f, c) in enumerate(zip(self.formulas, self.scalars)) for n, v in c.items()}


def path(v) -> str:
    return getattr(v, "path", v.name)  # a raw tf.Variable has no path


def overwritten(v) -> bool:
    return getattr(v, "overwrite_with_gradient", False)


def named_variables(optimizer) -> dict:
    rate = seams.rate(optimizer)
    return {"iteration": seams.micro_steps(optimizer)} | ({} if callable(rate) else {"learning_rate": rate}) | optimizer.state.named()


def manifest(optimizer) -> dict[str, list]:
    """{name: [shape, dtype, layer/weight]}. Of a path only the last two parts without numbers: a loaded Sequential's paths lack the model's name."""
    tails = [re.sub(r"_\d+(?=/|$)", "", "/".join(path(v).split("/")[-2:])) for v in seams.all_variables(optimizer)]
    return {n: [list(v.shape), v.dtype, tails[int(n.split(".")[0])] if n[0].isdigit() else ""] for n, v in named_variables(optimizer).items()}


def save(optimizer, store) -> None:
    store["manifest"] = np.frombuffer(json.dumps(manifest(optimizer)).encode(), "uint8")
    for name, variable in named_variables(optimizer).items():
        store[name] = ops.convert_to_numpy(variable)


def load(optimizer, store) -> None:
    keys, name = set(store.keys()), type(optimizer).__name__
    if not keys:
        return
    if not optimizer.built:
        warnings.warn(f"Skipping variable loading for optimizer '{optimizer.name}', because it has not been built yet.", stacklevel=3)
        return
    saved = json.loads(np.asarray(store["manifest"]).tobytes()) if "manifest" in keys else dict.fromkeys(keys, "state of an optimizer outside keras_optlab")
    here = manifest(optimizer)
    if saved != here:
        changed = [n for n in sorted(saved.keys() | here.keys()) if saved.get(n) != here.get(n)]
        lines = [f"  {n}: saved {saved.get(n, 'nothing')}, here {here.get(n, 'nothing')}" for n in changed]
        raise ValueError(
            f"`{name}` cannot take the saved optimizer state: it differs in {len(lines)} places. Compile with the optimizer, settings and dtype policy it was "
            "saved with, or load the weights alone with `load_weights(..., skip_mismatch=True)` or before `compile`. Received:\n" + "\n".join(lines[:20])
        )
    for name, variable in named_variables(optimizer).items():
        variable.assign(np.asarray(store[name]))
